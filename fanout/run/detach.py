"""Detach: ``run --detach``, the key ``d``, and a terminal that closes under ``--on-hangup keep``.

A detached run keeps its launcher, without a terminal. The launcher still watches all hosts, stops them if one fails,
and writes the same record. Nothing changes on the hosts, and ``fanout attach`` reads that record.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from fanout.model.events import Event
from fanout.model.exit_status import ExitStatus, status_of_signal
from fanout.model.outcome import RunOutcome
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.model.subscriber import View
from fanout.run.process_context import ProcessContext
from fanout.run.stop_signals import SIGNALS, Handler, filter_handled_signals

LAUNCHER_LOG = "launcher.log"  # in the run's directory: the launcher's stdout and stderr after it detached


class ParentPipe:
    """Pipe to the command that the user typed, from the launcher behind it.

    ``at_start``: the launcher detaches when all hosts have started, and not only when the user asks for it.
    """

    at_start = True

    def __init__(self, write: int) -> None:
        self._write = write
        self._is_released = False

    @property
    def is_parent_gone(self) -> bool:
        """Return whether the user's command is gone although the launcher has not detached."""
        return False

    def deliver_once(self, handler: Handler) -> Handler:
        """Return a handler that handles a signal once, even if it reaches both processes."""
        return handler

    def release_parent(self) -> bool:
        """Let the user's command return with 0; return False if that process is gone. A second call does nothing."""
        if self._is_released:
            return True
        self._is_released = True
        try:
            os.write(self._write, b"away")
        except OSError:
            return False
        finally:
            os.close(self._write)
        return True


def run_in_background(process: ProcessContext, work: Callable[[ParentPipe], int]) -> int:
    """Run ``work`` in a process and session of its own; return 0 when it detaches, else its exit status."""
    process.stdout.flush()
    process.stderr.flush()
    read, write = os.pipe()
    child = os.fork()  # before there is any thread or connection
    if child == 0:
        os.close(read)
        leave_terminal()
        return work(ParentPipe(write))
    os.close(write)
    return _wait_for_child(child, read)


def _wait_for_child(child: int, read: int) -> int:
    before = {
        number: signal.signal(number, lambda number, frame: os.kill(child, number))
        for number in filter_handled_signals(SIGNALS)
    }
    try:
        if os.read(read, 16):
            return ExitStatus.SUCCESS
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code if code >= 0 else status_of_signal(-code)
    finally:
        os.close(read)
        for number, handler in before.items():
            signal.signal(number, handler)


class DetachRequest:
    """Request to detach, made with the key ``d``."""

    def __init__(self) -> None:
        self.requested = self.acknowledged = False

    def __call__(self) -> None:
        self.requested = True


class DetachableView:
    """View from which the user can detach before the run ends; then nothing more is shown, and the run goes on.

    ``parent_pipe``: detach once all hosts have started, and the user has requested it if that is needed. ``keep``: detach
    when the terminal closes, which otherwise stops the run. ``restarts``: another attempt may follow a failure.
    """

    def __init__(
        self,
        view: View,
        *,
        parent_pipe: ParentPipe | None,
        keep: bool,
        restarts: bool = False,
        detach_request: DetachRequest | None = None,
    ) -> None:
        self._view = view
        self._parent_pipe = parent_pipe
        self._detach_request = detach_request or DetachRequest()
        self._keep, self._restarts = keep, restarts
        self.on_leave: Callable[[str], None] = lambda why: None
        self._hung_up = False
        self._deserted = False
        self.left = False

    @property
    def broken(self) -> bool:
        return self._deserted or (not self.left and not self._keep and self._view.broken)

    def note_hangup(self) -> None:
        """Note that the terminal has closed. Safe in a signal handler."""
        self._hung_up = True

    def __call__(self, event: Event, state: RunState) -> None:
        if self.left:
            return
        self._view(event, state)
        parent_pipe = self._parent_pipe
        gone = parent_pipe is not None and parent_pipe.is_parent_gone
        if self._keep and (gone or self._hung_up or self._view.broken):
            self.left = True
            self.on_leave("the terminal closed: the run goes on")
            self.close()
            if parent_pipe is not None:
                parent_pipe.release_parent()
        elif gone:
            self.left = self._deserted = True
            self.on_leave("the command that waited for the launcher was killed: stopping the run")
            self.close()
        elif parent_pipe is not None and (parent_pipe.at_start or self._detach_request.requested):
            self._detach_if_started(parent_pipe, state)

    def _detach_if_started(self, parent_pipe: ParentPipe, state: RunState) -> None:
        """Detach if all hosts have started; otherwise report the reason to the user who asked.

        In a run with restarts, the user can also detach while an attempt ends, and between two attempts.
        """
        requested = self._detach_request.requested
        ending = bool(state.interrupts or (state.failures and not (self._restarts and requested)))
        has_started = all(host.started_at for host in state.all_hosts) or (requested and state.restart is not None)
        if has_started and not ending:
            self._leave_run(parent_pipe)
        elif requested and ending:
            self._detach_request.requested = False
            self.note("not detached: the run is ending; its report follows")
        elif requested and not self._detach_request.acknowledged:
            self._detach_request.acknowledged = True
            self.note("detaching when all hosts have started")

    def _leave_run(self, parent_pipe: ParentPipe) -> None:
        self.close()
        self.left = True
        self.on_leave("detached")
        self._deserted = not parent_pipe.release_parent()

    def note(self, text: str) -> None:
        if not self.left:
            self._view.note(text)

    def begin_attempt(self, heading: RunInfo) -> None:
        """Show the next attempt."""
        if not self.left:
            self._view.begin_attempt(heading)

    def begin(self, at: float, **facts: Any) -> None:
        """Begin the view."""
        if not self.left:
            self._view.begin(at, **facts)

    def finish(self, outcome: RunOutcome, text: str = "", verdict: Mapping[str, Any] | None = None) -> None:
        """Finish the view, unless the user has detached from it."""
        if not self.left:
            self._view.finish(outcome, text, verdict)

    def close(self) -> None:
        try:
            self._view.close()
        except OSError:
            self._deserted = self._deserted or not self._keep  # the terminal has closed, so its state does not matter


def leave_terminal() -> None:
    """Start a new session with an empty stdin, because the terminal belongs to the shell."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def redirect_output(path: str) -> None:
    """Redirect stdout and stderr of this process to a file in the run's record."""
    redirect_output_to(os.path.join(path, LAUNCHER_LOG))


def redirect_output_to(file: str) -> None:
    """Redirect stdout and stderr of this process to this file, or to nowhere if it cannot be written."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
