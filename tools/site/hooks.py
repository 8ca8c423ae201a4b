"""Hooks of mkdocs: pages from outside docs/, notebooks, links as GitHub has them, included Python files, equations."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
# mkdocs loads this file by its path.
sys.path.insert(0, str(ROOT))

from tools.site.equations import with_equations  # noqa: E402
from tools.site.links import OUTSIDE, rewrite, with_files  # noqa: E402
from tools.site.menu import unnamed  # noqa: E402
from tools.site.notebook_pages import notebook_page  # noqa: E402


def on_config(config: Any) -> Any:
    """Put pages that the menu does not name into a last section of it."""
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in sorted((ROOT / "docs").rglob("*.md"))]
    missing = unnamed(config.nav, pages)
    if missing:
        config.nav.append({"More": missing})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add pages from outside docs/, a page per notebook, and every file of the repository that a page links to."""
    for source, place in OUTSIDE.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    for notebook in sorted((ROOT / "docs").rglob("*.ipynb")):
        place = notebook.relative_to(ROOT / "docs").with_suffix(".md").as_posix()
        files.append(File.generated(config, place, content=notebook_page(notebook)))
    linked = set()
    for file in files.documentation_pages():
        linked |= rewrite(file.content_string, _source(file.src_uri), file.src_uri)[1]
    for target in sorted(linked):
        files.append(File.generated(config, f"repository/{target}", content=(ROOT / target).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Return the page as the site shows it."""
    source = _source(page.file.src_uri)
    return with_equations(rewrite(with_files(markdown, source), source, page.file.src_uri)[0])


def _source(place: str) -> str:
    outside = {place: source for source, place in OUTSIDE.items()}
    return outside.get(place, f"docs/{place}")
