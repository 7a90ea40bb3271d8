"""HTML page of a run in a real browser: it is drawn, its filters filter, and log lines stay text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.cli.main import main
from fanout.model.events import StreamOpened
from tests import histories
from tests.browser.chrome import Chrome, find_browser
from tests.histories import History
from tests.record.test_run_writer import write_run
from tests.ui.test_page import EVIL, build_ranks

pytestmark = pytest.mark.browser


def build_failed_run() -> History:
    """Return a run of two hosts of two ranks each; one prints hostile text, then fails."""
    run = History("gpu01", "gpu02").connect_hosts().start_hosts()
    for node, host in enumerate(run.hosts):
        for local in (0, 1):
            run.add_events(StreamOpened(at=run.at, host=host, stream=local + 1, name=f"rank {2 * node + local}"))
    for step in range(1, 400):
        for node, host in enumerate(run.hosts):
            for local in (0, 1):
                loss = 4 - step / 150 + (2 * node + local) / 100
                run.add_output(host, f"step {step}/400 loss {loss:.4f}\n".encode(), stream=local + 1)
        run.pass_time(0.5)
    run.add_output("gpu02", f"WARNING: {EVIL}\n".encode(), stream=1).add_output(
        "gpu02", histories.TRACEBACK, stream=2
    ).pass_time(1)
    return (
        run.end_hosts("gpu02", code=3)
        .release_hosts("gpu02")
        .end_hosts("gpu01", code=None, signal=15)
        .release_hosts("gpu01")
        .pass_time(1)
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Chrome, str]]:
    """Open a browser; return it and the address of the page."""
    place = tmp_path_factory.mktemp("page")
    write_run(place / "runs/run", build_failed_run())
    assert main(["report", "--log-dir", str(place / "runs"), "--html", str(place / "page.html")]) == 0
    browser = Chrome(find_browser())
    yield browser, f"file://{place}/page.html"
    browser.close()


def read_rows(browser: Chrome, what: str = "li:not(.gap) .text") -> list[str]:
    """Return the texts of the shown lines."""
    found: list[str] = browser.evaluate_expression(
        f"[...document.querySelectorAll('#lines {what}')].map(e => e.textContent)"
    )
    return found


def choose_option(browser: Chrome, which: str, value: str) -> None:
    browser.evaluate_expression(
        f"{{const e = document.getElementById('by-{which}'); e.value = {value!r};"
        " e.dispatchEvent(new Event('input', {bubbles: true}));}"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_draws_without_requests_or_console_errors(page: tuple[Chrome, str], scheme: str) -> None:
    browser, url = page
    browser.emulate_screen(scheme=scheme)
    browser.load_page(url)
    assert browser.requests == [url]
    assert browser.complaints == []
    assert browser.evaluate_expression("document.getElementById('badge').textContent") == "EXIT 3"
    assert browser.evaluate_expression("document.querySelectorAll('#rows .row:not(.rank) svg').length") == 2
    assert browser.evaluate_expression("document.querySelectorAll('#rows .row.rank svg').length") == 4
    assert (
        browser.evaluate_expression("document.querySelectorAll('#charts path').length") == 5
    )  # 4 losses, one step of all
    assert browser.evaluate_expression("document.documentElement.scrollWidth <= innerWidth")
    assert "RuntimeError: shape mismatch" in browser.evaluate_expression(
        "document.getElementById('report').textContent"
    )


def test_many_ranks_are_a_few_curves_before_a_band_and_what_the_user_named_is_drawn(tmp_path: Path) -> None:
    """The band lies behind the curves and inside the frame; the charts are named and readable at a glance."""
    run = build_ranks(hosts=8, loss=lambda rank, step: 4 / step + rank)
    write_run(tmp_path / "runs/run", run, metric=r"step (?P<step>\d+)/\d+ loss (?P<loss>[\d.]+) right (?P<right>\d+)%")
    assert main(["report", "--log-dir", str(tmp_path / "runs"), "--html", str(tmp_path / "page.html")]) == 0
    browser = Chrome(find_browser())
    try:
        browser.load_page(f"file://{tmp_path}/page.html")
        assert browser.complaints == []
        names = "[...document.querySelectorAll('#charts figcaption strong')].map(e => e.textContent)"
        assert browser.evaluate_expression(names) == ["loss", "step", "right"]
        drawn = "[...document.querySelectorAll('#charts figure:first-child path')].map(e => e.className.baseVal)"
        assert browser.evaluate_expression(drawn) == ["band", "middle", *[""] * 8]
        assert "band: minimum to maximum of all 32" in browser.evaluate_expression(
            "document.getElementById('charts').textContent"
        )
        box, frame = (
            browser.evaluate_expression(f"(b => [b.y, b.y + b.height])(document.querySelector('{what}').getBBox())")
            for what in ("#charts path.band", "#charts svg")
        )
        assert 0 <= box[0] < box[1] <= 180
        assert frame[0] <= box[0] <= box[1] <= frame[1] + 1
        fill = "getComputedStyle(document.querySelector('#charts path.band')).fill"
        assert browser.evaluate_expression(fill) != "none"
    finally:
        browser.close()


def test_log_lines_stay_text(page: tuple[Chrome, str]) -> None:
    browser, url = page
    browser.load_page(url)
    assert any("</script><img src=x onerror=" in row for row in read_rows(browser))
    assert browser.evaluate_expression("document.title") == "fanout run 7f3a"
    assert browser.evaluate_expression("document.images.length") == 0
    assert browser.evaluate_expression("document.scripts.length") == 2


def test_the_pages_own_policy_would_stop_a_script_that_got_in(page: tuple[Chrome, str]) -> None:
    """A second wall: even markup in the page runs nothing and loads nothing."""
    browser, url = page
    browser.load_page(url)
    browser.evaluate_expression(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')"
    )
    browser.evaluate_expression(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'document.title=2'}))"
    )
    assert browser.evaluate_expression("document.title") == "fanout run 7f3a"


def test_filters_by_host_rank_level_and_text(page: tuple[Chrome, str]) -> None:
    browser, url = page
    browser.load_page(url)
    choose_option(browser, "level", "2")
    assert read_rows(browser)[:2] == [
        "Traceback (most recent call last):",
        "RuntimeError: shape mismatch: 4096 and 8192",
    ]
    choose_option(browser, "level", "0")
    choose_option(browser, "rank", "3")
    speakers = set(read_rows(browser, ".who"))
    assert speakers == {"gpu02:3"}
    choose_option(browser, "rank", "")
    choose_option(browser, "host", "0")
    assert all("gpu01" in who for who in read_rows(browser, ".who"))
    choose_option(browser, "text", "STEP 7/")
    assert read_rows(browser) == ["step 7/400 loss 3.9533", "step 7/400 loss 3.9633"]
    assert browser.evaluate_expression("document.getElementById('shown').textContent").startswith(
        "2 lines shown of 2 that match"
    )


def test_earlier_lines_come_by_a_button_and_a_hosts_ranks_by_another(page: tuple[Chrome, str]) -> None:
    browser, url = page
    browser.load_page(url)
    before = len(read_rows(browser))
    browser.evaluate_expression("document.getElementById('earlier').click()")
    assert len(read_rows(browser)) > before
    label = "document.querySelector('#rows button')"
    assert browser.evaluate_expression(f"{label}.getAttribute('aria-expanded')") == "true"
    browser.evaluate_expression(f"{label}.click()")
    assert browser.evaluate_expression(f"{label}.getAttribute('aria-expanded')") == "false"
    assert browser.evaluate_expression("document.querySelectorAll('#rows [hidden] .row.rank').length") == 2


def test_every_control_has_a_name_and_every_drawing_a_description(page: tuple[Chrome, str]) -> None:
    browser, url = page
    browser.load_page(url)
    assert browser.evaluate_expression("[...document.querySelectorAll('svg')].every(e => e.getAttribute('aria-label'))")
    assert browser.evaluate_expression(
        "[...document.querySelectorAll('select,input')].every(e => e.labels.length === 1)"
    )
    assert browser.evaluate_expression("[...document.querySelectorAll('button')].every(e => e.textContent.trim())")
