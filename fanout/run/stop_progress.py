"""Wait reports: while a run ends, name the unreachable hosts that the launcher waits for, and the deadline."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fanout.model.events import Event
from fanout.model.hosts import fold_names
from fanout.model.policy import Policy, hosts_waited_for
from fanout.model.state import RunState

REPORT_SECONDS = 15.0  # between two lines


class WaitReporter:
    """Subscriber that reports the wait at once, and then every 15 seconds."""

    broken = False

    def __init__(self, policy: Policy, outputs: Sequence[Callable[[str], None]]) -> None:
        self._policy = policy
        self._outputs = outputs
        self._reported_at = float("-inf")

    def __call__(self, event: Event, state: RunState) -> None:
        if state.now - self._reported_at < REPORT_SECONDS:
            return
        waited = hosts_waited_for(self._policy, state)
        if not waited:
            return
        self._reported_at = state.now
        since = min(state.hosts[name].disconnected_at or state.now for name in waited)
        left = max(0.0, max(waited.values()) - state.now)
        text = f"waiting for {fold_names(waited)}: no connection for {state.now - since:.0f} s; giving up in at most {left:.0f} s"
        for output in self._outputs:
            output(text)
