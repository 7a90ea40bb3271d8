"""End of an attempt for the restart decision: made from the state, the outcome, the verdict and the steps."""

from __future__ import annotations

import re

from fanout.diagnose.verdict import Cause, Verdict
from fanout.model.actions import StopReason
from fanout.model.exit_status import ExitStatus
from fanout.model.outcome import HostOutcome, RunOutcome
from fanout.model.state import RunState
from fanout.recovery.attempt import AttemptEnd, Requested, StepRange
from fanout.run.checkpoint_files import find_checkpoint, find_predecessor
from fanout.run.step_progress import StepProgress

_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+")
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_LIBRARY = ("site-packages", "dist-packages", "/lib/python", "<frozen")
#: Signatures of stops that the launcher decided. The verdict of a hang has its own signature.
_STOPS: dict[StopReason, str] = {
    "early-exit": "early-exit",
    "start-timeout": "start-timeout",
    "rendezvous": "start-timeout",
    "rolled-back": "start-timeout",
    "hang": "hang",
}


def build_attempt_end(
    number: int, state: RunState, outcome: RunOutcome, verdict: Verdict | None, steps: StepProgress
) -> AttemptEnd:
    """Return the end of the attempt. Times are seconds of the launcher's clock."""
    cause = verdict.cause if verdict is not None else None
    stop = state.first_stop
    hosts = {host.host: host for host in outcome.hosts}
    gone = tuple(name for name, host in hosts.items() if host.verdict == "lost" and host.left is None)
    started = [host.go_at for host in state.all_hosts if host.go_at is not None]
    own_stop = stop is not None and outcome.origin == "fanout"
    signature = cause.signature if cause is not None else _STOPS.get(stop.reason, "") if stop and own_stop else ""
    first = outcome.first
    if not signature and first in gone:
        signature = "lost"
    checkpoint = find_checkpoint(cause.text) if cause is not None and signature == "checkpoint-unreadable" else ""
    return AttemptEnd(
        number=number,
        hosts=state.order,
        started_at=min(started, default=state.began_at),
        ended_at=state.now,
        began_at=state.began_at,
        has_started=bool(started),
        succeeded=outcome.is_success,
        requested=_find_request(state, outcome),
        signature=signature,
        text=cause.text if cause is not None else "",
        place=_build_place(cause) if cause is not None else "",
        checkpoint=checkpoint,
        predecessor=find_predecessor(checkpoint) if checkpoint else "",
        confidence=verdict.confidence if verdict is not None and cause is not None else "medium",
        host=cause.host if cause is not None else first,
        accused=(cause.hosts or ((cause.host,) if cause.host else ())) if cause is not None else (),
        code=_choose_code(_get_code(hosts.get(first or "")), cause),
        lost=tuple(name for name in gone if not state.hosts[name].restarted),
        rebooted=tuple(host.name for host in state.all_hosts if host.restarted),
        unclean=tuple(name for name, host in hosts.items() if host.left),
        steps=StepRange(first=steps.first, last=steps.last)
        if steps.first is not None and steps.last is not None
        else None,
        sentence=verdict.sentence if verdict is not None else outcome.headline,
        failed_at=state.failures[0][1] if state.failures else state.ending_at,
        first_step_at=steps.first_at,
        last_step_at=steps.last_at,
    )


def _find_request(state: RunState, outcome: RunOutcome) -> Requested:
    if outcome.origin == "user":
        return "interrupted"
    return "time-limit" if outcome.exit_code == ExitStatus.TIME_LIMIT and outcome.origin == "fanout" else ""


def _get_code(host: HostOutcome | None) -> int | None:
    if host is None:
        return None
    return -host.signal if host.signal else host.code


def _choose_code(code: int | None, cause: Cause | None) -> int | None:
    """Return the exit status of the rank if that of the script does not repeat it: torchrun always exits with 1."""
    return cause.code if cause is not None and cause.code is not None and code in (None, 0, 1) else code


def _build_place(cause: Cause) -> str:
    """Return what identifies the error: signature, text without numbers, and the innermost frame of the user's code."""
    frames = [match for line in cause.traceback if (match := _FRAME.search(line))]
    own = [match for match in frames if not any(part in match[1] for part in _LIBRARY)]
    frame = f"{own[-1][1]}:{own[-1][2]}" if own else ""
    return f"{cause.signature} {_NUMBER.sub('#', cause.text)} {frame}".strip()
