"""``--on-hang restart``: what hung and was ended is begun again, as a run of its own with a record of its own.

Only where it is proven that nothing of the run is left, and only so often: a program that always hangs is no news.
"""

from __future__ import annotations

from typing import Protocol

from fanout import hangs
from fanout.errors import UsageError
from fanout.outcome import RunOutcome
from fanout.settings import Settings
from fanout.state import RunState
from fanout.verbs.common import Edge
from fanout.verbs.detach import Door

MOST = 3


class Attempt(Protocol):
    """One run that can be begun again. ``hung`` and ``left`` are known once it is over."""

    @property
    def run_id(self) -> str: ...

    hung: bool  # it was ended for a hang, and nothing is left of it
    left: bool  # nobody looks on any more

    def run(self, door: Door | None = None) -> int: ...

    def again(self) -> Attempt: ...


def check(settings: Settings) -> None:
    """Raises UsageError where nobody would ever see the hang that is to end the run."""
    if settings.on_hang in hangs.ENDING and settings.hang_timeout in ("", "off"):
        raise UsageError(
            f"--on-hang {settings.on_hang}: nobody looks for a hang",
            hint="add --hang-timeout 600 (seconds without a line), or --hang-timeout auto",
        )


def repeated(attempt: Attempt, edge: Edge, door: Door | None = None) -> int:
    """The exit status of the last of them."""
    code = attempt.run(door)
    for number in range(1, MOST + 1):
        if not attempt.hung:
            return code
        door = None if attempt.left else door
        before, attempt = attempt.run_id, attempt.again()
        edge.say(f"run {before} hung and is begun again as run {attempt.run_id} ({number} of at most {MOST} times)")
        edge.stderr.flush()
        code = attempt.run(door)
    if attempt.hung:
        edge.say(f"not begun again: it hung {MOST + 1} times in a row")
    return code


def hung(state: RunState, outcome: RunOutcome) -> bool:
    """May it be begun again?"""
    stop = state.first_stop
    return stop is not None and stop.why.startswith(hangs.HANG) and not state.interrupts and outcome.clean
