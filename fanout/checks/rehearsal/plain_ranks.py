"""Verdicts on ranks that train.sh starts itself, without a launcher: do RANK and WORLD_SIZE of all hosts form one group? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.engine.comparison import find_outlier_groups
from fanout.checks.engine.definition import CheckContext, CheckResult, fail, info, ok, warn
from fanout.model.frozen import frozen

_ADVICE = "start one task per rank with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, or call torchrun"


@frozen
class PlainRanks:
    """The ranks that one host starts: RANK of each task, and the variables of the last one."""

    host: str
    ranks: tuple[int, ...]
    env: Mapping[str, str]
    given: Mapping[str, Any]


def judge_plain_tasks(case: CheckContext) -> Iterator[CheckResult]:
    """Yield a verdict for each host whose train.sh starts the task itself."""
    starts = [
        _read_ranks(name, rehearsal)
        for name, rehearsal in case.get_section("rehearsal").items()
        if rehearsal["calls"] and rehearsal["calls"][-1]["program"] == "task"
    ]
    known = [start for start in starts if start.ranks and start.env.get("WORLD_SIZE", "").isdigit()]
    sizes = {start.host: start.env["WORLD_SIZE"] for start in known}
    differing = {host for group in find_outlier_groups(sizes) for host in group.hosts}
    for start in starts:
        if start not in known:
            yield _note_unseen_group(case, start)
            continue
        wrong = list(_find_errors(start, known, differing))
        if wrong:
            yield fail(start.host, f"{case.request.script} starts the task {', '.join(wrong)}", _ADVICE)
        else:
            yield from _judge_port(case.request.script, start)


def _read_ranks(name: str, rehearsal: Mapping[str, Any]) -> PlainRanks:
    calls = [call for call in rehearsal["calls"] if call["program"] == "task"]
    ranks = [int(call["env"]["RANK"]) for call in calls if call["env"].get("RANK", "").isdigit()]
    return PlainRanks(host=name, ranks=tuple(ranks), env=calls[-1]["env"], given=rehearsal["given"])


def _find_errors(start: PlainRanks, all_starts: list[PlainRanks], differing: set[str]) -> Iterator[str]:
    """Yield what keeps the ranks of all hosts from one group."""
    size = int(start.env["WORLD_SIZE"])
    others = {rank: other.host for other in all_starts if other is not start for rank in other.ranks}
    twice = sorted(set(start.ranks) & set(others))
    if twice:
        yield f"with RANK={twice[0]} here and on {others[twice[0]]}"
    elif start.host in differing:
        yield f"with WORLD_SIZE={size}, which differs from the other hosts"
    elif size < sum(len(other.ranks) for other in all_starts) or size < int(start.given["NNODES"]):
        yield f"with WORLD_SIZE={size} where NNODES={start.given['NNODES']}"
    address = start.env.get("MASTER_ADDR", "")
    if address != start.given["MASTER_ADDR"]:
        yield f"with MASTER_ADDR={address or '(none)'} instead of {start.given['MASTER_ADDR']}"


def _judge_port(script: str, start: PlainRanks) -> Iterator[CheckResult]:
    port = start.env.get("MASTER_PORT", "")
    if port == start.given["MASTER_PORT"]:
        yield ok(start.host, f"{script} passes RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT to the task")
    else:
        saw = f"{script} uses port {port or '(none)'} and ignores MASTER_PORT (the check tested {start.given['MASTER_PORT']})"
        yield warn(start.host, saw, _ADVICE)


def _note_unseen_group(case: CheckContext, start: PlainRanks) -> CheckResult:
    saw = f"{case.request.script} starts the task without a launcher"
    if len(case.request.hosts) == 1:
        return info(start.host, saw)
    return info(
        start.host,
        f"{saw}: the check cannot see whether the hosts form one group",
        "let the task itself read NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT",
    )
