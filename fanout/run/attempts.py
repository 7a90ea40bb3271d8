"""Attempts of a run: start them one after the other, as ``recovery`` decides, until one ends the run.

Two attempts never overlap: the next one starts only after every host of the last one has ended its part, or its fence is
over. The hosts keep their claims in between, so no other run takes the port or the GPUs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from fanout.model.attempt_plan import AttemptPlan
from fanout.model.events import Event
from fanout.model.exit_status import status_of_signal
from fanout.model.hosts import Host, fold_names
from fanout.model.state import RunState
from fanout.record.command_record import COMMAND_FILE, build_command_record
from fanout.record.index import ATTEMPTS_FILE, create_run_directory, make_run_id
from fanout.recovery import attempt_report
from fanout.recovery.attempt import AttemptEnd, Fleet
from fanout.recovery.decision import Decision, EndRun, Restart, advise_restarts, decide_next
from fanout.recovery.fence import compute_fence_end
from fanout.recovery.roster import choose_hosts
from fanout.run import detach
from fanout.run.attempt_end import build_attempt_end
from fanout.run.connections import route_signals
from fanout.run.launch import Launch
from fanout.run.launcher_host import describe_launcher_host
from fanout.run.recovery_options import build_recovery_options
from fanout.run.run_context import RunContext
from fanout.run.spare_check import check_spares
from fanout.run.task_files import TaskFiles

NOTE_SECONDS = 30.0  # between two messages about a wait
PORTS_TRIED = 20  # after the first port


class AttemptLoop:
    """The attempts of one run, in order. ``first`` is the launch of attempt 0."""

    def __init__(self, context: RunContext, files: TaskFiles, run_id: str) -> None:
        self.options = build_recovery_options(context.settings, context.count)
        self.context, self.files, self.run_id = context, files, run_id
        self._hosts = {host.name: host for host in (*context.hosts, *context.spares)}
        self._history: list[AttemptEnd] = []
        self._decisions: list[Decision] = []
        self._faulty: set[str] = set()  # hosts that never take part again
        self._away: set[str] = set()  # hosts that were lost, and may come back
        self._port = context.settings.master_port
        self.first = self._build_launch(context.hosts, AttemptPlan(max_restarts=self.options.max_restarts))

    def run(self, parent_pipe: detach.ParentPipe | None = None) -> int:
        """Run all attempts; return the exit status of the last one. With a ``parent_pipe``, the user can detach."""
        self._warn_of_hosts()
        self.first.check_plan()
        self._make_directory()
        self._write_command()
        once = parent_pipe.deliver_once if parent_pipe is not None else None
        launch, holder = self.first, _ClaimHolder()
        with ExitStack() as locks, route_signals(once=once) as router:
            while True:
                describe = partial(attempt_report.describe_first_step, tuple(self._history))
                try:
                    launch.start(router, locks, parent_pipe, holder, describe)
                except BaseException:
                    launch.close()
                    holder.close()
                    raise
                parent_pipe = None if launch.left else parent_pipe
                decision = self._decide(launch)
                if isinstance(decision, EndRun) or not self._wait_for_restart(launch, decision):
                    return self._finish(launch, holder, decision)
                before = holder.keep(launch)
                launch = self._build_next(launch, before, decision)

    def _warn_of_hosts(self) -> None:
        """Warn about a launcher that fails with a host, and about spares that cannot take part."""
        warning = describe_launcher_host(self.context) if self.options.max_restarts else ""
        if warning:
            self.context.process.print_message(warning)
        if self.options.max_restarts and self.context.spares and not self.context.settings.skip_check:
            for warning in check_spares(self.context, self.files):
                self.context.process.print_message(f"warning: {warning}")

    # -- launches

    def _make_directory(self) -> None:
        """Create the directory of the run. If another run has the id, draw a new one."""
        while not create_run_directory(self.first.directory):
            self.run_id = make_run_id()
            self.first = self._build_launch(self.context.hosts, self.first.attempt)

    def _write_command(self) -> None:
        """Record the command line for ``fanout rerun``."""
        process = self.context.process
        command = build_command_record(self.context.request, process.environ, process.cwd)
        try:
            with open(os.path.join(self.first.directory, COMMAND_FILE), "x", encoding="utf-8") as file:
                file.write(command.to_json())
        except OSError as error:
            process.print_message(f"cannot write {COMMAND_FILE}: {error.strerror}")

    def _build_launch(self, hosts: Sequence[Host], attempt: AttemptPlan, *, left: bool = False) -> Launch:
        settings = replace(self.context.settings, master_port=self._port)
        context = replace(self.context, hosts=tuple(hosts), settings=settings)
        return Launch(context, self.files, self.run_id, attempt, left=left)

    def _build_next(self, launch: Launch, before: Launch | None, restart: Restart) -> Launch:
        """Return the next attempt. It takes over the claims that the hosts still hold from ``before``."""
        claims = {}
        if before is not None:
            claims = {name: (before.attempt_id, rank) for rank, name in enumerate(before.context.host_names)}
        attempt = AttemptPlan(
            number=launch.attempt.number + 1,
            max_restarts=self.options.max_restarts,
            reason=restart.failure_class,
            before=claims,
        )
        hosts = [self._hosts[name] for name in restart.roster.hosts]
        following = self._build_launch(hosts, attempt, left=launch.left)
        create_run_directory(following.directory)
        return following

    # -- decisions

    def _decide(self, launch: Launch) -> Decision:
        """Decide what follows the attempt, and record it."""
        state = launch.session.state
        end = build_attempt_end(launch.attempt.number, state, launch.outcome, launch.verdict, launch.steps)
        if launch.has_started or not launch.attempt.number or end.requested:
            self._history.append(end)
            self._away |= set(end.lost)
            self._faulty |= set(end.unclean)
            decision: Decision = EndRun(reason="not-started")  # the first attempt: its report has the reason
            if launch.has_started or end.requested:
                decision = decide_next(self.options, self._history, self._list_fleet(end))
            self._decisions.append(decision)
            if isinstance(decision, Restart):
                self._faulty |= {old for old, _ in decision.roster.replaced} - self._away
        else:
            decision = self._retry_start(launch)
        record = attempt_report.build_record(launch.attempt_id, launch.outcome.exit_code, end, decision)
        self._append_record(json.dumps(record))
        return decision

    def _list_fleet(self, last: AttemptEnd) -> Fleet:
        out = self._faulty | self._away
        spares = tuple(host.name for host in self.context.spares if host.name not in out)
        back = tuple(name for name in self._hosts if name in self._away and name not in last.lost)
        return Fleet(spares=spares, returned=back)

    def _retry_start(self, launch: Launch) -> Decision:
        """Return how to start an attempt again that the check or a host refused: another port, or other hosts."""
        last = self._history[-1]
        if launch.failed_checks == {"master-port"} and self._port - self.context.settings.master_port < PORTS_TRIED:
            self._port += 1
            roster = choose_hosts(launch.context.host_names, (), Fleet(), size=1)
            assert roster is not None
            return Restart(roster=roster, wait_seconds=0.0, used=0, failure_class="port-taken", why="the port is taken")
        failing = launch.failed_hosts
        self._faulty |= failing
        names = fold_names(name for name in launch.context.host_names if name in failing) or "the hosts"
        roster = choose_hosts(
            launch.context.host_names,
            failing,
            self._list_fleet(last),
            size=len(self._history[0].hosts),
            min_hosts=self.options.min_hosts,
        )
        if roster is None or not failing:
            why = f"attempt {launch.attempt.number} could not start on {names}, and no spare host is left"
            return EndRun(reason="no-hosts", why=why)
        return Restart(
            roster=roster, wait_seconds=0.0, used=0, failure_class="check-failed", why=f"{names} cannot take part"
        )

    # -- between attempts, and the end

    def _wait_for_restart(self, launch: Launch, restart: Restart) -> bool:
        """Print what follows, then wait for the backoff and the fences. Return False if the user interrupts."""
        launch.close_view()
        note = launch.print_note
        if launch.has_started:
            note(attempt_report.format_restart(self.options, self._history[-1], restart))
        else:
            note(
                f"attempt {launch.attempt.number} did not start: {restart.why}: {attempt_report.describe_action(restart)}"
            )
        now = launch.session.state.now
        fence = self._find_fence_end(launch)
        until = max(now + restart.wait_seconds, fence)
        while now < until:
            what = "the lost host ends its part by itself" if until == fence else "waiting before the restart"
            note(f"{what}: {until - now:.0f} s left")
            if not launch.wait(min(NOTE_SECONDS, until - now)):
                return False
            now = launch.session.state.now
        return not launch.session.state.interrupts

    def _find_fence_end(self, launch: Launch) -> float:
        """Return when every lost host has certainly ended its part."""
        settings, state = launch.settings, launch.session.state
        ends = [0.0]
        for name in self._history[-1].lost if launch.has_started else ():
            host = state.hosts[name]
            seen = max(host.last_message_at or 0.0, host.disconnected_at or 0.0) or state.now
            ends.append(compute_fence_end(seen, lease=settings.lease, grace=settings.grace))
        return max(ends)

    def _finish(self, launch: Launch, holder: _ClaimHolder, decision: Decision) -> int:
        """Release the hosts, print the report with one line per attempt, and return the exit status.

        The report is that of the last attempt that started. If the user stopped the run between two attempts, the status
        is that of the signal.
        """
        interrupts = launch.session.state.interrupts
        reported = launch
        if not launch.has_started and holder.launch is not None:
            reported = holder.take()
            launch.finish(prints=False)
        holder.release()
        advice = None
        if isinstance(decision, EndRun) and decision.reason == "off":
            advice = advise_restarts(self.options, self._history, Fleet())
        notes = attempt_report.list_report_lines(self._history, self._decisions, decision, advice)
        code = reported.finish(notes)
        return status_of_signal(interrupts[0]) if interrupts and isinstance(decision, Restart) else code

    def _append_record(self, line: str) -> None:
        try:
            with open(os.path.join(self.first.directory, ATTEMPTS_FILE), "a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            self.context.process.print_message(f"cannot write {ATTEMPTS_FILE}: {error.strerror}")


class _ClaimHolder:
    """Subscriber that releases the attempt before, once the next one has started everywhere."""

    broken = False

    def __init__(self) -> None:
        self.launch: Launch | None = None

    def take(self) -> Launch:
        """Return the kept attempt, and keep it no longer."""
        assert self.launch is not None
        launch, self.launch = self.launch, None
        return launch

    def keep(self, launch: Launch) -> Launch | None:
        """Keep this attempt's hosts until the next one has started, if it has any; return the kept attempt."""
        if launch.plan is None:
            launch.finish(prints=False)
        else:
            self.release()
            self.launch = launch
        return self.launch

    def release(self) -> None:
        """Release the hosts of the kept attempt, and complete its record."""
        if self.launch is not None:
            self.take().finish(prints=False)

    def close(self) -> None:
        """Close the connections of the kept attempt after an error; its guardian ends what is left."""
        if self.launch is not None:
            self.take().close()

    def __call__(self, event: Event, state: RunState) -> None:
        if self.launch is not None and all(host.go_at is not None for host in state.all_hosts):
            self.release()
