"""Page of an active run in a real browser: it loads itself again, and what the user sees and has chosen stays."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fanout.cli.main import main
from tests.browser.chrome import Chrome, find_browser
from tests.browser.test_page import build_failed_run, choose_option, read_rows
from tests.record.test_run_writer import write_run

pytestmark = pytest.mark.browser

DATA = re.compile(r'(?<=<script type="application/json" id="data">).*?(?=</script>)', re.DOTALL)


class LivePage:
    """Page whose ``live`` part a test chooses, as ``--follow`` writes it."""

    def __init__(self, place: Path) -> None:
        write_run(place / "runs/run", build_failed_run())
        self.path = place / "page.html"
        self.url = f"file://{self.path}"
        assert main(["report", "--log-dir", str(place / "runs"), "--html", str(self.path)]) == 0
        self._text = self.path.read_text(encoding="utf-8")

    def write_live(self, live: dict[str, Any] | None) -> None:
        """Write the page; the newest attempt counts the writes as its name."""
        found = DATA.search(self._text)
        assert found is not None
        data = json.loads(found[0]) | {"live": live}
        data["attempts"][0]["name"] = "last" if live is None else "active"
        text = json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
        temporary = self.path.with_suffix(".new")
        temporary.write_text(self._text[: found.start()] + text + self._text[found.end() :], encoding="utf-8")
        temporary.replace(self.path)


#: An hour passes in the page, so it is due to load itself again.
LATER = "{const now = Date.now(); Date.now = () => now + 3600e3;}"


@pytest.fixture
def browser() -> Iterator[Chrome]:
    opened = Chrome(find_browser())
    yield opened
    opened.close()


@pytest.fixture
def page(tmp_path: Path) -> LivePage:
    return LivePage(tmp_path)


def test_the_page_of_an_active_run_loads_itself_again_and_keeps_its_view(browser: Chrome, page: LivePage) -> None:
    """Scroll position, filters, focus and opened hosts stay. The page of an ended run loads itself no more."""
    page.write_live({"written": time.time(), "every": 3600})
    browser.load_page(page.url)
    assert browser.evaluate_expression("document.getElementById('updates').textContent").startswith("updated")
    browser.evaluate_expression("document.querySelector('#rows button').click()")
    choose_option(browser, "host", "1")
    browser.evaluate_expression("document.getElementById('by-text').focus()")
    browser.evaluate_expression("document.execCommand('insertText', false, 'step 39')")
    browser.evaluate_expression("scrollTo(0, 700)")
    seen = read_rows(browser)
    page.write_live(None)
    browser.evaluate_expression(LATER)
    browser.wait_for_load()
    browser.evaluate_expression(LATER)
    browser.wait_for_load(expected=False)
    assert browser.evaluate_expression("document.getElementById('run').textContent").startswith("last")
    assert browser.evaluate_expression("[scrollY, document.activeElement.id]") == [700, "by-text"]
    assert read_rows(browser) == seen
    assert all("step 39" in row for row in seen)
    assert (
        browser.evaluate_expression("document.querySelector('#rows button').getAttribute('aria-expanded')") == "false"
    )
    assert browser.evaluate_expression("document.getElementById('updates').hidden")
    assert browser.complaints == []


def test_the_user_can_pause_the_updates(browser: Chrome, page: LivePage) -> None:
    page.write_live({"written": time.time(), "every": 3600})
    browser.load_page(page.url)
    browser.evaluate_expression("document.getElementById('pause').click()")
    assert browser.evaluate_expression("document.getElementById('pause').textContent") == "Resume updates"
    browser.evaluate_expression(LATER)
    browser.wait_for_load(expected=False)
    browser.evaluate_expression("setTimeout(() => document.getElementById('pause').click(), 50)")
    browser.wait_for_load()


@pytest.mark.parametrize(("age", "every", "words"), [(0, 0, "not updated since"), (600, 5, "updated 10 min ago: is")])
def test_a_page_that_nothing_updates_says_so(
    browser: Chrome, page: LivePage, age: float, every: float, words: str
) -> None:
    page.write_live({"written": time.time() - age, "every": every})
    browser.load_page(page.url)
    assert browser.evaluate_expression("document.getElementById('age').textContent").startswith(words)
