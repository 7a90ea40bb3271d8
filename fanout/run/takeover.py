"""Run takeover: resume a run after its launcher died, for the guardian, ``fanout stop`` and ``fanout attach``.

An ``RunHandle`` is a JSON object with what this needs: the hosts, how to reach them, and where the record is. It holds no
environment and no secret, so it may be stored in the run's directory. The record gives the state at which the old
launcher stopped. Each host's log continues at its last byte, and new events are appended to the record.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fanout.model.actions import StopReason
from fanout.model.containers import note_engine
from fanout.model.errors import FanoutError, LauncherError
from fanout.model.events import Chunk, Disconnected, Event, StreamOpened, Tick
from fanout.model.outcome import RunOutcome, outcome_of
from fanout.model.plan import LaunchPlan, NodePlan
from fanout.model.policy import policy_of
from fanout.model.run_info import RunInfo
from fanout.model.state import HostState, Phase, RunState, apply_event
from fanout.model.subscriber import Subscriber
from fanout.record.index import has_ended
from fanout.record.run_handle import RunHandle
from fanout.record.run_reader import RunReader, apply_recorded_event, reopen_host
from fanout.record.run_writer import RunWriter
from fanout.record.save_request import SaveRequest
from fanout.remote.fd_limit import raise_file_limit
from fanout.remote.login import ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.remote.transports.select import TransportSelector
from fanout.run.image_containers import describe_left, remove_containers, report_left
from fanout.run.notifications import resume_notifications
from fanout.run.session import Session
from fanout.run.step_progress import StepProgress
from fanout.ui.report_rows import ReportFacts
from fanout.ui.run_report import build_report

MARGIN_SECONDS = 60.0


class ResumedRun:
    """A resumed run. ``learners`` receive all events from its beginning, ``views`` only the new ones."""

    def __init__(
        self,
        order: RunHandle,
        *,
        by: str,
        agent: bool,
        learners: Sequence[Subscriber] = (),
        views: Sequence[Subscriber] = (),
        again: bool = False,
    ) -> None:
        """Read the record and prepare the connections. With ``again``, hosts that were given up are tried again."""
        self.order, self._by, self._has_agent = order, by, agent
        clock = Clock()
        self.heading = RunInfo(run_id=order.run_id, title="", hosts=tuple(host.name for host in order.hosts))
        self._have: dict[str, dict[int, tuple[int, int]]] = {}
        self._opened: list[StreamOpened] = []
        self._left = _reset_sent_actions(self._read_record(learners, clock()), again=again)
        hosts = (note_engine(host, self._left.hosts[host.name].hello) for host in order.hosts)
        self.order = replace(order, hosts=tuple(hosts))
        self.record = self._open_record()
        self.pool = self._build_pool(clock, by=by, agent=agent)
        subscribers = [*([self.record] if self.record else []), *learners, *views]
        self.session = Session(self.pool, self.heading.hosts, subscribers, state=self._left)

    def _read_record(self, learners: Sequence[Subscriber], now: float) -> RunState:
        """Return the state at the end of the record. An unreadable record must not prevent a stop of the run."""
        state = RunState.initial(self.heading.hosts, at=now)
        try:
            recorded = RunReader(self.order.directory)
            self.heading = recorded.heading
            state = RunState.initial(self.heading.hosts, at=recorded.began_at)
            for event in recorded.iter_recorded_events():
                state = apply_recorded_event(state, event)
                self._note_stream(event)
                for learner in learners:
                    learner(event, state)
        except FanoutError:
            return state
        is_observer = Tick(at=max(now, state.now))  # time passed without a launcher; a new one is present from here on
        state = apply_event(state, is_observer)
        for learner in learners:
            learner(is_observer, state)
        return state

    def _open_record(self) -> RunWriter | None:
        """Open the record to append to it. Return None if that fails: to stop the hosts is more important."""
        try:
            record = RunWriter(self.order.directory, self.heading)
        except LauncherError:
            return None
        for event in self._opened:
            record.register_stream(event)
        return record

    def _note_stream(self, event: Event) -> None:
        if isinstance(event, StreamOpened):
            self._opened.append(event)
        elif isinstance(event, Chunk):
            have = self._have.setdefault(event.host, {})
            size, crc = have.get(event.stream, (0, 0))
            if event.offset == size:
                have[event.stream] = (size + len(event.data), zlib.crc32(event.data, crc))

    def _build_pool(self, clock: Clock, *, by: str, agent: bool) -> ConnectionPool:
        order, settings = self.order, self.order.settings
        hosts = [host for host in order.hosts if not self._left.hosts[host.name].phase.is_final]
        selector = TransportSelector(settings, user=order.user, agent=agent)
        raise_file_limit(len(hosts), selector.open_files)
        options = ConnectionOptions(dials=settings.fanout, connect_timeout=settings.connect_timeout, by=by)
        pool = ConnectionPool(hosts, selector, options, clock)
        for name, link in pool.connections.items():
            link.resume_run(build_minimal_plan(order), self._have.get(name, {}))
            if self._left.hosts[name].connected:
                pool.post_event(Disconnected(at=clock(), host=name, why="its launcher died", launcher_died=True))
        return pool

    def end_run(self, reason: StopReason, why: str, save: SaveRequest | None = None) -> RunOutcome:
        """Connect to all hosts, stop the run, fetch the rest of the logs, and delete the run's directories.

        With ``save``, the ranks may save before. A host that cannot be reached within twice the grace plus a minute stays
        unknown.
        """
        grace = self.order.settings.grace
        self.pool.start()
        if save is not None:
            self.session.save_run(save.to_event(self.pool.clock()))
        return self.session.end_run(
            grace=grace, until=self.pool.clock() + 2 * grace + MARGIN_SECONDS, reason=reason, why=why
        )

    def continue_run(self) -> RunOutcome:
        """Follow the policy until the run is over, as the old launcher would have done."""
        if not any(host.go_at is not None for host in self.session.state.all_hosts):
            return self.end_run("launcher-died", "the launcher died before the start")
        self.pool.start()
        policy = policy_of(self.order.settings, prepare=False)
        return self.session.run_plan(policy, build_minimal_plan(self.order))

    def remove_containers(self) -> list[str]:
        """Remove the containers of images after the end of the run; record and return the hosts where one may be left."""
        order = self.order
        selector = TransportSelector(order.settings, user=order.user, agent=self._has_agent)
        left = remove_containers(order.hosts, order.settings, selector, self._by)
        report_left(self.session, left)
        if left and self.record:
            self.record.note(describe_left(left))
        return [host.name for host in left]

    def close(self) -> None:
        self.pool.close()
        if self.record:
            self.record.close()


def end_run(
    order: RunHandle,
    environ: Mapping[str, str],
    *,
    by: str,
    agent: bool,
    reason: StopReason,
    why: str,
    save: SaveRequest | None = None,
    views: Sequence[Subscriber] = (),
) -> RunState:
    """Stop the run and complete its record, with ``save`` after its ranks could save. Return the final state.

    The hook, the services and the metrics file get the end of the run, unless the run had ended before.
    """
    steps = StepProgress()
    notifications = None if has_ended(order.directory) else resume_notifications(order, environ, steps)[0]
    views = [*views, notifications] if notifications is not None else views
    taken = ResumedRun(order, by=by, agent=agent, learners=[steps], views=views, again=True)
    try:
        taken.end_run(reason, why, save)
        taken.remove_containers()
        outcome = outcome_of(taken.session.state)
        if outcome.is_clean and taken.record:
            facts = ReportFacts(heading=taken.heading, state=taken.session.state, outcome=outcome)
            taken.record.finish(outcome, build_report(facts))
        if notifications is not None:
            left = "nothing is left on the hosts" if outcome.is_clean else "not every host was verified"
            notifications.finish(outcome, f"{why}; {by} stopped the run, and {left}")
        return taken.session.state
    finally:
        taken.close()


def _reset_sent_actions(state: RunState, *, again: bool) -> RunState:
    """Clear the last actions of the dead launcher, so that they are sent again: they may never have arrived."""

    def left(host: HostState) -> HostState:
        if again and host.phase is Phase.LOST:
            return reopen_host(host)
        return host if host.phase.is_final else replace(host, release_at=None, kill_at=None)

    return replace(state, hosts={name: left(host) for name, host in state.hosts.items()})


def build_minimal_plan(order: RunHandle, ranks: Sequence[int] | None = None) -> LaunchPlan:
    """Return the part of the plan that finds the run on each host. ``ranks`` are its node ranks, if hosts are left out."""
    nodes = tuple(
        NodePlan(host=host, rank=rank, nproc=None, cwd="/", argv=(), env=(), needs=(), claims=(), run_id=order.run_id)
        for rank, host in zip(ranks or range(len(order.hosts)), order.hosts, strict=True)
    )
    return LaunchPlan(run_id=order.run_id, task=(), nodes=nodes, master_addr="", master_port=0)
