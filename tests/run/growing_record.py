"""A record that grows while a test reads it: written step by step, under the lock of its launcher."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from fanout.model.outcome import outcome_of
from fanout.model.run_info import AttemptInfo
from fanout.model.state import RunState, apply_event
from fanout.record import writer_lock
from fanout.record.run_writer import RunWriter
from tests.histories import History
from tests.ui.goldens import build_heading


class GrowingRecord:
    """Record of a run on two hosts that began now. The test process is its launcher."""

    def __init__(self, path: Path, *, run_id: str = "7f3a", attempt: int = 0) -> None:
        self.run = History("gpu01", "gpu02", at=time.time())
        info = AttemptInfo(number=attempt, max_restarts=3, used=attempt)
        self._writer = RunWriter(str(path), replace(build_heading(self.run.hosts), run_id=run_id, attempt=info))
        self._writer.begin(self.run.began_at)
        self._state = RunState.initial(self.run.hosts, at=self.run.began_at)
        self._written = 0
        owner = writer_lock.LockOwner(pid=os.getpid(), user="me", machine="pc", since=self.run.began_at, detached=True)
        self._lock = writer_lock.acquire_lock(str(path), owner)
        assert self._lock is not None
        self.run.connect_hosts().start_hosts()
        self.write_events()

    def add_step(self, step: int) -> None:
        """Add one line of each host."""
        for host in self.run.hosts:
            self.run.add_output(host, f"step {step}/100 loss {4 - step / 50:.4f}\n".encode())
        self.run.pass_time(1.0)
        self.write_events()

    def write_events(self) -> None:
        """Write the events that the run has had since the last call."""
        for event in self.run.events[self._written :]:
            self._state = apply_event(self._state, event)
            self._writer(event, self._state)
        self._written = len(self.run.events)

    def end_run(self, *, code: int = 0) -> None:
        """End all hosts, and write the outcome."""
        self.run.end_hosts(*self.run.hosts, code=code).release_hosts(*self.run.hosts)
        self.write_events()
        self._writer.write_file("order.json", "{}")
        self._writer.finish(outcome_of(self._state), "")
        self.close()

    def close(self) -> None:
        """Release the record, as the death of its launcher does."""
        self._writer.close()
        if self._lock is not None:
            self._lock.release_lock()
        self._lock = None
