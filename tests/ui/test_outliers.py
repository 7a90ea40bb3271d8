"""Hosts beside their fleet: who differs, who is worst, and the grid that shows it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest

from fanout.model.events import Disconnected, Heartbeat
from fanout.ui.host_load import HostLoad, parse_load
from fanout.ui.live_view import LiveView
from fanout.ui.outliers import OutlierKind, find_outliers
from tests.histories import History, second_host_fails
from tests.ui.goldens import Terminal, build_heading, same_as_golden


def build_report(util: float = 97, temp: float = 65, gpus: int = 8) -> dict[str, Any]:
    gpu = {"util": util, "used": 68 << 30, "total": 80 << 30, "temp": temp, "watts": 650.0}
    return {"cpu": 12.0, "memory": [64 << 30, 512 << 30], "gpus": [gpu] * gpus}


def build_load(util: float = 97, temp: float = 65) -> HostLoad:
    load = parse_load(build_report(util, temp))
    assert load is not None
    return load


def test_the_worst_come_first() -> None:
    """Outlier hosts: disconnected, dead, silent, slow or hot; a host that keeps up is not named."""
    hosts = tuple(f"h{n}" for n in range(9))
    run = History(*hosts).connect_hosts().start_hosts()
    for host in hosts:
        run.add_output(host, b"x\n")
    run.pass_time(60.0)
    for host in hosts:
        if host != "h3":
            run.add_output(host, b"y\n")
    run.end_hosts("h4", code=1).add_events(Disconnected(at=run.at, host="h5", why="gone")).pass_time(1.0)
    loads = {host: build_load() for host in hosts} | {"h2": build_load(util=30), "h1": build_load(temp=91)}
    odd = find_outliers(run.play_events(), loads)
    assert [(each.host, each.what) for each in odd] == [
        ("h5", OutlierKind.LINK_LOST),
        ("h4", OutlierKind.DEAD),
        ("h3", OutlierKind.SILENT),
        ("h2", OutlierKind.SLOW),
        ("h1", OutlierKind.HOT),
    ]
    assert [each.words for each in odd[2:]] == [
        "silent 61 s, median now",
        "load 30%, median 97%",
        "91 degrees, median 65",
    ]


def test_hosts_without_output_are_not_silent_if_most_have_none() -> None:
    """Under torchrun rank 0 prints and the others do not: that is no news."""
    run = History("a", "b", "c", "d").connect_hosts().start_hosts()
    for host in run.hosts:
        run.add_output(host, b"x\n")
    run.pass_time(600.0).add_output("a", b"y\n").pass_time(1.0)
    assert find_outliers(run.play_events(), {}) == []


def test_a_host_that_prints_less_often_is_not_silent() -> None:
    run = History("a", "b", "c", "d").connect_hosts().start_hosts()
    for second in range(1, 200):
        run.pass_time(1.0)
        for host in run.hosts:
            if host != "c" or second % 60 == 0:
                run.add_output(host, b"x\n")
    assert find_outliers(run.play_events(), {}) == []
    for _ in range(200):
        run.pass_time(1.0)
        for host in ("a", "b", "d"):
            run.add_output(host, b"x\n")
    assert [(each.host, each.what) for each in find_outliers(run.play_events(), {})] == [("c", OutlierKind.SILENT)]


def test_a_host_with_an_idle_gpu_is_slow() -> None:
    run = History("a", "b", "c").connect_hosts().start_hosts().pass_time(1.0)
    idle = parse_load({"gpus": [{"util": 99}, {"util": 1}]})
    assert idle is not None
    odd = find_outliers(run.play_events(), {"c": idle})
    assert [(each.host, each.words) for each in odd] == [("c", "GPU 1 idle")]


@pytest.mark.parametrize(
    "junk",
    [
        {"gpus": 5, "cpu": "x", "memory": [1]},
        {"gpus": [5, {"util": "99"}], "memory": [1, 0]},
        {"gpus": [{"util": float("nan"), "temp": True}]},
        {"gpu_error": 7, "memory": {"a": 1}},
    ],
)
def test_malformed_load_values_are_ignored(junk: dict[str, Any]) -> None:
    load = parse_load(junk)
    assert load is not None
    assert (load.cpu, load.memory, load.temp) == (None, None, None)
    assert parse_load({}) is None


def show_run(
    run: History, columns: int, rows: int = 36, *, unicode: bool = True, slow: Mapping[str, str] | None = None
) -> str:
    out = io.StringIO()
    live = LiveView(
        build_heading(run.hosts),
        stdout=out,
        size=lambda: (columns, rows),
        clock=lambda: 0.0,
        unicode=unicode,
        slow=lambda: slow or {},
    )
    run.play_events(live)
    live.draw_frame(force=True)
    terminal = Terminal(columns, rows)
    terminal.feed_text(out.getvalue())
    at = next(at for at, line in enumerate(terminal.seen) if "  00:00:" in line)
    return "\n".join(terminal.seen[at:]) + "\n"


def fleet_of(count: int) -> History:
    hosts = tuple(f"gpu{number:02d}" for number in range(1, count + 1))
    run = History(*hosts).connect_hosts().start_hosts()
    for at, host in enumerate(hosts):
        step = 1194 if at == 2 else 1200
        run.add_output(
            host, f"step {step - 100}/10000 loss 2.4 tok/s 38200\nstep {step}/10000 loss 2.33 tok/s 38200\n".encode()
        )
        run.add_events(
            Heartbeat(at=run.at, host=host, load=build_report(util=41 if at == 2 else 97, temp=93 if at == 3 else 65))
        )
    run.add_output("gpu02", b"UserWarning: x\nValueError: y\n")
    return run.pass_time(1.0)


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_a_few_hosts_have_a_row_with_their_load_each(columns: int) -> None:
    same_as_golden(f"live-load-{columns}", show_run(fleet_of(4), columns))


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_many_hosts_are_a_grid_of_loads_and_rows_for_those_that_differ(columns: int) -> None:
    run = (
        fleet_of(64)
        .add_events(Disconnected(at=History().at + 2, host="gpu52", why="no heartbeat for 15 s"))
        .pass_time(21.0)
    )
    same_as_golden(f"live-fleet-{columns}", show_run(run, columns))


@pytest.mark.parametrize(("columns", "rows"), [(60, 20), (80, 24), (100, 10), (100, 8), (40, 30)])
def test_hosts_without_room_for_names_are_cells(columns: int, rows: int) -> None:
    """In tens, in the order of the hostfile; the one that differs has its name in a row of its own if there is room."""
    run = (
        fleet_of(64)
        .add_events(Disconnected(at=History().at + 2, host="gpu52", why="no heartbeat for 15 s"))
        .pass_time(21.0)
    )
    block = show_run(run, columns, rows)
    assert max(map(len, block.splitlines())) < columns
    assert len(block.splitlines()) <= max(2, rows // 3)
    same_as_golden(f"live-cells-{columns}x{rows}", block)


@pytest.mark.parametrize("columns", [30, 40, 60, 70, 80, 160])
def test_the_state_of_a_run_fits_any_width(columns: int) -> None:
    """Names and numbers give way before it does."""
    for run, word in ((fleet_of(2), "RUNNING"), (second_host_fails(), "ENDED")):
        title = show_run(run, columns).splitlines()[0]
        assert title.endswith(word)
        assert len(title) < columns


def test_loads_are_shown_in_ascii_too() -> None:
    assert show_run(fleet_of(64), 100, unicode=False).isascii()


def test_a_host_without_gpus_shows_its_processors_and_memory() -> None:
    run = History("a").connect_hosts().start_hosts()
    run.add_events(Heartbeat(at=run.at, host="a", load={"cpu": 37.0, "memory": [12 << 30, 64 << 30]})).pass_time(1.0)
    assert "cpu  37%  12/64G" in show_run(run, 100)


def test_a_tool_that_does_not_answer_is_reported() -> None:
    run = History("a").connect_hosts().start_hosts()
    run.add_events(
        Heartbeat(at=run.at, host="a", load={"cpu": 37.0, "gpu_error": "nvidia-smi does not answer"})
    ).pass_time(1.0)
    assert "gpu ?" in show_run(run, 100)


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_a_slow_host_has_its_factor_in_its_row(columns: int) -> None:
    """Beside its figures where there is a row for each, as the reason where there is a grid."""
    run = History("gpu01", "gpu02", "gpu03").connect_hosts().start_hosts()
    for host in run.hosts:
        run.add_output(host, b"step 40/100 loss 2.4\n")
    (row,) = (line for line in show_run(run, columns, slow={"gpu02": "rank 9: 2.2x"}).splitlines() if " gpu02 " in line)
    assert row.split()[:2] == ["!", "gpu02"]
    assert " slow " in row
    assert " rank 9: 2.2x" in row
    odd = find_outliers(run.play_events(), {}, {"gpu02": "rank 9: 2.2x"})
    assert [(each.host, each.what, each.words) for each in odd] == [
        ("gpu02", OutlierKind.SLOW, "steps of rank 9: 2.2x")
    ]
