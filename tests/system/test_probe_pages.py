# SPDX-License-Identifier: MIT
"""The prober's pages and images in a real browser: nothing sticks out, nothing lies over anything else, nothing runs, on
a desk and on a phone. The reports are those of probes made up in tests/unit/probe/samples.h."""
import pathlib
import subprocess

import pytest

from browser import Browser
from process import ROOT, THAW

# Text may touch the line above it, not cover it.
MISPLACED = """(() => {
    const svg = document.querySelector('svg'), frame = svg.getBoundingClientRect(), wrong = []
    const outside = b => b.left < frame.left - 1 || b.right > frame.right + 1 || b.top < frame.top - 1 ||
        b.bottom > frame.bottom + 1
    const over = (a, b) => a.width && b.width && a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 &&
        b.top < a.bottom - 2
    for (const e of svg.querySelectorAll('text, rect, path, line'))
        if (outside(e.getBoundingClientRect())) wrong.push('outside: ' + e.outerHTML)
    const texts = [...svg.querySelectorAll('text')].map(e => [e.textContent, e.getBoundingClientRect()])
    texts.forEach(([a, boxA], i) => texts.slice(i + 1).forEach(([b, boxB]) => {
        if (over(boxA, boxB)) wrong.push(a + ' lies over ' + b)
    }))
    return texts.length > 3 ? wrong : ['there is no picture']
})()"""


@pytest.fixture(scope="module")
def browser():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    builds = [pathlib.Path(THAW).parent, pathlib.Path(ROOT) / "build" / "asan"]
    programs = [build / "tests" / "unit" / "unit-probe-samples" for build in builds]
    program = next((p for p in programs if p.exists()), None)
    assert program, f"build the unit tests: none of {programs} is there"
    subprocess.run([program, folder], check=True)
    return folder


def kinds(folder, ending):
    found = sorted(folder.glob("*." + ending))
    assert len(found) > 15
    return found


@pytest.mark.parametrize("width", [1100, 420])
def test_pages(browser, pages, width):
    tab = browser.user()
    for path in kinds(pages, "html"):
        page = tab(path.as_uri(), width=width, height=900, dark=width < 600)
        assert page.js("document.documentElement.scrollWidth <= innerWidth"), path.name
        assert page.js(MISPLACED) == [], path.name
        assert page.js("document.scripts.length + performance.getEntriesByType('resource').length") == 0, path.name
        assert page.problems == []
        page.close()
    tab.leave()


def test_images(browser, pages):
    tab = browser.user()
    for path in kinds(pages, "svg"):
        page = tab(path.as_uri(), width=1100, height=900)
        assert page.js(MISPLACED) == [], path.name
        page.close()
    tab.leave()


def test_an_image_that_is_wrong_is_found(browser, pages):
    """MISPLACED itself."""
    tab = browser.user()
    page = tab((pages / "pool.svg").as_uri(), width=1100, height=900)
    page.js("document.querySelectorAll('text')[3].setAttribute('x', 990)")
    page.js("document.querySelectorAll('text')[5].setAttribute('y', document.querySelectorAll('text')[6].getAttribute('y'))")
    page.js("document.querySelectorAll('text')[5].setAttribute('x', document.querySelectorAll('text')[6].getAttribute('x'))")
    assert len(page.js(MISPLACED)) >= 2
    tab.leave()
