"""The restart benchmark finds the phases of a restart in the messages of fanout, and its table has every contender."""

from __future__ import annotations

import pytest

from bench.restart import RestartTimes, build_restart_table, split_phases

KILLED = """0.4 fanout: h3: train.sh ended: exit 1
1.4 fanout: stopping all hosts: h3 failed (grace 5 s)
2.0 fanout: attempt 0 failed: rank 2 on h3 was killed by SIGKILL
2.1         restart 1 of 3: on the same hosts
2.1 fanout: run 20261130-021330-973116ea1970.1 · restart_task.py · 4 hosts · logs in /home/lab/runs
2.3 fanout: connected 4/4 in 0.2 s
2.8 fanout: check ok in 0.5 s
2.9 fanout: launching 4 ranks, MASTER_ADDR=h1 MASTER_PORT=29500
3.0 fanout: started 4/4 in 0.1 s"""


def read_lines(text: str, failed: float) -> list[tuple[float, str]]:
    rows = [line.split(" ", 1) for line in text.splitlines()]
    return [(failed + float(at), message) for at, message in rows]


def test_the_phases_add_up_to_the_whole_restart() -> None:
    lines = [(90.0, "fanout: started 4/4 in 0.2 s"), *read_lines(KILLED, 100.0)]
    phases = split_phases(lines, 100.0, 107.0)
    assert sum(phases.values()) == pytest.approx(7.0)
    assert {name: round(seconds, 1) for name, seconds in phases.items()} == {
        "detect": 0.4,
        "last words": 1.0,
        "end": 0.6,
        "backoff": 0.1,
        "connect": 0.2,
        "check": 0.6,
        "start": 0.1,
        "first step": 4.0,
    }
    assert RestartTimes(total=7.0, phases=phases).own == pytest.approx(2.5)


def test_another_launcher_has_no_phases() -> None:
    assert split_phases([(101.0, "[torchrun] restarting worker group")], 100.0, 110.0) == {}


def test_the_table_names_each_contender_and_why_one_is_absent() -> None:
    whole = split_phases(read_lines(KILLED, 0.0), 0.0, 7.0)
    table = build_restart_table(
        {
            (False, "fanout --max-restarts 3"): [RestartTimes(total=total, phases=whole) for total in (7.0, 9.0, 8.0)],
            (False, "torchrun c10d"): [RestartTimes(total=16.0, phases={})],
            (True, "fanout --max-restarts 3"): "no step after the failure within 180 s",
            (True, "NVRx ft_launcher"): "it cannot be installed: no network",
        },
        3,
    )
    rows = {row[0]: row for row in table.rows}
    assert rows["rank killed: fanout --max-restarts 3"][1:3] == ("8.0 (7.0)", "1")
    assert rows["rank killed: torchrun c10d"][1:4] == ("16.0 (16.0)", "2", "–")
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert [note for note in table.notes if note.startswith("Left out")] == [
        "Left out: fanout --max-restarts 3, host without power: no step after the failure within 180 s",
        "Left out: NVRx ft_launcher, host without power: it cannot be installed: no network",
    ]
