"""``--on-hang restart``: launch a hung run again, as a new run with its own record.

A run is restarted only if it is verified that nothing of it is left, and at most three times in a row.
"""

from __future__ import annotations

from typing import Protocol

from fanout.model import hang_detection
from fanout.model.errors import UsageError
from fanout.model.outcome import RunOutcome
from fanout.model.settings import Settings
from fanout.model.state import RunState
from fanout.run.detach import ParentPipe
from fanout.run.process_context import ProcessContext

MAX_RESTARTS = 3


class RestartableRun(Protocol):
    """Run that can be restarted. ``may_restart`` and ``left`` are known once it has ended."""

    @property
    def run_id(self) -> str: ...

    hung: bool  # the launcher stopped it because of a hang, and nothing of it is left
    left: bool  # the user has detached

    def run(self, parent_pipe: ParentPipe | None = None) -> int: ...

    def build_next_run(self) -> RestartableRun: ...


def check_restart_settings(settings: Settings) -> None:
    """Raise UsageError if --on-hang is given but hang detection is off."""
    if settings.on_hang in hang_detection.ENDING and settings.hang_timeout in ("", "off"):
        raise UsageError(
            f"--on-hang {settings.on_hang} needs --hang-timeout (hang detection is off)",
            hint="add --hang-timeout 10m (the time without output), or --hang-timeout auto",
        )


def run_with_restarts(attempt: RestartableRun, process: ProcessContext, parent_pipe: ParentPipe | None = None) -> int:
    """Run it, and restart it while it hangs; return the exit status of the last run."""
    code = attempt.run(parent_pipe)
    for number in range(1, MAX_RESTARTS + 1):
        if not attempt.hung:
            return code
        parent_pipe = None if attempt.left else parent_pipe
        before, attempt = attempt.run_id, attempt.build_next_run()
        process.print_message(
            f"run {before} hung: restarting it as run {attempt.run_id} (restart {number} of at most {MAX_RESTARTS})"
        )
        process.stderr.flush()
        code = attempt.run(parent_pipe)
    if attempt.hung:
        process.print_message(f"not restarted: the run hung {MAX_RESTARTS + 1} times in a row")
    return code


def may_restart(state: RunState, outcome: RunOutcome) -> bool:
    """Return whether the run may be restarted."""
    stop = state.first_stop
    return stop is not None and stop.reason == "hang" and not state.interrupts and outcome.is_clean
