"""Fence watch: end the fence of a lost host early, if it answers again and nothing of the attempt is left there.

A host that answers may still train. So it is stopped like every other host, and its log is fetched to the end. Contact
renews its lease: if it is lost again, its fence begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType

from fanout.model.actions import Action
from fanout.model.boots import find_restart
from fanout.model.events import Tick
from fanout.model.hosts import fold_names
from fanout.model.state import HostState, Phase
from fanout.recovery.fence import compute_fence_end
from fanout.remote.pool import Clock, ConnectionPool
from fanout.run.connections import SignalRouter, open_connections
from fanout.run.launch import Launch
from fanout.run.session import Session
from fanout.run.takeover import build_minimal_plan

EVENTS_AT_ONCE = 500
WHY = "the attempt has ended"


class FenceWatch:
    """Connections to the lost hosts of an attempt. ``ends`` is host -> end of its fence, for hosts that may still train."""

    def __init__(self, launch: Launch, ends: dict[str, float], clock: Clock) -> None:
        self.ends = ends
        self._launch = launch
        self._ended: set[tuple[str, type[Action]]] = set()
        self._stack = ExitStack()
        hosts = tuple(host for host in launch.context.hosts if host.name in ends)
        context = replace(launch.context, hosts=hosts)
        ranks = [launch.context.host_names.index(host.name) for host in hosts]
        handle = replace(launch.build_handle(), hosts=hosts)

        def resume(pool: ConnectionPool) -> None:
            for host in hosts:
                pool.connections[host.name].resume_run(
                    build_minimal_plan(handle, ranks), launch.session.get_received(host.name)
                )

        pool = self._stack.enter_context(
            open_connections(context, before=resume, router=SignalRouter(), clock=clock)  # signals stay with the launch
        )
        self._session = Session(pool, [host.name for host in hosts], [launch.record])

    def __enter__(self) -> FenceWatch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def step(self) -> None:
        """Process what has arrived; stop hosts that answer, and end the fence of those that are clean."""
        settings = self._launch.settings
        for _ in range(EVENTS_AT_ONCE):
            if isinstance(self._session.run_step(0.0), Tick):
                break
        self._session.end_connected_hosts(self._ended, grace=settings.grace, reason="host-failed", why=WHY)
        returned = []
        for host in self._session.state.all_hosts:
            if host.name in self.ends and self._is_clean(host):
                returned.append(host.name)
                del self.ends[host.name]
            elif host.name in self.ends and host.connected_at is not None:
                seen = host.disconnected_at or self._session.state.now
                end = compute_fence_end(seen, lease=settings.lease, grace=settings.grace)
                self.ends[host.name] = max(self.ends[host.name], end)
        self._report(returned)

    def _is_clean(self, host: HostState) -> bool:
        """Return whether nothing of the attempt is left on the host: it verified that, or it has rebooted."""
        if host.cleaned_up is not None:
            return not host.cleaned_up.left and host.phase is Phase.RELEASED
        before = self._launch.session.state.hosts[host.name].hello
        return find_restart(str(before.get("boot_id", "")), str(host.hello.get("boot_id", ""))) is not None

    def _report(self, names: Sequence[str]) -> None:
        if names:
            verb = "answers" if len(names) == 1 else "answer"
            self._launch.note(
                f"{fold_names(names)} {verb} again, and nothing of the attempt is left: the fence is over"
            )
