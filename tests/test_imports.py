"""How the modules of the package import each other: read from the source, imports inside functions counted."""
import ast
import itertools
from pathlib import Path

import torchreid_nas

# From the top to the bottom: what a line names imports only lines below. A module may stand apart from its package.
ORDER = [
    "cli.__main__ torchreid_main",
    "__main__",
    "cli",
    "study",
    "run",
    "evidence",
    "export doctor index",
    "torchreid_nas",
    "features weights",
    "zoo registry",
    "methods",
    "checkpoints camstyle",
    "engine",
    "search optim",
    "report",
    "models",
    "deploy hub losses data config",
    "layers metrics run.folder",
    "architecture",
    "bn_choices genotypes neck_names preemption",
    "architecture_format",
    "files device distributed host state_dicts slots",
    "log",
    "errors lazy process aten",
]
PACKAGE = Path(torchreid_nas.__file__).parent
NAME = PACKAGE.name


def modules():
    """Return every module of the package by its dotted name, ``__init__.py`` by the name of its folder."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = [NAME, *path.relative_to(PACKAGE).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name, text, known):
    """Return the modules of the package that the module ``name`` imports anywhere, TYPE_CHECKING blocks left out."""
    found, waiting = set(), [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            found.update(module_of(node.module, alias.name, known) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_exports":
            parts = [key.value for key in node.args[1].keys]
            found.update(part if "." in part else f"{name}.{part}" for part in parts)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "imported":
            found.add(ast.literal_eval(node.args[0]))
        waiting += ast.iter_child_nodes(node)
    return {module for module in found if module in known and module != name}


def module_of(package, name, known):
    """Return the module that ``from package import name`` reads: the sub-module where there is one."""
    return f"{package}.{name}" if f"{package}.{name}" in known else package


def circles(graph):
    """Return the groups of more than one module that reach each other (Tarjan's algorithm)."""
    order, low, path, groups, counter = {}, {}, [], [], itertools.count()

    def visit(node):
        order[node] = low[node] = next(counter)
        path.append(node)
        for other in sorted(graph[node]):
            if other not in order:
                visit(other)
            if other in path:
                low[node] = min(low[node], low[other])
        if low[node] == order[node]:
            group = path[path.index(node):]
            del path[path.index(node):]
            if len(group) > 1:
                groups.append(sorted(group))

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return groups


def import_graph():
    known = modules()
    return {name: imports(name, path.read_text(encoding="utf-8"), known) for name, path in known.items()}

def place(module):
    """Return the line of ORDER that names a module, or else its package."""
    own = module.partition(".")[2] or module
    for name in (own, own.partition(".")[0]):
        for line, names in enumerate(ORDER):
            if name in names.split():
                return line, name
    raise AssertionError(f"ORDER of tests/test_imports.py does not say where {module} stands")


def test_imports_in_functions_and_lazy_exports_are_counted():
    known = dict.fromkeys(["p.a", "p.b", "p.c", "p.d", "p.e", "p.f"])
    text = """
from typing import TYPE_CHECKING
import p.a
if TYPE_CHECKING:
    import p.b
else:
    from p import c
def late():
    from p.d import something
names = lazy_exports(__name__, {"e": ("x",)})
engine = imported("p.f", "Engine")
"""
    assert imports("p", text, known) == {"p.a", "p.c", "p.d", "p.e", "p.f"}


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "e"}, "e": set()}
    assert circles(graph) == [["b", "c"]]


def test_no_module_imports_itself_through_others():
    assert circles(import_graph()) == []


def test_imports_run_downwards():
    upwards = []
    for module, others in import_graph().items():
        for other in others:
            (above, name), (below, other_name) = place(module), place(other)
            if above >= below and name != other_name:
                upwards.append(f"{module} -> {other}")
    assert upwards == []
