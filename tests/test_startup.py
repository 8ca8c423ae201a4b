"""What a process imports: the command line no torch before there is work, a user's script all that registers."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HELP = [
    ["--help"], [], ["zoo", "--help"], ["zoo", "download", "--help"], ["features", "--help"], ["match", "--help"],
    ["export", "--help"], ["camstyle", "--help"], ["synthetic", "--help"],
]
REFUSED = [["--config", "nowhere.yaml"], ["train.lrr", "0.1"], ["train.lr", "-1"], ["--stages", "tset"], ["train.lr"]]


def python(code: str, *argv: str) -> str:
    """Run code in a fresh interpreter that finds the package as an installed one would, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_and_bad_arguments_import_no_torch():
    code = f"""
import contextlib, io, sys
import torchreid_nas_command

for argv in {[*HELP, *REFUSED]!r}:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = torchreid_nas_command.main(argv)
        except SystemExit as stop:
            code = stop.code
    print(code, bool(out.getvalue()), err.getvalue().startswith("error: "), "torch" in sys.modules, "torchreid" in sys.modules)
"""
    lines = python(code).splitlines()
    assert lines == ["0 True False False False"] * len(HELP) + ["2 False True False False"] * len(REFUSED)


@pytest.mark.parametrize("script", ["main.py", "zoo.py", "train_camstyle.py"])
def test_the_scripts_of_tools_import_no_torch_for_help(script):
    code = """
import contextlib, io, runpy, sys

script = sys.argv[1]
sys.argv = [script, "--help"]
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
    runpy.run_path(script, run_name="__main__")
print("usage: torchreid-nas" in out.getvalue(), "torch" in sys.modules)
"""
    assert python(code, str(ROOT / "tools" / script)) == "True False\n"


@pytest.mark.parametrize("imports", [
    "import torchreid_nas, torchreid", "import torchreid, torchreid_nas", "import torchreid_nas.config",
])
def test_any_import_of_the_package_registers(imports):
    code = f"""
import warnings
warnings.simplefilter("ignore")
{imports}
import torchreid
model = torchreid.models.build_model("cdnet_x0_25", 3, pretrained=False)
print(type(model).__name__, torchreid.losses.C3MMDLoss.__name__, "cdnet" in vars(torchreid.models)["__model_factory"])
"""
    assert python(code) == "CDNet C3MMDLoss True\n"


def test_an_import_of_the_package_is_enough_for_the_calls_of_the_readme():
    code = """
import torchreid_nas
print(torchreid_nas.checkpoints.load_weights.__name__, torchreid_nas.zoo.build.__name__,
      torchreid_nas.features.register_trained.__name__, torchreid_nas.metrics.use_fast_ranking.__name__)
"""
    assert python(code) == "load_weights build register_trained use_fast_ranking\n"


def test_the_old_name_of_checkpoints_works_and_warns():
    code = """
import warnings
import torchreid_nas
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from torchreid_nas.weights import load_weights
    import torchreid_nas.weights
assert torchreid_nas.weights.load_authors_checkpoint is torchreid_nas.checkpoints.load_authors_checkpoint
print(load_weights is torchreid_nas.checkpoints.load_weights, {w.category.__name__ for w in caught})
"""
    assert python(code) == "True {'DeprecationWarning'}\n"


def test_the_command_registers_before_it_works():
    code = """
import sys
import torchreid_nas_command
import torchreid_nas

before = "torchreid" in sys.modules
torchreid_nas_command.main(["zoo", "list"])
import torchreid
print(before, "cdnet" in vars(torchreid.models)["__model_factory"])
"""
    assert python(code).splitlines()[-1] == "False True"


def test_names_of_lazy_packages_are_what_all_says():
    from torchreid_nas import data, export, features, zoo

    for package in (data, export, features, zoo):
        assert package.__all__ == sorted(package.__all__) and set(package.__all__) <= set(dir(package))
        assert all(not isinstance(getattr(package, name), type(sys)) for name in package.__all__)
        with pytest.raises(AttributeError, match="no attribute"):
            package.nothing
