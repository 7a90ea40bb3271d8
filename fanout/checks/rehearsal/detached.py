"""Check of train.sh: the ranks stay in the foreground of the script, on its own host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.engine.definition import Check, CheckContext, CheckRequest, CheckResult, info, ok, warn

_ELSEWHERE = ("ssh", "pdsh", "tmux", "screen", "at")


def _judge_detached(case: CheckContext) -> Iterator[CheckResult]:
    for name, rehearsal in case.get_section("rehearsal").items():
        yield from _judge_host(case.request.script, name, rehearsal)


def _judge_host(script: str, name: str, rehearsal: Mapping[str, Any]) -> Iterator[CheckResult]:
    detached = rehearsal.get("detached", ())
    programs = list(dict.fromkeys(row["program"] for row in detached))
    with_programs = f" (with {', '.join(programs)})" if programs else ""
    is_ended = rehearsal["status"] is not None
    found = False
    if left := rehearsal.get("left", ()):
        found = True
        yield warn(
            name,
            f"{script} ends while {left[-1]} runs in the background{with_programs}",
            "run it in the foreground, or add  wait $!  at the end: fanout already keeps the run alive without you",
        )
    for program in (program for program in programs if program in _ELSEWHERE):
        found = True
        where = "on another host" if program in ("ssh", "pdsh") else "outside the script"
        yield warn(
            name,
            f"{script} calls {program}: fanout neither shows nor stops what that starts {where}",
            f"remove {program}: fanout starts {script} on every host, and keeps the run alive without you",
        )
    unseen = [call for call in rehearsal.get("named", ()) if call.split()[0] not in programs]
    if unseen and not found:
        found = True
        saw = f"{script} names {', '.join(unseen[:3])}, which the rehearsal did not reach"
        yield info(name, saw, "if a run reaches it, fanout neither shows nor stops what it starts")
    if not found and programs:
        yield info(name, f"{script} calls {', '.join(programs)}, which a run under fanout does not need")
    elif not found and is_ended and rehearsal["calls"]:
        yield ok(name, f"{script} waits for what it starts")


def _get_missing_task_reason(request: CheckRequest) -> str:
    return "" if request.has_task else "no task given"


CHECKS = (
    Check(
        name="script-waits",
        group="rehearsal",
        worst="warn",
        needs=("rehearsal",),
        unless=_get_missing_task_reason,
        verifies="train.sh waits for the launcher that it starts, and starts nothing by ssh, pdsh, tmux, screen or at. nohup, "
        "setsid and disown are named.",
        why="If train.sh ends first, its exit status is not that of the training. fanout does not see processes that ssh or "
        "tmux starts, and does not end them.",
        fix="Call the launcher in the foreground; fanout keeps a run alive without your terminal (--detach).",
        judge=_judge_detached,
    ),
)
