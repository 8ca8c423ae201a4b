"""The page of a run in a browser: nothing overflows, everything can be read and reached, nothing is asked from elsewhere."""
from __future__ import annotations

import pytest
from browser import CHROMIUM, CONTRASTS, OVERFLOWS, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

FOCUS = "(e => e && (e.getAttribute('aria-label') || e.textContent).slice(0, 60))(document.activeElement)"


@pytest.fixture(scope="module")
def path(finished_page):
    return finished_page


@pytest.fixture(scope="module")
def browser():
    with Browser() as found:
        yield found


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_overflows_and_all_text_has_contrast(browser, path, width, dark):
    browser.open(path, width, dark)
    assert browser.run("document.title").startswith("two_stream_resnet18")
    # Closed parts have no size.
    browser.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert browser.run("innerWidth") == width and browser.run(OVERFLOWS) == []
    assert browser.run(CONTRASTS)[0][0] >= 4.5, browser.run(CONTRASTS)
    dark_ground = browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
    assert dark_ground == dark
    assert browser.complaints() == []


def test_the_keyboard_reaches_every_figure(browser, path):
    browser.open(path, 1400)
    labels = browser.run("[...document.querySelectorAll('figure')].map(e => e.getAttribute('aria-label').slice(0, 60))")
    reached = []
    for _ in range(200):
        browser.press("Tab", 9)
        found = browser.run(FOCUS)
        if reached and found == reached[0] or browser.run("document.activeElement === document.body"):
            break
        reached.append(found)
    assert len(labels) > 15 and set(labels) <= set(reached)
    assert browser.run("getComputedStyle(document.querySelector('figure')).outlineStyle") == "none"
    browser.run("document.querySelector('figure').focus()")
    browser.press("Shift", 16)
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_no_two_elements_of_the_page_share_an_id_that_is_linked(browser, path):
    browser.open(path, 1400)
    links = browser.run("[...document.querySelectorAll('nav a')].map(e => e.getAttribute('href').slice(1))")
    assert links and all(browser.run(f"document.querySelectorAll('[id=\"{name}\"]').length") == 1 for name in links)
