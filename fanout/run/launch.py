"""One attempt of a run: connect, check, plan, start on all hosts, watch, stop together, diagnose.

A run without ``--max-restarts`` has one attempt. ``attempts.py`` decides what follows an attempt.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib import import_module

from fanout import __version__
from fanout.diagnose.verdict import Verdict, to_dict
from fanout.logs.line_filters import parse_display_filters
from fanout.logs.tail import LogTails
from fanout.model import plan_text
from fanout.model.attempt_plan import AttemptPlan, make_attempt_id
from fanout.model.errors import LauncherError, UsageError
from fanout.model.events import FirstStep, Restarting
from fanout.model.frozen import frozen
from fanout.model.host_facts import HostFacts
from fanout.model.hosts import Host
from fanout.model.outcome import RunOutcome, outcome_of, with_log_gaps, with_unverified_hosts
from fanout.model.plan import LaunchPlan
from fanout.model.policy import policy_of
from fanout.model.run_info import RunInfo
from fanout.model.subscriber import Subscriber
from fanout.record import run_handle, writer_lock
from fanout.record.index import HANDLE_FILE, get_attempt_path
from fanout.record.run_writer import RunWriter
from fanout.remote.pool import Clock
from fanout.run import detach, diagnosis, image_containers
from fanout.run.attempt_diagnosis import diagnose_attempt
from fanout.run.attempt_reporters import AttemptReporters
from fanout.run.check_refusal import CheckRefusal
from fanout.run.choose_view import choose_look
from fanout.run.connections import SignalRouter, open_connections
from fanout.run.guardian import Guardian
from fanout.run.login_notices import iter_login_notices
from fanout.run.run_context import RunContext, resolve_first_host
from fanout.run.run_screen import RunScreen
from fanout.run.save_watch import SaveRequestWatch
from fanout.run.session import Session
from fanout.run.step_progress import StepProgress
from fanout.run.stop_progress import WaitReporter
from fanout.run.stop_signals import choose_stop_signal
from fanout.run.task_files import TaskFiles, build_planner
from fanout.sharing.wait_policy import PASSING_CHECKS


@frozen
class RunResources:
    """What all attempts of a run share. ``locks`` keeps the locks of their records until the end of the run."""

    router: SignalRouter
    locks: ExitStack
    screen: RunScreen
    clock: Clock


class Launch:
    """One attempt. Call ``start``, then ``finish`` or ``close``; between them the hosts keep their claims."""

    def __init__(self, context: RunContext, files: TaskFiles, run_id: str, attempt: AttemptPlan) -> None:
        self.context, self.files, self.run_id, self.attempt = context, files, run_id, attempt
        self.settings, self.process = context.settings, context.process
        quiet = context.request.given["detach"] and self.settings.output == "auto"
        self.look = choose_look(context, "plain" if quiet else "")
        self.filters = parse_display_filters(self.settings)
        self.attempt_id = make_attempt_id(run_id, attempt.number)
        self.planner = build_planner(context, files, self.attempt_id, attempt)
        nproc = self.settings.nproc_per_node
        self.heading = RunInfo(
            run_id=self.attempt_id,
            title=shlex.join(context.request.task),
            name=context.request.given.get("name", ""),
            hosts=context.host_names,
            log_dir=get_attempt_path(os.path.join(context.find_runs_directory(), run_id), attempt.number),
            attempt=attempt.info,
            ranks={host.name: (rank, nproc or host.slots) for rank, host in enumerate(context.hosts)},
            lease=self.settings.lease,
            connect_timeout=self.settings.connect_timeout,
        )
        self.signatures = diagnosis.load_signatures(context)
        self.collector = diagnosis.build_collector(self.heading, self.signatures)
        self.reporters = AttemptReporters.build(self.collector)
        self.tails, self.steps = LogTails(), StepProgress(self.filters.metric)
        self.refusal = CheckRefusal()
        self.plan: LaunchPlan | None = None
        self.verdict: Verdict | None = None
        self._stack = ExitStack()

    @property
    def directory(self) -> str:
        """Return the directory of the attempt's record."""
        assert self.heading.log_dir is not None
        return self.heading.log_dir

    @property
    def has_started(self) -> bool:
        """Return whether train.sh was started on any host."""
        return any(host.go_at is not None for host in self.session.state.all_hosts)

    @property
    def was_outrun(self) -> bool:
        """Return whether nothing was started only because another run or process uses a host."""
        state = self.session.state
        kinds = {host.trouble.kind for host in state.all_hosts if host.trouble is not None}
        checks = self.refusal.checks
        busy = kinds == {"busy"} or (bool(checks) and checks <= PASSING_CHECKS)
        return busy and not self.has_started and not state.interrupts

    def check_plan(self) -> None:
        """Raise the errors of a plan that needs no check, before there is a record or a connection. Raises UsageError."""
        if self.settings.skip_check:
            self.planner.make_plan(resolve_first_host(self.context))

    # -- start and watch

    def start(
        self, run: RunResources, observers: Sequence[Subscriber], describe_first_step: Callable[[int], str]
    ) -> None:
        """Run all steps until the attempt has ended on every host.

        ``observers`` receive every event too. ``describe_first_step`` returns the message about the first step.
        """
        self._screen = run.screen
        self._guardian = Guardian()
        run.locks.callback(self._guardian.close_pipe)  # after the lock of the record: it then fetches from lost hosts
        self._open_outputs(run.locks)
        hung_up = self._screen.note_hangup if self.settings.on_hangup == "keep" else None
        pool = self._stack.enter_context(
            open_connections(self.context, router=run.router, hung_up=hung_up, clock=run.clock)
        )
        requests = SaveRequestWatch(os.path.join(self.context.find_runs_directory(), self.run_id), pool)

        def report_first_step(step: int) -> None:
            self.note(describe_first_step(step))
            pool.post_event(FirstStep(at=pool.clock(), step=step))

        self.steps.on_first = report_first_step
        facts = {
            "argv": list(self.context.request.task),
            "fanout": __version__,
            "metric": self.settings.metric or None,
        }
        self.record.begin(pool.clock(), **facts)
        self._screen.begin(pool.clock(), **facts)
        reporters = self.reporters
        subscribers: list[Subscriber] = [self.record, self.tails, self.collector, self._view, reporters.hangs]
        subscribers += [reporters.pace, self.steps, *observers, requests, run.screen.stacks]
        self.session = Session(pool, self.heading.hosts, subscribers)
        nodes = {name: rank for rank, name in enumerate(self.heading.hosts)}
        run.screen.stacks.use_session(self.session, self.attempt_id, nodes)
        self._load_rest()
        self.session.connect_hosts()
        for text in iter_login_notices(self.context, self.session.state):
            self._view.note(text)
        outcome = self._check_and_launch()
        self.outcome, self.verdict = diagnose_attempt(
            self.collector, self.context, self.session, outcome, self.record.write_file
        )

    def _load_rest(self) -> None:
        """Load, while the hosts log in, what the launcher needs only later."""
        self.signatures.prepare()
        if not self.settings.skip_check:
            import_module("fanout.run.launch_check")

    def _open_outputs(self, locks: ExitStack) -> None:
        """Open the record, and show the attempt on the screen of the run."""
        self.record = RunWriter(self.directory, self.heading, warn=self._screen.note)
        self._stack.callback(self.record.close)
        hold = self._lock_record()
        locks.callback(hold.release_lock)
        leave = partial(self._detach_from_terminal, hold)
        self._view = self._screen.show_attempt(self.heading, self.reporters, leave)
        if self._screen.left:
            detach.redirect_output(self.record.path)
        self.reporters.add_output(self.note)

    def _check_and_launch(self) -> RunOutcome:
        """Check, plan, launch and watch; return the outcome, also if an earlier step ends the attempt."""
        session, view = self.session, self._view
        if session.state.failures or session.state.interrupts:
            session.release_hosts()
            return outcome_of(session.state)
        facts = self._find_facts()
        if isinstance(facts, CheckRefusal):
            self.refusal = facts
            session.release_hosts()
            return outcome_of(session.state, refused=facts.why)
        try:
            made = self.planner.make_plan(facts)
        except UsageError:
            session.release_hosts()
            raise
        diagnosis.add_plan_facts(self.collector, made, facts.addresses)
        self.record.write_file("plan.json", json.dumps(plan_text.plan_to_dict(made), indent=2) + "\n")
        ranks = f"{made.world_size} ranks" if made.world_size != 1 else "1 rank"
        view.note(f"launching {ranks}, MASTER_ADDR={made.master_addr} MASTER_PORT={made.master_port}")
        self._guardian.watch_run(self._write_handle())
        self.plan = made
        policy = policy_of(self.settings, hold=self.attempt.holds)
        session.add_subscriber(WaitReporter(policy, [self.note]))
        return session.run_plan(policy, made)

    def _find_facts(self) -> HostFacts | CheckRefusal:
        """Return what the check, or this machine without one, learned about the hosts."""
        if self.settings.skip_check:
            return resolve_first_host(self.context)
        from fanout.run import launch_check

        return launch_check.check_launch(self.context, self.files, self.planner, self.session, self._screen)

    def note(self, text: str) -> None:
        """Show and record a message, unless it is empty."""
        if text:
            self._view.note(text)
            self.record.note(text)

    # -- the end

    def wait(self, seconds: float) -> bool:
        """Keep the hosts for ``seconds``; return False at once if the user interrupts."""
        return self.session.wait(seconds)

    def announce_restart(self, restart: Restarting) -> None:
        """Show and record what follows this attempt."""
        self.session.add_event(restart)

    def finish(
        self,
        list_notes: Callable[[int | None], Sequence[str]] = lambda width: (),
        *,
        prints: bool = True,
        hosts: Sequence[Host] = (),
    ) -> int:
        """Release the hosts, write and print the report; return the exit status.

        ``list_notes`` returns lines for its end that fit into the width of a terminal. ``hosts`` are those of all
        attempts, where the containers of images are removed.
        """
        if self.plan is not None and self.attempt.holds:
            self.session.run_plan(policy_of(self.settings), self.plan)
        if left := image_containers.remove_after_run(self.context, self.session, hosts):
            self.outcome = with_unverified_hosts(self.outcome, {host.name for host in left})
            self.note(image_containers.describe_left(left))
        if self.outcome.is_clean:
            self._guardian.end_watch()
        if prints:
            self._screen.close()
        outcome = self.outcome = with_log_gaps(self.outcome, len(self.record.record_gaps))
        text = self._print_report(outcome, list_notes, prints=prints)
        judged = None if self.verdict is None else to_dict(self.verdict)
        if self.verdict is not None:
            self.record.write_file(diagnosis.VERDICT, diagnosis.verdict_to_json(self.verdict))
        self.record.finish(outcome, text, judged)
        if prints:
            self._screen.finish(outcome, text, judged)
        self.close()
        return outcome.exit_code

    def close(self) -> None:
        """Close record and connections."""
        self._stack.close()

    def _lock_record(self) -> writer_lock.RecordLock:
        """Lock the new record for this process, its only writer. Raises LauncherError."""
        path = self.record.path
        hold = writer_lock.acquire_lock(path, self._build_owner())
        if hold is None:
            raise LauncherError(f"{path}: another process writes this record", hint="launch the run again")
        return hold

    def _build_owner(self, *, detached: bool = False) -> writer_lock.LockOwner:
        process = self.process
        return writer_lock.LockOwner(
            pid=os.getpid(),
            user=process.user,
            machine=process.machine,
            since=time.time(),
            detached=detached or self._screen.left,
            signal=choose_stop_signal(),
        )

    def _detach_from_terminal(self, hold: writer_lock.RecordLock, why: str) -> None:
        """Detach: print how to return to the run, and go on without a terminal."""
        self.record.note(f"{why} (its launcher is pid {os.getpid()} on {self.process.machine})")
        hold.write_owner(self._build_owner(detached=True))
        if why == "detached":
            self.process.print_message(
                f"detached: run {self.run_id} goes on; its launcher is pid {os.getpid()} on this machine"
            )
            for verb in ("attach", "logs -f", "stop"):
                self.process.stderr.write(f"        fanout {verb} {self.run_id}\n")
        self.process.stderr.flush()
        detach.redirect_output(self.record.path)

    def build_handle(self) -> run_handle.RunHandle:
        """Return the data to stop or resume this attempt without its launcher."""
        return run_handle.RunHandle(
            run_id=self.attempt_id,
            hosts=self.context.hosts,
            settings=self.settings,
            directory=self.record.path,
            user=self.process.user,
        )

    def _write_handle(self) -> str:
        """Write and return the handle as JSON, for the guardian and ``fanout stop``."""
        handle = self.build_handle().to_json()
        self.record.write_file(HANDLE_FILE, handle)
        return handle

    def _print_report(
        self, outcome: RunOutcome, list_notes: Callable[[int | None], Sequence[str]], *, prints: bool
    ) -> str:
        """Print the report on stderr; return the full one without colours for the record."""
        from fanout.run import closing_report
        from fanout.ui.run_report import build_report

        pace, gaps = self.reporters.pace, [str(gap) for gap in self.record.record_gaps]
        facts = closing_report.build_facts(
            self.heading,
            self.session.state,
            outcome,
            self.verdict,
            self.tails,
            slow=pace.list_slow_ranks(),
            missing=gaps,
        )
        if self.look.mode not in ("json", "silent") and prints:
            on_terminal = self.process.stderr.isatty()
            width = closing_report.measure_width(self.process, is_terminal=on_terminal)
            shown = replace(facts, attempts=list_notes(None if width is None else max(80, width)))
            look = replace(self.look, colour=self.look.colour and on_terminal)
            full = self.context.request.given["full"]
            self.process.stderr.write(closing_report.render_report(shown, look, width, full=full))
            self.process.stderr.flush()
        return build_report(replace(facts, attempts=list_notes(None)), unicode=self.look.unicode)
