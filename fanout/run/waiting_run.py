"""Waiting run: a run before its start, while ``--wait`` waits for free hosts.

It is visible to ``fanout ps`` and ``fanout stop`` from the first wait on. With ``--detach``, the command returns at that
moment, and the wait continues in the background.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence

from fanout.model.exit_status import ExitStatus
from fanout.record.waiting_runs import WaitingRecord, WaitingRun, remove_old_waits
from fanout.run.detach import LAUNCHER_LOG, ParentPipe, redirect_output_to
from fanout.run.run_context import RunContext
from fanout.run.stop_signals import choose_stop_signal
from fanout.ui.wait_status import WaitStatus


class WaitingPhase:
    """The wait of one run. ``parent_pipe`` is that of ``--detach``, else None."""

    def __init__(self, context: RunContext, run_id: str, parent_pipe: ParentPipe | None) -> None:
        self._context, self._run_id = context, run_id
        self._parent_pipe = parent_pipe if parent_pipe is not None and parent_pipe.at_start else None
        self._record: WaitingRecord | None = None
        self._is_detached = False
        self.status = WaitStatus(context.process.stderr, context.process.columns)

    def begin_wait(self, text: str, status: str) -> None:
        """Record that the run waits, or for what it waits now. The first time, a detached run leaves the terminal.

        ``text`` is the whole status with the holders, ``status`` a short one.
        """
        if self._record is None:
            self._record = self._create_record()
            if self._parent_pipe is not None and not self._is_detached:
                self._leave_terminal(text, self._record, self._parent_pipe)
        self._record.update(status=status, detached=self._is_detached)

    def begin_start(self, directory: str) -> None:
        """Move the output of the background to the record of the run, which has just been created."""
        if self._record is not None:
            self._record.move_log(os.path.join(directory, LAUNCHER_LOG))
            self._record.close(keep=False)
            self._record = None

    def end_wait(self, status: int, cause: Sequence[str]) -> None:
        """End the wait without a start. The reason of a background wait stays visible in ``fanout ps``."""
        if self._record is None:
            return
        keep = self._is_detached and status == ExitStatus.REFUSED
        if keep:
            self._record.update(cause="; ".join(cause), exit_code=int(status), ended=time.time())
        self._record.close(keep=keep)
        self._record = None

    def use_run_id(self, run_id: str) -> None:
        """Wait again under another id, because the record of a refused start has the first one."""
        self._run_id = run_id

    def _create_record(self) -> WaitingRecord:
        process = self._context.process
        root = self._context.find_runs_directory()
        remove_old_waits(root, time.time())
        waiting = WaitingRun(
            run=self._run_id,
            name=self._context.request.given["name"] or "",
            title=shlex.join(self._context.request.task),
            hosts=self._context.host_names,
            pid=os.getpid(),
            user=process.user,
            machine=process.machine,
            since=time.time(),
            signal=choose_stop_signal(),
            detached=self._is_detached,
        )
        return WaitingRecord(root, waiting)

    def _leave_terminal(self, text: str, record: WaitingRecord, parent_pipe: ParentPipe) -> None:
        process = self._context.process
        self.status.clear()
        process.print_message(f"run {self._run_id}: in the background, {text}")
        process.stderr.write(
            f"        fanout ps                          # shows what it waits for\n"
            f"        fanout stop {self._run_id}   # ends the wait\n"
        )
        process.stdout.flush()
        process.stderr.flush()
        self._is_detached = True
        redirect_output_to(record.log)
        self.status.leave_terminal()
        parent_pipe.release_parent()
