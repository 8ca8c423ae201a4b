"""The documentation site: every page is in its menu, links lead into it, generated pages are fresh, examples run."""
from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest
import yaml
from tools.site.commands import PAGE, commands_page
from tools.site.equations import docstring_page, equation_svg, with_equations
from tools.site.links import OUTSIDE, ROOT, rewrite, with_files
from tools.site.menu import named

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def place(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml without making what its tags name."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def test_the_menu_names_pages_and_notebooks_that_exist_each_once():
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    notebooks = [path.relative_to(DOCS).with_suffix(".md").as_posix() for path in DOCS.rglob("*.ipynb")]
    pages = named(config["nav"])
    assert len(pages) == len(set(pages)) and set(pages) <= {*map(place, PAGES), *OUTSIDE.values(), *notebooks}
    # A page of docs/ that the menu does not name gets a place by a hook; the others must be named.
    assert {*OUTSIDE.values(), *notebooks} <= set(pages)


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_every_link_of_a_page_has_a_place_in_the_site(page):
    _, files = rewrite(page.read_text(encoding="utf-8"), f"docs/{place(page)}", place(page))
    assert all((ROOT / file).is_file() for file in files)


def test_the_page_of_the_commands_holds_what_the_parsers_say():
    assert PAGE.read_text(encoding="utf-8") == commands_page(), "write the page again with: python -m tools.site.commands"


@pytest.mark.parametrize("module", ["commands", "equations", "links", "menu", "notebook_pages"])
def test_the_examples_of_a_module_of_the_site_print_what_they_say(module):
    assert doctest.testmod(importlib.import_module(f"tools.site.{module}")).failed == 0


def test_a_link_leads_to_a_page_a_copied_file_or_is_named_only():
    text = "[a](../MODEL_ZOO.md#top) ![b](match.png) [c](../benchmarks/run_all.py) [d](../configs) [e](https://x.org) [f](#h)\n"
    code = "```\n[g](nowhere.md)\n```\n"
    changed, files = rewrite(text + code, "docs/zoo.md", "zoo.md")
    assert changed == (
        "[a](model-zoo.md#top) ![b](match.png) [c](repository/benchmarks/run_all.py) d [e](https://x.org) [f](#h)\n" + code
    )
    assert files == {"benchmarks/run_all.py"}
    assert rewrite("[a](../zoo.md)", "docs/extending/loss.md", "extending/loss.md")[0] == "[a](../zoo.md)"
    assert rewrite("[a](docs/zoo.md)", "README.md", "readme.md")[0] == "[a](zoo.md)"


def test_a_link_that_leads_nowhere_is_refused_by_its_page():
    with pytest.raises(ValueError, match=r"docs/zoo.md links to docs/nowhere.md, which is no file"):
        rewrite("[a](nowhere.md)", "docs/zoo.md", "zoo.md")


def test_a_line_that_is_a_link_to_a_python_file_shows_the_file_as_it_stands():
    page = with_files("Before [it](../../tools/main.py).\n\n[it](../../tools/main.py)\n\nafter\n", "docs/extending/page.md")
    assert page.count("```python") == 1 and (ROOT / "tools" / "main.py").read_text(encoding="utf-8").rstrip() in page


def test_an_equation_is_a_picture_with_its_text_in_the_colour_of_the_page():
    svg = equation_svg(r"a \ge b < \lVert c \rVert")
    assert 'aria-label="a \\ge b &lt; \\lVert c \\rVert"' in svg and 'fill="currentColor"' in svg
    assert "http" not in svg
    widths = [float(re.search(r'width="(\d+)"', equation_svg(tex))[1]) for tex in ("x", "x + x")]
    assert widths[0] < widths[1]


@pytest.mark.parametrize("page", [page for page in PAGES if "\n$$\n" in page.read_text(encoding="utf-8")], ids=place)
def test_every_equation_of_a_page_can_be_drawn(page):
    text = page.read_text(encoding="utf-8")
    drawn = with_equations(text)
    assert "$$" not in drawn and drawn.count("<svg") >= text.count("\n$$\n") / 2


def test_directives_of_a_docstring_become_what_a_page_has():
    page = docstring_page("Of :class:`~a.b.Name`:\n\n.. math:: x &= y \\\\ z &= 1\n\n    >>> 1 + 1\n    2\n\n``code``")
    assert page.startswith('Of `Name`:\n\n<div class="math"><svg') and page.count("<svg") == 2
    assert page.endswith("    ```pycon\n    >>> 1 + 1\n    2\n    ```\n\n`code`")


def test_the_site_asks_no_other_server_for_a_font_or_a_script():
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    assert config["theme"]["font"] is False
    assets = [*config["extra"]["polyfills"], *config["extra_css"]]
    assert all((DOCS / asset).is_file() for asset in assets)
    # The plugin `offline` adds a script of another server unless it finds this name.
    assert any("iframe-worker" in asset for asset in assets)
