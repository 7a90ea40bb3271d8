"""Flight recorders laid side by side: whom they name, and when they name nobody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fanout.agent.probes import flight_dump
from fanout.diagnose.verdict import Verdict
from fanout.model.events import ActionSent, Answered, Inspect
from tests.diagnose.kit import NCCL, Run, verdict
from tests.diagnose.recorder import call, done, dump, write

Dumps = Mapping[int, Mapping[str, Any]]
WAITS = [*done(117), call(118, state="started")]


def timed_out(place: Path, dumps: Dumps, *, each: int = 2, missing: tuple[int, ...] = ()) -> Run:
    """Four ranks; those with a dump say that they waited in vain, which is what all say, and their hosts hand them in."""
    run = Run(hosts=4 // each, each=each)
    for rank in range(4):
        if rank not in missing:
            run.out(rank, NCCL.format(rank=rank))
    for number, host in enumerate(run.hosts):
        mine = {rank: dumps[rank] for rank in dumps if run.host(rank) == host}
        found = [flight_dump.read_dump(path) for path in write(place / host, mine)]
        run.add(ActionSent(at=run.at, action=Inspect(host=host, ask=number, what="aftermath")))
        run.add(Answered(at=run.at, host=host, ask=number, value={"flights": found}, error=""))
    return run


def judged(place: Path, dumps: Dumps, **more: Any) -> Verdict:
    return verdict(timed_out(place, dumps, **more), each=more.get("each", 2))


def test_the_rank_that_did_not_come_is_named_though_it_says_what_all_say(tmp_path: Path) -> None:
    dumps = {rank: dump(WAITS) for rank in (0, 1, 2)} | {3: dump(done(117, line=41))}
    found = judged(tmp_path, dumps)
    assert found.cause is not None
    assert (found.rule, found.cause.host, found.cause.rank, found.confidence) == ("pointed", "gpu02", 3, "medium")
    assert found.cause.says == "did not reach all_reduce #118 of the default group, where the others wait"
    assert found.evidence[0] == (
        "flight recorder: ranks 0-2 wait in all_reduce #118 of the default group (train.py:88); "
        "rank 3 did not go beyond #117 (all_reduce, train.py:41)"
    )


def test_the_rank_in_another_collective_is_named(tmp_path: Path) -> None:
    other = [*done(117), call(118, "broadcast", state="started", line=12)]
    found = judged(tmp_path, {0: dump(WAITS), 1: dump(other), 2: dump(WAITS), 3: dump(WAITS)})
    assert found.cause is not None
    assert (found.cause.signature, found.cause.rank, found.confidence) == ("mismatch", 1, "medium")
    assert "rank 1 is in broadcast (train.py:12), ranks 0,2-3 are in all_reduce (train.py:88)" in found.evidence[0]


@pytest.mark.parametrize(("size", "dtype", "said"), [((9,), "Float", "9 Float"), ((4, 4), "Half", "4 x 4 Half")])
def test_the_rank_with_another_size_or_type_is_named(
    size: tuple[int, ...], dtype: str, said: str, tmp_path: Path
) -> None:
    other = [*done(117), call(118, sizes=size, dtype=dtype, state="started")]
    found = judged(tmp_path, {0: dump(WAITS), 1: dump(WAITS), 2: dump(other), 3: dump(WAITS)})
    assert found.cause is not None
    assert (found.cause.signature, found.cause.rank) == ("mismatch", 2)
    assert f"rank 2 is in all_reduce of {said} (train.py:88)" in found.evidence[0]
    assert "4 x 4 Float" in found.evidence[0]


@pytest.mark.parametrize(("op", "size"), [("all_reduce", (16,)), ("scatter", (9,)), ("all_to_all", (9,))])
def test_what_may_differ_is_no_fault(op: str, size: tuple[int, ...], tmp_path: Path) -> None:
    """Another shape with as many elements; other sizes where ranks have different parts."""
    alike = [*done(117), call(118, op, state="started")]
    other = [*done(117), call(118, op, sizes=size, state="started")]
    found = judged(tmp_path, {0: dump(alike), 1: dump(alike), 2: dump(other), 3: dump(alike)})
    assert found.cause is None or found.cause.signature != "mismatch"


def test_two_that_differ_are_both_named(tmp_path: Path) -> None:
    pair = {"7": ("tp", (0, 1))}
    one, two = (
        [*done(117), call(118, op, state="started", group=("7", "tp"), pg=3)] for op in ("all_reduce", "broadcast")
    )
    found = judged(tmp_path, {0: dump(one, groups=pair), 1: dump(two, groups=pair)}, each=1)
    assert found.cause is not None
    assert {found.cause.rank, *(each.rank for each in found.also)} == {0, 1}
    assert found.confidence == "low"


def test_who_waits_for_others_only_passes_it_on(tmp_path: Path) -> None:
    """Rank 1 is waited for in the default group, but waits itself, with rank 3, for what rank 2 has not begun."""
    pipe = {"5": ("dp", (1, 2, 3))}
    own: dict[str, Any] = {"group": ("5", "dp"), "pg": 1}
    dp_waits = [*done(60), *[call(n, **own) for n in range(1, 9)], call(9, state="started", **own)]
    dumps = {
        0: dump([*done(60), call(61, state="started")], groups=pipe),
        1: dump(dp_waits, groups=pipe),
        2: dump([*done(60), *[call(n, **own) for n in range(1, 9)]], groups=pipe),
        3: dump(dp_waits, groups=pipe),
    }
    found = judged(tmp_path, dumps)
    assert found.cause is not None
    assert (found.cause.rank, found.confidence) == (2, "medium")


def test_a_rank_without_a_dump_is_named_where_its_host_has_others(tmp_path: Path) -> None:
    found = judged(tmp_path, {0: dump(WAITS), 1: dump(WAITS), 3: dump(WAITS)})
    assert found.cause is not None
    assert (found.cause.rank, found.confidence) == (2, "medium")
    assert found.evidence[0].endswith("; there is no dump of rank 2")


def test_a_host_without_any_dump_may_write_them_elsewhere(tmp_path: Path) -> None:
    found = judged(tmp_path, {0: dump(WAITS), 1: dump(WAITS)})
    assert found.cause is not None
    assert (found.cause.host, found.cause.ranks, found.confidence) == ("gpu02", (2, 3), "low")


@pytest.mark.parametrize(
    "dumps",
    [
        {rank: dump(WAITS) for rank in range(4)},
        {0: dump(WAITS)} | {rank: dump(done(117)) for rank in (1, 2, 3)},
        {0: dump(WAITS), 1: dump(done(118)), 2: dump(done(117)), 3: dump(WAITS)},
        {rank: dump(done(117)) for rank in range(4)},
    ],
    ids=["all wait", "one waits", "somebody is done with it", "nobody waits"],
)
def test_dumps_that_do_not_tell_name_nobody(dumps: Dumps, tmp_path: Path) -> None:
    found = judged(tmp_path, dumps)
    assert not any("flight recorder:" in text for text in found.evidence)


def test_two_hosts_that_did_not_come_are_both_named(tmp_path: Path) -> None:
    found = judged(tmp_path, {0: dump(WAITS), 3: dump(WAITS), 1: dump(done(117)), 2: dump(done(117))})
    assert found.cause is not None
    assert ([found.cause.rank, *(each.rank for each in found.also)], found.confidence) == ([1, 2], "low")


def test_a_dump_of_another_run_does_not_count(tmp_path: Path) -> None:
    """It is of more ranks than this run has; and one of a rank that another host has (a shared home) counts once."""
    old = dump([*done(9), call(10, state="started")], world=16)
    found = judged(tmp_path, {0: old, 1: old, 2: old, 3: dump(done(3))})
    assert not any("flight recorder:" in text for text in found.evidence)
    assert any("belongs to another run: that run had 16 ranks, this one has 4" in text for text in found.hosts)


def test_an_error_of_its_own_explains_more_than_its_absence(tmp_path: Path) -> None:
    run = timed_out(tmp_path, {rank: dump(WAITS) for rank in (0, 1, 3)}, missing=(2,))
    run.at -= 4.0
    run.raises(2, "ValueError: bad shard")
    found = verdict(run)
    assert found.cause is not None
    assert (found.cause.signature, found.cause.rank, found.confidence) == ("python-exception", 2, "high")


def test_another_ranks_error_comes_before_what_dumps_say(tmp_path: Path) -> None:
    run = timed_out(tmp_path, {rank: dump(WAITS) for rank in (0, 1, 3)}, missing=(2,))
    run.at -= 4.0
    run.raises(0, "ValueError: bad shard")
    found = verdict(run)
    assert found.cause is not None
    assert (found.rule, found.cause.rank) == ("first", 0)


def test_gloo_tells_no_states_and_the_newest_collective_decides(tmp_path: Path) -> None:
    over: dict[str, Any] = {"backend": "gloo", "state": "scheduled", "retired": True}
    waits, behind = dump(done(6, **over)), dump(done(5, **over))
    for each in (waits, behind):
        each["pg_config"] = {"": {"name": "", "desc": "", "ranks": "[]"}}
    found = judged(tmp_path, {0: waits, 1: waits, 2: behind, 3: waits})
    assert found.cause is not None
    assert found.cause.rank == 2


@pytest.mark.parametrize(
    "value", [None, 3, [3], [{"rank": 1}], [{"rank": 1, "path": "x", "world": 4, "whole": True, "groups": [{}]}],
              [{"path": "/tmp/nccl_trace_rank_0", "bytes": 12}]]
)  # fmt: skip
def test_an_answer_of_a_wrong_shape_is_no_dump(value: Any) -> None:
    run = Run()
    run.add(ActionSent(at=run.at, action=Inspect(host="gpu01", ask=9, what="aftermath")))
    run.add(Answered(at=run.at, host="gpu01", ask=9, value={"flights": value}, error=""))
    assert verdict(run).cause is None
