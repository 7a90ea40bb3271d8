"""Watch for a planned stop: turn the request in the record of a run into an event of its launcher."""

from __future__ import annotations

import os
import signal

from fanout.model.events import Event, Interrupted
from fanout.model.state import Phase, RunState
from fanout.record.save_request import REQUEST_FILE, read_request
from fanout.remote.pool import ConnectionPool

LOOK_SECONDS = 0.5


class SaveRequestWatch:
    """Subscriber that turns each new request into an event. While no rank runs, the request stops the run like SIGTERM."""

    broken = False

    def __init__(self, run: str, pool: ConnectionPool) -> None:
        self._run, self._pool = run, pool
        self._looked_at = float("-inf")
        self._changed_at = 0

    def __call__(self, event: Event, state: RunState) -> None:
        if state.now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = state.now
        try:
            changed_at = os.stat(os.path.join(self._run, REQUEST_FILE)).st_mtime_ns
        except OSError:
            return  # there is none
        request = read_request(self._run)
        known = state.save_request is not None and state.save_request.at * 1e9 >= changed_at  # by a launcher before
        if changed_at == self._changed_at or known or request is None:
            return
        self._changed_at = changed_at
        at = self._pool.clock()
        if any(host.phase is Phase.RUNNING for host in state.all_hosts):
            self._pool.post_event(request.to_event(at))
        else:
            self._pool.post_event(Interrupted(at=at, signal=int(signal.SIGTERM), by=request.by))
