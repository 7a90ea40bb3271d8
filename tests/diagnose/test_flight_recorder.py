"""Comparison of flight recorders: the rank that they identify, and when they identify none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fanout.agent.probes import flight_dump
from fanout.diagnose.verdict import Verdict
from fanout.model.actions import Inspect
from fanout.model.events import ActionSent, Answered
from tests.diagnose.kit import NCCL, Run, verdict
from tests.diagnose.recorder import build_dump, build_entry, build_finished, write_dumps

Dumps = Mapping[int, Mapping[str, Any]]
WAITS = [*build_finished(117), build_entry(118, state="started")]


def build_timed_out(place: Path, dumps: Dumps, *, each: int = 2, missing: tuple[int, ...] = ()) -> Run:
    """Return four ranks that report a timeout; those with a dump have it returned by their host."""
    run = Run(hosts=4 // each, each=each)
    for rank in range(4):
        if rank not in missing:
            run.out(rank, NCCL.format(rank=rank))
    for number, host in enumerate(run.hosts):
        mine = {rank: dumps[rank] for rank in dumps if run.host(rank) == host}
        found = [flight_dump.read_dump(path) for path in write_dumps(place / host, mine)]
        run.add_events(ActionSent(at=run.at, action=Inspect(host=host, ask=number, what="aftermath")))
        run.add_events(Answered(at=run.at, host=host, ask=number, value={"flights": found}, error=""))
    return run


def judge_dumps(place: Path, dumps: Dumps, **more: Any) -> Verdict:
    return verdict(build_timed_out(place, dumps, **more), each=more.get("each", 2))


def test_the_rank_that_did_not_come_is_named_although_it_prints_what_all_print(tmp_path: Path) -> None:
    dumps = {rank: build_dump(WAITS) for rank in (0, 1, 2)} | {3: build_dump(build_finished(117, line=41))}
    found = judge_dumps(tmp_path, dumps)
    assert found.cause is not None
    assert (found.rule, found.cause.host, found.cause.rank, found.confidence) == ("pointed", "gpu02", 3, "medium")
    assert found.cause.says == "did not reach all_reduce #118 of the default group, where the others wait"
    assert found.evidence[0] == (
        "flight recorder: ranks 0-2 wait in all_reduce #118 of the default group (train.py:88); "
        "rank 3 did not go beyond #117 (all_reduce, train.py:41)"
    )


def test_the_rank_in_another_collective_is_named(tmp_path: Path) -> None:
    other = [*build_finished(117), build_entry(118, "broadcast", state="started", line=12)]
    found = judge_dumps(
        tmp_path, {0: build_dump(WAITS), 1: build_dump(other), 2: build_dump(WAITS), 3: build_dump(WAITS)}
    )
    assert found.cause is not None
    assert (found.cause.signature, found.cause.rank, found.confidence) == ("mismatch", 1, "medium")
    assert "rank 1 is in broadcast (train.py:12), ranks 0,2-3 are in all_reduce (train.py:88)" in found.evidence[0]


@pytest.mark.parametrize(("size", "dtype", "said"), [((9,), "Float", "9 Float"), ((4, 4), "Half", "4 x 4 Half")])
def test_the_rank_with_another_size_or_type_is_named(
    size: tuple[int, ...], dtype: str, said: str, tmp_path: Path
) -> None:
    other = [*build_finished(117), build_entry(118, sizes=size, dtype=dtype, state="started")]
    found = judge_dumps(
        tmp_path, {0: build_dump(WAITS), 1: build_dump(WAITS), 2: build_dump(other), 3: build_dump(WAITS)}
    )
    assert found.cause is not None
    assert (found.cause.signature, found.cause.rank) == ("mismatch", 2)
    assert f"rank 2 is in all_reduce of {said} (train.py:88)" in found.evidence[0]
    assert "4 x 4 Float" in found.evidence[0]


@pytest.mark.parametrize(("op", "size"), [("all_reduce", (16,)), ("scatter", (9,)), ("all_to_all", (9,))])
def test_allowed_differences_are_no_fault(op: str, size: tuple[int, ...], tmp_path: Path) -> None:
    """Examples: another shape with as many elements, or other sizes where ranks have different parts."""
    alike = [*build_finished(117), build_entry(118, op, state="started")]
    other = [*build_finished(117), build_entry(118, op, sizes=size, state="started")]
    found = judge_dumps(
        tmp_path, {0: build_dump(alike), 1: build_dump(alike), 2: build_dump(other), 3: build_dump(alike)}
    )
    assert found.cause is None or found.cause.signature != "mismatch"


def test_two_that_differ_are_both_named(tmp_path: Path) -> None:
    pair = {"7": ("tp", (0, 1))}
    one, two = (
        [*build_finished(117), build_entry(118, op, state="started", group=("7", "tp"), pg=3)]
        for op in ("all_reduce", "broadcast")
    )
    found = judge_dumps(tmp_path, {0: build_dump(one, groups=pair), 1: build_dump(two, groups=pair)}, each=1)
    assert found.cause is not None
    assert {found.cause.rank, *(each.rank for each in found.also)} == {0, 1}
    assert found.confidence == "low"


def test_a_rank_that_waits_for_others_is_not_the_cause(tmp_path: Path) -> None:
    """The default group waits for rank 1, which waits with rank 3 for a collective that rank 2 has not begun."""
    pipe = {"5": ("dp", (1, 2, 3))}
    own: dict[str, Any] = {"group": ("5", "dp"), "pg": 1}
    dp_waits = [
        *build_finished(60),
        *[build_entry(n, **own) for n in range(1, 9)],
        build_entry(9, state="started", **own),
    ]
    dumps = {
        0: build_dump([*build_finished(60), build_entry(61, state="started")], groups=pipe),
        1: build_dump(dp_waits, groups=pipe),
        2: build_dump([*build_finished(60), *[build_entry(n, **own) for n in range(1, 9)]], groups=pipe),
        3: build_dump(dp_waits, groups=pipe),
    }
    found = judge_dumps(tmp_path, dumps)
    assert found.cause is not None
    assert (found.cause.rank, found.confidence) == (2, "medium")


def test_a_rank_without_a_dump_is_named_where_its_host_has_others(tmp_path: Path) -> None:
    found = judge_dumps(tmp_path, {0: build_dump(WAITS), 1: build_dump(WAITS), 3: build_dump(WAITS)})
    assert found.cause is not None
    assert (found.cause.rank, found.confidence) == (2, "medium")
    assert found.evidence[0].endswith("; there is no dump of rank 2")


def test_a_host_without_any_dump_may_write_them_elsewhere(tmp_path: Path) -> None:
    found = judge_dumps(tmp_path, {0: build_dump(WAITS), 1: build_dump(WAITS)})
    assert found.cause is not None
    assert (found.cause.host, found.cause.ranks, found.confidence) == ("gpu02", (2, 3), "low")


@pytest.mark.parametrize(
    "dumps",
    [
        {rank: build_dump(WAITS) for rank in range(4)},
        {0: build_dump(WAITS)} | {rank: build_dump(build_finished(117)) for rank in (1, 2, 3)},
        {
            0: build_dump(WAITS),
            1: build_dump(build_finished(118)),
            2: build_dump(build_finished(117)),
            3: build_dump(WAITS),
        },
        {rank: build_dump(build_finished(117)) for rank in range(4)},
    ],
    ids=["all wait", "one waits", "one is done with it", "none waits"],
)
def test_dumps_without_a_difference_name_no_rank(dumps: Dumps, tmp_path: Path) -> None:
    found = judge_dumps(tmp_path, dumps)
    assert not any("flight recorder:" in text for text in found.evidence)


def test_two_hosts_that_did_not_come_are_both_named(tmp_path: Path) -> None:
    found = judge_dumps(
        tmp_path,
        {
            0: build_dump(WAITS),
            3: build_dump(WAITS),
            1: build_dump(build_finished(117)),
            2: build_dump(build_finished(117)),
        },
    )
    assert found.cause is not None
    assert ([found.cause.rank, *(each.rank for each in found.also)], found.confidence) == ([1, 2], "low")


def test_a_dump_of_another_run_does_not_count(tmp_path: Path) -> None:
    """It has more ranks than this run; a rank that another host has (a shared home) counts once."""
    old = build_dump([*build_finished(9), build_entry(10, state="started")], world=16)
    found = judge_dumps(tmp_path, {0: old, 1: old, 2: old, 3: build_dump(build_finished(3))})
    assert not any("flight recorder:" in text for text in found.evidence)
    assert any("belongs to another run: that run had 16 ranks, this one has 4" in text for text in found.hosts)


def test_an_error_of_its_own_explains_more_than_its_absence(tmp_path: Path) -> None:
    run = build_timed_out(tmp_path, {rank: build_dump(WAITS) for rank in (0, 1, 3)}, missing=(2,))
    run.at -= 4.0
    run.raises(2, "ValueError: bad shard")
    found = verdict(run)
    assert found.cause is not None
    assert (found.cause.signature, found.cause.rank, found.confidence) == ("python-exception", 2, "high")


def test_another_ranks_error_comes_before_what_dumps_say(tmp_path: Path) -> None:
    run = build_timed_out(tmp_path, {rank: build_dump(WAITS) for rank in (0, 1, 3)}, missing=(2,))
    run.at -= 4.0
    run.raises(0, "ValueError: bad shard")
    found = verdict(run)
    assert found.cause is not None
    assert (found.rule, found.cause.rank) == ("first", 0)


def test_gloo_reports_no_states_and_the_newest_collective_decides(tmp_path: Path) -> None:
    over: dict[str, Any] = {"backend": "gloo", "state": "scheduled", "retired": True}
    waits, behind = build_dump(build_finished(6, **over)), build_dump(build_finished(5, **over))
    for each in (waits, behind):
        each["pg_config"] = {"": {"name": "", "desc": "", "ranks": "[]"}}
    found = judge_dumps(tmp_path, {0: waits, 1: waits, 2: behind, 3: waits})
    assert found.cause is not None
    assert found.cause.rank == 2


@pytest.mark.parametrize(
    "value", [None, 3, [3], [{"rank": 1}], [{"rank": 1, "path": "x", "world": 4, "whole": True, "groups": [{}]}],
              [{"path": "/tmp/nccl_trace_rank_0", "bytes": 12}]]
)  # fmt: skip
def test_an_answer_of_a_wrong_shape_is_no_dump(value: Any) -> None:
    run = Run()
    run.add_events(ActionSent(at=run.at, action=Inspect(host="gpu01", ask=9, what="aftermath")))
    run.add_events(Answered(at=run.at, host="gpu01", ask=9, value={"flights": value}, error=""))
    assert verdict(run).cause is None
