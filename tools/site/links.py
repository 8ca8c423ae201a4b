"""Pages are written for GitHub; this module turns their links into those of the site, and shows Python files that they name."""
from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Pages of the repository outside docs/, and where they stand in the site.
OUTSIDE = {
    "README.md": "readme.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md",
    "MODEL_ZOO.md": "model-zoo.md",
    "SECURITY.md": "security.md", "benchmarks/RESULTS.md": "benchmark-results.md",
}
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_FILE_LINE = re.compile(r"^\[[^]]+\]\(([^)\s]+\.py)\)$", re.MULTILINE)


def site_target(target: str, page: str) -> str:
    """Return the place in the site, from the top of the site, of a file or page of the repository; "" of a folder.

    Args:
        target: path from the top of the repository.
        page: the page that links there, for the error.

    Raises:
        ValueError: there is neither.
    """
    if (ROOT / target).is_dir():
        return ""
    if not (ROOT / target).is_file():
        raise ValueError(f"{page} links to {target}, which is no file of the repository; mend the link")
    if target in OUTSIDE:
        return OUTSIDE[target]
    if target.startswith("docs/"):
        inside = target.removeprefix("docs/")
        return f"{inside.removesuffix('.ipynb')}.md" if inside.endswith(".ipynb") else inside
    return f"repository/{target}"


def rewrite(text: str, source: str, place: str) -> tuple[str, set[str]]:
    """Return a page with the links of the site, and the files of the repository that the site must hold beside its pages.

    A folder, which GitHub shows and a site does not, is named without a link.

    Args:
        text: the page.
        source: its path from the top of the repository.
        place: its path from the top of the site.

    Raises:
        ValueError: a link leads nowhere.

    Example:
        >>> rewrite("[zoo](../MODEL_ZOO.md#x) [key](config-keys.md)", "docs/zoo.md", "zoo.md")[0]
        '[zoo](model-zoo.md#x) [key](config-keys.md)'
    """
    files: set[str] = set()

    def link(match: re.Match[str]) -> str:
        path, mark, anchor = match[2].partition("#")
        if not path or "://" in path:
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        found = site_target(target, source)
        if not found:
            return match[1]
        if found.startswith("repository/"):
            files.add(target)
        return f"[{match[1]}]({posixpath.relpath(found, posixpath.dirname(place) or '.')}{mark}{anchor})"

    parts, last = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(link, text[last:fence.start()]), fence[0]]
        last = fence.end()
    return "".join([*parts, _LINK.sub(link, text[last:])]), files


def with_files(text: str, source: str) -> str:
    """Return a page with a Python file under each line that is only a link to it.

    Example:
        >>> page = with_files("[main.py](../tools/main.py)", "docs/page.md")
        >>> page.splitlines()[:3]
        ['[main.py](../tools/main.py)', '', '```python title="tools/main.py"']
    """

    def shown(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        code = (ROOT / target).read_text(encoding="utf-8").rstrip()
        return f'{match[0]}\n\n```python title="{target}"\n{code}\n```'

    return _FILE_LINE.sub(shown, text)
