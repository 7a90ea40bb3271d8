"""Attempts of a run: start them one after the other, as ``recovery`` decides, until one ends the run.

Two attempts never overlap: the next one starts only after every host of the last one has ended its part, or its fence is
over. The hosts keep their claims in between, so no other run takes the port or the GPUs.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from fanout.model.attempt_plan import AttemptPlan
from fanout.model.attempt_record import AttemptRecord, NextAction
from fanout.model.events import Restarting, RestartPhase
from fanout.model.hosts import Host
from fanout.model.outcome import describe_stopper, stop_between_attempts, stop_by_time_limit
from fanout.model.subscriber import Subscriber
from fanout.record.index import ATTEMPTS_FILE, create_run_directory, make_run_id
from fanout.recovery import attempt_report
from fanout.recovery.attempt import AttemptEnd, Fleet
from fanout.recovery.decision import Decision, EndRun, Restart, advise_restarts
from fanout.recovery.fence import compute_fence_end, find_last_contact, plan_wait
from fanout.recovery.restart_planner import RestartPlanner
from fanout.recovery.roster import choose_hosts
from fanout.remote.pool import Clock
from fanout.run import detach
from fanout.run.answering_hosts import find_answering_hosts
from fanout.run.attempt_end import build_attempt_end
from fanout.run.check_refusal import list_absent_hosts, list_faulty_hosts
from fanout.run.claim_holder import ClaimHolder
from fanout.run.command_file import write_command
from fanout.run.connections import route_signals
from fanout.run.fence_watch import FenceWatch
from fanout.run.image_containers import use_images
from fanout.run.launch import Launch, RunResources
from fanout.run.launcher_host import list_host_warnings
from fanout.run.notifications import Notifications, describe_cause
from fanout.run.recovery_options import build_recovery_options
from fanout.run.run_context import RunContext
from fanout.run.run_screen import RunScreen
from fanout.run.task_files import TaskFiles
from fanout.text.units import format_duration
from fanout.ui.attempt_table import render_attempts

PORTS_TRIED = 20  # after the first port
FENCE_STEP_SECONDS = 0.2  # between two looks at the lost hosts
MIN_SECONDS_LEFT = 1.0  # of the time limit, for an attempt that starts


class AttemptLoop:
    """The attempts of one run, in order. ``first`` is the launch of attempt 0. ``observers`` receive all events too."""

    def __init__(
        self,
        context: RunContext,
        files: TaskFiles,
        run_id: str,
        observers: Sequence[Subscriber] = (),
        begin_start: Callable[[str], None] | None = None,
    ) -> None:
        self._observers = observers
        self._begin_start = begin_start  # gets the directory of the run when it exists
        self.options = build_recovery_options(context.settings, context.count)
        self.context, self.files, self.run_id = use_images(context, run_id, files.directory), files, run_id
        self._hosts = {host.name: host for host in (*self.context.hosts, *self.context.spares)}
        self._planner = RestartPlanner(self.options, context.host_names, [host.name for host in context.spares])
        self._records: list[AttemptRecord] = []
        self._port, self._clock = context.settings.master_port, Clock()
        self._limit_at: float | None = None  # when --time-limit ends the run, from the first start on
        self.first = self._build_launch(self.context.hosts, AttemptPlan(max_restarts=self.options.max_restarts))
        self.current = self.first  # the attempt that runs; at the end, the one whose report is that of the run
        self._notifications: Notifications | None = None

    @property
    def was_outrun(self) -> bool:
        """Return whether nothing was started only because another run or process uses a host."""
        return not self._planner.history[1:] and self.first.was_outrun

    def prepare(self) -> Notifications:
        """Raise all errors of the request, then create the directory of the run. Raises UsageError, LauncherError."""
        for warning in list_host_warnings(self.context, self.files):
            self.context.process.print_message(warning)
        self.first.check_plan()
        self._notifications = Notifications(self.context.settings, self.context.process.environ)
        self._make_directory()
        write_command(self.context, self.first.directory)
        return self._notifications

    def run(self, parent_pipe: detach.ParentPipe | None = None) -> int:
        """Run all attempts; return the exit status of the last one. With a ``parent_pipe``, the user can detach."""
        notifications = self._notifications or self.prepare()
        once = parent_pipe.deliver_once if parent_pipe is not None else None
        signals = route_signals(self.context.process.signals, once=once, record=self.first.directory)
        with ExitStack() as locks, signals as router:
            screen = self._open_screen(parent_pipe, partial(router.handle_signal, signal.SIGINT, None))
            locks.callback(screen.close)
            notifications.begin(self.first.heading, self.first.directory)
            resources = RunResources(router=router, locks=locks, screen=screen, clock=self._clock)
            return self._run_attempts(resources, notifications)

    def _open_screen(self, parent_pipe: detach.ParentPipe | None, stop: Callable[[], None]) -> RunScreen:
        first = self.first
        keep = first.settings.on_hangup == "keep"
        return RunScreen(
            first.heading,
            first.reporters,
            first.look,
            first.process,
            first.filters,
            parent_pipe=parent_pipe,
            keep=keep,
            stop=stop,
        )

    def _run_attempts(self, run: RunResources, notifications: Notifications) -> int:
        launch, holder = self.first, ClaimHolder()
        try:
            while True:
                describe = partial(
                    attempt_report.describe_first_step, tuple(self._planner.history), launch.attempt.number
                )
                notifications.begin_attempt(launch.attempt.number, launch.context.host_names, launch.steps)
                self.current = launch
                launch.start(run, [holder, notifications, *self._observers], describe)
                self._port = launch.plan.master_port if launch.plan is not None else self._port
                decision = self._decide(launch)
                if isinstance(decision, Restart) and not self._wait_for_restart(launch, decision):
                    decision = self._cancel_restart(launch)
                if isinstance(decision, EndRun):
                    return self._finish(launch, holder, notifications)
                run.router.keep_signals()
                before = holder.keep(launch)
                launch = self._build_next(launch, before, decision)
        except BaseException:
            launch.close()  # a connection that closes only at the exit of Python would wait for a thread without end
            holder.close()
            raise

    # -- launches

    def _make_directory(self) -> None:
        """Create the directory of the run. If another run has the id, draw a new one."""
        while not create_run_directory(self.first.directory):
            self.run_id = make_run_id()
            self.first = self._build_launch(self.context.hosts, self.first.attempt)
        if self._begin_start is not None:
            self._begin_start(self.first.directory)

    def _build_launch(self, hosts: Sequence[Host], attempt: AttemptPlan, now: float = 0.0) -> Launch:
        """Return a launch. ``now`` is the time: all attempts together have one time limit."""
        settings = replace(self.context.settings, master_port=self._port)
        if attempt.number:  # the hosts hold the claim on this port
            settings = replace(settings, master_port_given=True)
        if self._limit_at is not None:
            settings = replace(settings, time_limit=max(MIN_SECONDS_LEFT, self._limit_at - now))
        context = replace(self.context, hosts=tuple(hosts), settings=settings)
        return Launch(context, self.files, self.run_id, attempt)

    def _build_next(self, launch: Launch, before: Launch | None, restart: Restart) -> Launch:
        """Return the next attempt. It takes over the claims that the hosts still hold from ``before``."""
        claims = {}
        if before is not None:
            claims = {name: (before.attempt_id, rank) for rank, name in enumerate(before.context.host_names)}
        reason = launch.attempt.reason
        if launch.has_started:
            reason = attempt_report.build_restart_reason(self._planner.history[-1], restart.failure_class)
        attempt = AttemptPlan(
            number=launch.attempt.number + 1,
            max_restarts=self.options.max_restarts,
            used=restart.used,
            cause=self._describe_end(launch, restart),
            reason=reason,
            before=claims,
        )
        hosts = [self._hosts[name] for name in restart.roster.hosts]
        following = self._build_launch(hosts, attempt, launch.session.state.now)
        create_run_directory(following.directory)
        return following

    # -- decisions

    def _decide(self, launch: Launch) -> Decision:
        """Decide what follows the attempt, and record it."""
        state = launch.session.state
        end = build_attempt_end(launch.attempt.number, state, launch.outcome, launch.verdict, launch.steps)
        if launch.has_started or not launch.attempt.number or end.requested:
            self._planner.record_end(end)
            decision: Decision = EndRun(reason="not-started")  # the first attempt: its report has the reason
            if launch.has_started or end.requested:
                decision = self._planner.decide_after_end(self._find_answering(launch, self._planner.list_wanted()))
                decision = self._apply_time_limit(launch, decision)
        else:
            decision = self._retry_start(launch)
        self._append_record(launch, self._build_record(launch, end, decision))
        return decision

    def _apply_time_limit(self, launch: Launch, decision: Decision) -> Decision:
        """Return the decision, or the end of the run if the next attempt had no time before the limit."""
        state, limit = launch.session.state, self.context.settings.time_limit
        started = [host.go_at for host in state.all_hosts if host.go_at is not None]
        if self._limit_at is None and limit is not None and started:
            self._limit_at = min(started) + limit
        if limit is None or self._limit_at is None or not isinstance(decision, Restart):
            return decision
        if self._limit_at - self._plan_wait(launch, decision)[1] > (launch.settings.save_before or 0.0):
            return decision
        launch.outcome = stop_by_time_limit(launch.outcome, launch.attempt.number + 1)
        why = f"the time limit of {format_duration(limit)} leaves no time for another attempt"
        return EndRun(reason="time-limit", why=why)

    def _build_record(self, launch: Launch, end: AttemptEnd, decision: Decision) -> AttemptRecord:
        fence_until = until = None
        advice = ""
        if isinstance(decision, Restart):
            fence_until, until = self._plan_wait(launch, decision)
        elif decision.reason == "off":
            advice = attempt_report.describe_advice(advise_restarts(self.options, self._planner.history, Fleet()))
        return attempt_report.build_record(
            launch.attempt_id,
            launch.outcome.exit_code,
            end,
            decision,
            fence_until=fence_until,
            until=until,
            advice=advice,
        )

    def _find_answering(self, launch: Launch, names: Sequence[str]) -> frozenset[str]:
        """Return which of these hosts, which were away, answer again."""
        return find_answering_hosts(launch, [self._hosts[name] for name in names]) if names else frozenset()

    def _retry_start(self, launch: Launch) -> Decision:
        """Return how to start an attempt again that the check or a host refused: another port, or other hosts."""
        if launch.refusal.checks == {"master-port"} and self._port - self.context.settings.master_port < PORTS_TRIED:
            self._port += 1
            roster = choose_hosts(launch.context.host_names, (), Fleet(), size=1)
            assert roster is not None
            used = launch.attempt.used
            return Restart(
                roster=roster, wait_seconds=0.0, used=used, failure_class="port-taken", why="the port is taken"
            )
        failed = launch.refusal, launch.outcome, launch.session.state
        return self._planner.decide_after_refusal(
            launch.attempt.number,
            launch.context.host_names,
            out=list_faulty_hosts(*failed),
            away=list_absent_hosts(*failed),
            answering=self._find_answering(launch, self._planner.list_away()),
            used=launch.attempt.used,
        )

    # -- between attempts, and the end

    def _wait_for_restart(self, launch: Launch, restart: Restart) -> bool:
        """Announce each phase before the restart, and wait for its end. Return False if the user interrupts."""
        fence_until, wait_until = self._plan_wait(launch, restart)
        backoff_until = wait_until if fence_until is None else self._planner.history[-1].ended_at + restart.wait_seconds
        ends: dict[RestartPhase, float] = {"fence": fence_until or 0.0, "backoff": backoff_until, "start": 0.0}
        for phase, until in ends.items():
            now = launch.session.state.now
            if launch.session.state.interrupts:
                return False
            if until <= now and phase != "start":
                continue
            launch.announce_restart(
                Restarting(
                    at=now,
                    attempt=launch.attempt.number + 1,
                    phase=phase,
                    until=max(now, until),
                    cause=self._describe_end(launch, restart),
                    action=attempt_report.describe_restart(self.options, restart),
                    failure_class=restart.failure_class,
                )
            )
            if not (self._wait_for_fences(launch) if phase == "fence" else launch.wait(until - now)):
                return False
        return True

    def _wait_for_fences(self, launch: Launch) -> bool:
        """Wait until no lost host can still train; return False at once if the user interrupts."""
        with FenceWatch(launch, self._find_fence_ends(launch), self._clock) as fence:
            while fence.ends and launch.session.state.now < max(fence.ends.values()):
                if not launch.wait(FENCE_STEP_SECONDS):
                    return False
                fence.step()
        last, now = self._records.pop(), launch.session.state.now
        until = max(now, self._planner.history[-1].ended_at + (last.next.wait or 0.0))
        self._append_record(launch, replace(last, next=replace(last.next, fence_until=now, until=until)))
        return True

    def _describe_end(self, launch: Launch, restart: Restart) -> str:
        """Return in one line how the attempt ended."""
        if launch.has_started:
            return attempt_report.describe_failure(self._planner.history[-1])
        return f"attempt {launch.attempt.number} did not start: {restart.why}"

    def _cancel_restart(self, launch: Launch) -> EndRun:
        """Return the decision after an interrupt, and record that no attempt follows."""
        state, following = launch.session.state, launch.attempt.number + 1
        launch.outcome = stop_between_attempts(launch.outcome, state, following)
        why = f"stopped {describe_stopper(state)} before attempt {following}"
        last = self._records.pop()
        self._append_record(launch, replace(last, next=NextAction(action="end", reason="requested", why=why)))
        return EndRun(reason="requested", why=why)

    def _plan_wait(self, launch: Launch, restart: Restart) -> tuple[float | None, float]:
        """Return the end of the fence, None without one, and the end of the whole wait."""
        ended = self._planner.history[-1].ended_at if launch.has_started else launch.session.state.now
        return plan_wait(ended, restart.wait_seconds, self._find_fence_ends(launch).values())

    def _find_fence_ends(self, launch: Launch) -> dict[str, float]:
        """Return lost host -> when it has certainly ended its part."""
        settings, state = launch.settings, launch.session.state
        lost = self._planner.history[-1].lost if launch.has_started else ()
        seen = {name: find_last_contact(state.hosts[name], state.now) for name in lost}
        return {name: compute_fence_end(at, lease=settings.lease, grace=settings.grace) for name, at in seen.items()}

    def _finish(self, launch: Launch, holder: ClaimHolder, notifications: Notifications) -> int:
        """Release the hosts, print the report with one line per attempt, and return the exit status.

        The report is that of the last attempt that started. If the user stopped the run between two attempts, its outcome
        is the stop.
        """
        reported = launch
        if not launch.has_started and holder.launch is not None:
            reported = holder.take()
            launch.finish(prints=False)
            if launch.outcome.origin == "user":
                reported.outcome = stop_between_attempts(reported.outcome, launch.session.state, launch.attempt.number)
        holder.release()
        self.current = reported
        code = reported.finish(partial(render_attempts, self._records), hosts=tuple(self._hosts.values()))
        for problem in notifications.finish(reported.outcome, describe_cause(reported.verdict)):
            self.context.process.print_message(problem)
        return code

    def _append_record(self, launch: Launch, record: AttemptRecord) -> None:
        self._records.append(record)
        try:
            with open(os.path.join(self.first.directory, ATTEMPTS_FILE), "a", encoding="utf-8") as file:
                file.write(f"{json.dumps(record.to_dict())}\n")
        except OSError as error:
            launch.note(f"cannot write {ATTEMPTS_FILE}: {error.strerror}")
