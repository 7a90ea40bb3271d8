"""Screens of ``fanout top`` as golden files, its keys, and the text of --once."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest

from fanout.sharing.host_usage import HostUsage
from fanout.sharing.usage_order import SORTS, UsageFilter
from fanout.text.table import count_columns
from fanout.ui.key_parser import Key
from fanout.ui.usage_cells import CellStyle
from fanout.ui.usage_keys import UsageKeys, UsageMode, UsageViewState
from fanout.ui.usage_text import render_usage
from fanout.ui.usage_view import UsageView, build_usage_screen
from tests.sharing.usages import NOW, build_lab, build_large_lab
from tests.ui.goldens import Terminal, same_as_golden

SIZES = [(80, 24), (120, 40), (200, 50)]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def draw_screen(
    hosts: Sequence[HostUsage], state: UsageViewState, width: int, height: int, unicode: bool = True
) -> str:
    rows = build_usage_screen(hosts, state, CellStyle(unicode=unicode, now=NOW), width, height)
    lines = ["".join(text for text, _ in row).rstrip() for row in rows]
    assert all(count_columns(line) < width for line in lines), "a line wraps"
    assert len(lines) < height
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_lab_of_six_hosts_shows_processes_and_faults(width: int, height: int) -> None:
    same_as_golden(f"usage-lab-{width}x{height}", draw_screen(build_lab(), UsageViewState(), width, height))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_64_hosts_with_8_gpus_fit_on_one_screen(width: int, height: int) -> None:
    screen = draw_screen(build_large_lab(), UsageViewState(), width, height)
    same_as_golden(f"usage-grid-{width}x{height}", screen)
    assert all(f"{at:02d}.lab" in screen or f" {at:02d}" in screen for at in range(64))
    assert "more host" not in screen


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_one_host_in_detail(width: int, height: int) -> None:
    state = UsageViewState(chosen=UsageFilter(host="gpu03"))
    same_as_golden(f"usage-host-{width}x{height}", draw_screen(build_lab(), state, width, height))


def test_screen_without_unicode_is_ascii() -> None:
    assert draw_screen(build_lab(), UsageViewState(), 120, 40, unicode=False).replace("↑↓", "").isascii()


@pytest.mark.parametrize("width", [20, 40, 61])
@pytest.mark.parametrize("height", [5, 9, 15])
def test_small_terminals_lose_no_row_to_wrapping(width: int, height: int) -> None:
    for hosts in (build_lab(), build_large_lab(), []):
        for state in (UsageViewState(), UsageViewState(as_grid=True), UsageViewState(mode=UsageMode.HELP)):
            rows = build_usage_screen(hosts, state, CellStyle(now=NOW), width, height)
            assert len(rows) < height


def test_text_of_once_names_every_process_run_and_fault() -> None:
    same_as_golden("usage-once", "".join(f"{line}\n" for line in render_usage(build_lab(), NOW)))


# -- keys


def press_keys(keys: UsageKeys, *names: str) -> None:
    for name in names:
        keys.handle_key(Key(name))


@pytest.fixture
def keys() -> UsageKeys:
    return UsageKeys(UsageViewState(), build_lab)


def test_arrows_select_and_enter_shows_one_host(keys: UsageKeys) -> None:
    press_keys(keys, "down", "down", "enter")
    assert keys.state.chosen.host == "gpu02"
    press_keys(keys, "escape")
    assert (keys.state.chosen.host, keys.state.selected) == ("", "gpu02")
    press_keys(keys, "escape", "up")
    assert keys.state.selected == "gpu05"


def test_name_of_a_host_is_typed(keys: UsageKeys) -> None:
    press_keys(keys, "h", *"u3", "erase", *"03", "enter")
    assert keys.state.chosen.host == "gpu03"


def test_filters_are_typed_and_undone(keys: UsageKeys) -> None:
    press_keys(keys, "u", *"bob", "enter", "/", *"eval", "enter", "f", "s")
    assert keys.state.chosen == UsageFilter(users=("bob",), text="eval", only_free=True, sort=SORTS[1])
    press_keys(keys, "escape")
    assert keys.state.chosen.text == ""
    press_keys(keys, "escape")
    assert keys.state.chosen == UsageFilter(sort=SORTS[1])


def test_letters_that_are_typed_are_no_keys(keys: UsageKeys) -> None:
    press_keys(keys, "/", *"fqs", "escape")
    assert not keys.state.has_quit
    assert keys.state.chosen == UsageFilter()


def test_q_quits_and_any_key_closes_the_help(keys: UsageKeys) -> None:
    press_keys(keys, "?")
    assert keys.state.mode is UsageMode.HELP
    press_keys(keys, "q")
    assert not keys.state.has_quit
    press_keys(keys, "q")
    assert keys.state.has_quit


# -- the view in a terminal


class _Screen(io.StringIO):
    """Stream that a terminal in memory reads."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def write(self, text: str) -> int:
        self._terminal.feed_text(text)
        return len(text)


def test_frames_replace_each_other_and_the_last_one_stays() -> None:
    terminal, now = Terminal(120, 40), [NOW]
    hosts = build_lab()[:2]
    view = UsageView(
        lambda: hosts,
        UsageViewState(),
        stdout=_Screen(terminal),
        colour=True,
        unicode=True,
        keyboard=None,
        clock=lambda: now[0],
        size=lambda: (120, 40),
    )
    view.update()
    first = terminal.text
    assert "gpu01" in first
    hosts.pop()
    view.update()
    assert terminal.text == first, "no frame is due"
    now[0] += 2.0
    view.update()
    assert "gpu02" not in terminal.text
    assert terminal.text.count("gpu01") == 1
    view.close()
    assert "? help" not in terminal.text
    assert "gpu01" in terminal.text
