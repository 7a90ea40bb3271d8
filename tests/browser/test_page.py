"""HTML page of a run in a real browser: it is drawn, its filters filter, and log lines stay text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.cli.main import main
from fanout.model.events import StreamOpened
from tests import histories
from tests.browser.chrome import Chrome, find_browser
from tests.browser.large_run import build_large_run
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


@pytest.fixture(scope="module")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Chrome, str]]:
    """Open a browser; return it and the address of the page of 64 hosts with 8 ranks each."""
    place = tmp_path_factory.mktemp("large")
    write_run(place / "runs/run", build_large_run(steps=3))
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
    assert browser.evaluate_expression("document.getElementById('badge').textContent") == "FAILED"
    verdict = "rank 3 on gpu02 ended with RuntimeError: shape mismatch: 4096 and 8192"
    assert browser.evaluate_expression("document.querySelector('h1').textContent") == verdict.capitalize().replace(
        "runtimeerror", "RuntimeError"
    )
    assert browser.evaluate_expression("document.querySelectorAll('#rows .row:not(.rank) svg').length") == 2
    assert browser.evaluate_expression("document.querySelectorAll('#rows .row.rank svg').length") == 4
    assert browser.evaluate_expression("document.querySelectorAll('#charts .line').length") == 5  # 4 losses, 1 step
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
        assert browser.evaluate_expression(drawn) == ["grid", "band", "middle", *["line"] * 5]
        keys = "document.querySelector('#charts .keys li').textContent"
        assert browser.evaluate_expression(keys) == "all 32 median 15.63, 0.1333 to 31.13"
        top, bottom = browser.evaluate_expression(
            "(b => [b.y, b.y + b.height])(document.querySelector('#charts path.band').getBBox())"
        )
        assert 0 <= top < bottom <= 100
        fill = "getComputedStyle(document.querySelector('#charts path.band')).fill"
        assert browser.evaluate_expression(fill) != "none"
    finally:
        browser.close()


def test_the_first_cause_is_marked_on_the_timeline_and_in_the_curves(page: tuple[Chrome, str]) -> None:
    """A line through all hosts, a red mark on the rank that died first, and none on other ranks."""
    browser, url = page
    browser.load_page(url)
    assert browser.evaluate_expression("document.querySelector('.flag').textContent") == "first cause 0:03:20"
    marked = "[...document.querySelectorAll('#rows .row.bad .name')].map(e => e.textContent)"
    assert browser.evaluate_expression(marked) == [
        "▾ ✕ gpu01 (node 0)",
        "▾ ✕ gpu02 · first cause",
        "✕ rank 3 · first cause",
    ]
    color = "getComputedStyle(document.querySelector('.row.rank .first')).backgroundColor"
    assert browser.evaluate_expression(color) in ("rgb(196, 18, 26)", "rgb(255, 123, 114)")
    places = "['.marks .cause', '.row.rank .first', '#charts .cause'].map(e => document.querySelector(e).style.left)"
    assert len(set(browser.evaluate_expression(places))) == 1


def test_a_chart_has_axes_and_reads_values_under_the_pointer_and_by_keys(page: tuple[Chrome, str]) -> None:
    """The summary goes from the first value to the last, so a falling loss reads as falling."""
    browser, url = page
    browser.emulate_screen()
    browser.load_page(url)
    chart = "document.querySelector('#charts figure')"
    read_summary, read_values = (
        f"{chart}.querySelector('.course').textContent",
        f"{chart}.querySelector('.keys').textContent",
    )
    assert browser.evaluate_expression(read_summary) == "gpu01:0 from 3.993 to 1.34"
    ticks = f"[...{chart}.querySelectorAll('.values span')].map(e => e.textContent)"
    assert browser.evaluate_expression(ticks) == ["1", "2", "3", "4", "5"]
    times = f"[...{chart}.querySelectorAll('.axis span')].map(e => e.textContent)"
    assert browser.evaluate_expression(times) == ["0", "1 min", "2 min", "3 min"]
    x, y = browser.evaluate_expression(
        f"(b => [b.x + b.width / 2, b.y + 20])(({chart}.scrollIntoView(), {chart}.querySelector('.area').getBoundingClientRect()))"
    )
    browser.call_method("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert browser.evaluate_expression(read_summary) == "at 0:01:40"
    assert "gpu01:0 2.66" in browser.evaluate_expression(read_values)
    assert (
        browser.evaluate_expression("document.querySelectorAll('figure')[1].querySelector('.course').textContent")
        == "at 0:01:40"
    )
    browser.evaluate_expression(f"{chart}.querySelector('.area').focus()")
    for key in ("Home", "ArrowRight"):
        browser.call_method("Input.dispatchKeyEvent", type="keyDown", key=key)
    assert "gpu01:0 3.987" in browser.evaluate_expression(read_values)
    spoken = browser.evaluate_expression(f"{chart}.querySelector('.area').getAttribute('aria-valuetext')")
    assert spoken.startswith("at 0:00:01: gpu01:0 3.987, gpu01:1 3.997")
    browser.call_method("Input.dispatchKeyEvent", type="keyDown", key="Escape")
    assert browser.evaluate_expression(read_summary) == "gpu01:0 from 3.993 to 1.34"


#: The least contrast of all texts, as WCAG computes it from the colors of a text and of the ground behind it.
CONTRAST = r"""(() => {
  const parse = (color) => color.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255).map((part) => (
    part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)).reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (element) => {
    const color = element ? parse(getComputedStyle(element).backgroundColor) : [255, 255, 255, 1];
    return color.length === 4 && color[3] === 0 ? ground(element.parentElement) : color;
  };
  const texts = [...document.body.querySelectorAll('*')].filter((element) => (
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) && element.getClientRects().length && !element.closest('script, option')));
  return Math.min(...texts.map((element) => {
    const [low, high] = [light(parse(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }));
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_of_64_hosts_is_readable_on_any_screen(large_page: tuple[Chrome, str], scheme: str) -> None:
    """No screen scrolls sideways, every text has enough contrast, and no label is long."""
    browser, url = large_page
    for width in (1280, 420):
        browser.emulate_screen(scheme=scheme, width=width)
        browser.load_page(url)
        assert browser.complaints == []
        assert browser.evaluate_expression("document.documentElement.scrollWidth <= innerWidth")
        assert browser.evaluate_expression(CONTRAST) >= 4.5
    assert browser.evaluate_expression("document.querySelectorAll('#rows .row:not(.rank) .lane').length") == 64
    assert browser.evaluate_expression("document.querySelector('.row.rank.bad .name').textContent").startswith(
        "✕ rank 330"
    )
    longest = "Math.max(...[...document.querySelectorAll('.keys li')].map(e => e.textContent.length))"
    assert browser.evaluate_expression(longest) < 60


def test_log_lines_stay_text(page: tuple[Chrome, str]) -> None:
    browser, url = page
    browser.load_page(url)
    assert any("</script><img src=x onerror=" in row for row in read_rows(browser))
    assert browser.evaluate_expression("document.title") == "FAILED: fanout run 7f3a"
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
    assert browser.evaluate_expression("document.title") == "FAILED: fanout run 7f3a"


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
    assert browser.evaluate_expression(
        "[...document.querySelectorAll('svg, [tabindex]:not(pre)')].every(e => e.getAttribute('aria-label'))"
    )
    assert browser.evaluate_expression(
        "[...document.querySelectorAll('select,input')].every(e => e.labels.length === 1)"
    )
    assert browser.evaluate_expression("[...document.querySelectorAll('button')].every(e => e.textContent.trim())")
