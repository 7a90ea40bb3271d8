"""One launch of a run: connect, check, plan, start on all hosts, watch, stop together, diagnose."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from fanout import __version__
from fanout.diagnose.verdict import Verdict, to_dict
from fanout.logs.line_filters import parse_display_filters
from fanout.logs.tail import LogTails
from fanout.model import plan_text
from fanout.model.errors import LauncherError, UsageError
from fanout.model.host_facts import HostFacts
from fanout.model.hosts import fold_names
from fanout.model.outcome import RunOutcome, outcome_of, with_log_gaps
from fanout.model.policy import policy_of
from fanout.model.run_info import RunInfo
from fanout.model.subscriber import View
from fanout.record import run_handle, writer_lock
from fanout.record.index import HANDLE_FILE, create_run_directory, make_run_id
from fanout.record.run_writer import RecordGap, RunWriter
from fanout.remote.transports.select import resolve_addresses
from fanout.run import check_request, detach, diagnosis, network_retest, restart
from fanout.run.choose_view import build_view, choose_look
from fanout.run.connections import open_connections
from fanout.run.guardian import Guardian
from fanout.run.run_context import RunContext
from fanout.run.session import Session
from fanout.run.slow_ranks import SlowRankReporter
from fanout.run.stop_progress import WaitReporter
from fanout.run.stop_signals import choose_stop_signal
from fanout.run.task_files import TaskFiles, build_planner
from fanout.text.units import count_noun

if TYPE_CHECKING:
    from fanout.preflight.run_checks import Preflight


class Launch:
    """One launch of a run; each method is one step."""

    def __init__(
        self,
        context: RunContext,
        files: TaskFiles,
        run_id: str,
        *,
        left: bool = False,
    ) -> None:
        """Prepare the launch. ``left``: the user has already detached, from the run before a restart."""
        self.left, self.hung = left, False
        self.context, self.files = context, files
        self.settings, self.process = context.settings, context.process
        quiet = left or (context.request.given["detach"] and self.settings.output == "auto")
        self.look = choose_look(context, "plain" if quiet else "")
        self.filters = parse_display_filters(self.settings)
        self.pace = SlowRankReporter()
        self._set_run_id(run_id)

    def _set_run_id(self, run_id: str) -> None:
        """Set the id of the run, the directory of its record, its planner, and its evidence collector."""
        context = self.context
        nproc = self.settings.nproc_per_node
        self.run_id = run_id
        self.planner = build_planner(context, self.files, run_id)
        self.heading = RunInfo(
            run_id=run_id,
            title=shlex.join(context.request.task),
            name=context.request.given.get("name", ""),
            hosts=context.host_names,
            log_dir=os.path.join(context.find_runs_directory(), run_id),
            ranks={host.name: (rank, nproc or host.slots) for rank, host in enumerate(context.hosts)},
        )
        self.collector = diagnosis.build_collector(self.heading, diagnosis.load_signatures(context))

    def run(self, parent_pipe: detach.ParentPipe | None = None) -> int:
        """Run all steps, from the first connection to the report. With a ``parent_pipe``, the user can detach."""
        if self.settings.skip_check:
            self.planner.make_plan(self._resolve_first_host())  # the errors of the plan come before any connection
        path = self._make_directory()
        with ExitStack() as stack:
            detach_request = detach.DetachRequest()
            leave = detach_request if parent_pipe is not None else None
            what = self.heading, self.look, self.process, self.filters
            hang_reporter = diagnosis.HangReporter(self.collector)
            preview = partial(diagnosis.preview_verdict, self.collector)
            slow, hung = self.pace.slow_hosts, hang_reporter.hung_hosts
            shown = build_view(
                *what, preview=preview, slow=slow, ranks=self.pace.summarize_ranks, hung=hung, detach=leave, waits=False
            )
            stack.callback(shown.close)
            record = RunWriter(path, self.heading, warn=shown.note)
            stack.callback(record.close)
            hold = self._lock_record(record)
            stack.callback(hold.release_lock)
            keep = self.settings.on_hangup == "keep"
            on_leave = partial(self._detach_from_terminal, record, hold)
            view = detach.DetachableView(
                shown, parent_pipe=parent_pipe, keep=keep, on_leave=on_leave, detach_request=detach_request
            )
            if self.left:
                view.left = True
                detach.redirect_output(record.path)
            tails = LogTails()
            guardian = Guardian()
            stack.callback(guardian.close_pipe)
            hung_up = view.note_hangup if keep else None
            once = parent_pipe.deliver_once if parent_pipe is not None else None
            pool = stack.enter_context(open_connections(self.context, hung_up=hung_up, once=once))
            facts = {
                "argv": list(self.context.request.task),
                "fanout": __version__,
                "metric": self.settings.metric or None,
            }
            for subscriber in (record, shown):
                subscriber.begin(pool.clock(), **facts)
            self.pace.outputs += [view.note, record.note]
            hang_reporter.outputs += [view.note, record.note]
            session = Session(pool, self.heading.hosts, [record, tails, self.collector, view, hang_reporter, self.pace])
            session.connect_hosts()
            self._report_earlier_runs(session, view)
            outcome = self._check_and_launch(session, view, record, guardian)
            self.left, self.hung = view.left, restart.may_restart(session.state, outcome)
            if outcome.is_clean:
                guardian.end_watch()
            view.close()
            return self._conclude(session, outcome, record, tails, None if view.left else shown)

    def _conclude(
        self, session: Session, outcome: RunOutcome, record: RunWriter, tails: LogTails, shown: View | None
    ) -> int:
        """Diagnose the run, write and print its report; return the exit status. ``shown``: the view, unless detached."""
        outcome = with_log_gaps(outcome, len(record.record_gaps))
        outcome, verdict = diagnosis.diagnose_run(self.collector, session.state, outcome)
        if verdict is not None and network_retest.is_network_suspected(verdict):
            verdict = network_retest.retest_network(verdict, self.context, session.state, keep=record.write_file)
        text = self._print_report(session, outcome, tails, verdict, record.record_gaps)
        judged = None if verdict is None else to_dict(verdict)
        if verdict is not None:
            record.write_file(diagnosis.VERDICT, diagnosis.verdict_to_json(verdict))
        record.finish(outcome, text, judged)
        if shown is not None:
            shown.finish(outcome, text, judged)
        return outcome.exit_code

    def _make_directory(self) -> str:
        """Create the directory of the run's record and return it. If the id is taken, draw a new one."""
        while True:
            path = self.heading.log_dir
            assert path is not None
            if create_run_directory(path):
                return path
            self._set_run_id(make_run_id())

    def build_next_run(self) -> Launch:
        """Return the same launch under a new run id."""
        return Launch(self.context, self.files, make_run_id(), left=self.left)

    def _report_earlier_runs(self, session: Session, view: View) -> None:
        """Report the notices of the logins, and earlier runs whose results were never fetched from these hosts."""
        for notice in self.context.selector.notices.take_new():
            view.note(notice)
        where: dict[str, list[str]] = {}
        for host in session.state.all_hosts:
            for run in host.hello.get("stale", ()):
                where.setdefault(str(run), []).append(host.name)
        for run, names in where.items():
            text = f"{fold_names(names)}: the result of run {run} was never fetched: try:  fanout attach {run}   or "
            view.note(f"{text} {self.context.build_host_command('clean')}")

    def _lock_record(self, record: RunWriter) -> writer_lock.RecordLock:
        """Lock the new record for this process, its only writer. Raises LauncherError."""
        hold = writer_lock.acquire_lock(record.path, self._build_owner())
        if hold is None:
            raise LauncherError(f"{record.path}: another process writes this record", hint="launch the run again")
        return hold

    def _build_owner(self, *, detached: bool = False) -> writer_lock.LockOwner:
        process = self.process
        return writer_lock.LockOwner(
            pid=os.getpid(),
            user=process.user,
            machine=process.machine,
            since=time.time(),
            detached=detached or self.left,
            signal=choose_stop_signal(),
        )

    def _detach_from_terminal(self, record: RunWriter, hold: writer_lock.RecordLock, why: str) -> None:
        """Detach: print how to return to the run, and go on without a terminal."""
        record.note(f"{why} (its launcher is pid {os.getpid()} on {self.process.machine})")
        hold.write_owner(self._build_owner(detached=True))
        if why == "detached":
            self.process.print_message(
                f"detached: run {self.run_id} goes on; its launcher is pid {os.getpid()} on this machine"
            )
            for verb in ("attach", "logs -f", "stop"):
                self.process.stderr.write(f"        fanout {verb} {self.run_id}\n")
        self.process.stderr.flush()
        detach.redirect_output(record.path)

    def _check_and_launch(self, session: Session, view: View, record: RunWriter, guardian: Guardian) -> RunOutcome:
        """Check, plan, launch and watch; return the outcome, also if an earlier step ends the run."""
        if session.state.failures or session.state.interrupts:
            session.release_hosts()
            return outcome_of(session.state)
        if self.settings.skip_check:
            facts = self._resolve_first_host()
        else:
            checked = self._check_hosts(session, view)
            if checked is None or (checked.failures and not self.settings.force):
                session.release_hosts()
                return outcome_of(session.state, refused="refused by the check: nothing was started")
            facts = checked.host_facts
        try:
            made = self.planner.make_plan(facts)
        except UsageError:
            session.release_hosts()
            raise
        diagnosis.add_plan_facts(self.collector, made, facts.addresses)
        record.write_file("plan.json", json.dumps(plan_text.plan_to_dict(made), indent=2) + "\n")
        ranks = f"{made.world_size} ranks" if made.world_size != 1 else "1 rank"
        view.note(f"launching {ranks}, MASTER_ADDR={made.master_addr} MASTER_PORT={made.master_port}")
        guardian.watch_run(self._write_handle(record))
        policy = policy_of(self.settings)
        session.add_subscriber(WaitReporter(policy, [view.note, record.note]))
        return session.run_plan(policy, made)

    def _write_handle(self, record: RunWriter) -> str:
        """Write and return the data to stop this run without its launcher, for the guardian and ``fanout stop``."""
        order = run_handle.RunHandle(
            run_id=self.run_id,
            hosts=self.context.hosts,
            settings=self.settings,
            directory=record.path,
            user=self.process.user,
        ).to_json()
        record.write_file(HANDLE_FILE, order)
        return order

    def _check_hosts(self, session: Session, view: View) -> Preflight | None:
        """Check the hosts before the run. Print the report if a check failed, else one line and the warnings."""
        from fanout.preflight import run_checks  # 35 ms that --skip-check does not pay

        asked = check_request.build_check_request(self.context, self.files, session)
        result = run_checks.run(asked, session, planner=self.planner)
        if session.state.interrupts:
            return None
        if result.failures and self.settings.force:
            for finding in result.failures:
                view.note(f"check {finding.check} failed: {fold_names(finding.hosts)}: {finding.saw}")
            view.note("launching although a check failed: --force")
        elif result.failures:
            view.close()
            self.process.stderr.write(
                check_request.render_report(
                    f"fanout check {self.context.request.hosts}", result, self.context, self.process.stderr
                )
            )
            self.process.print_message("not launched: the check failed (--force launches anyway)")
        else:
            lines = check_request.format_warnings(result)
            also = f", {count_noun(len(lines), 'warning')}" if lines else ""
            view.note(f"check ok in {result.seconds:.1f} s{also}")
            for line in lines:
                view.note(line)
        for text in check_request.describe_exports(result.host_facts.exports):
            view.note(text)
        return result

    def _resolve_first_host(self) -> HostFacts:
        """Return the facts that this machine can find without a check: the address of the first host."""
        first = self.context.hosts[0]
        if len(self.context.hosts) == 1 or first.addr or self.settings.master_addr:
            return HostFacts()
        name = self.context.selector.resolve_address(first)
        found = sorted(
            resolve_addresses(name), key=lambda address: ":" in address
        )  # scripts write HOST:PORT without brackets
        return HostFacts(addresses={first.name: found[0] if found else name})

    def _print_report(
        self,
        session: Session,
        outcome: RunOutcome,
        tails: LogTails,
        verdict: Verdict | None,
        holes: Sequence[RecordGap],
    ) -> str:
        """Print the report on stderr; return it without colours for the record."""
        from fanout.ui.run_report import build_report

        words = diagnosis.select_last_lines(tails, outcome, verdict)

        def text(colour: bool) -> str:
            return build_report(
                self.heading,
                session.state,
                outcome,
                words,
                diagnosis=diagnosis.render_verdict(verdict),
                blamed=diagnosis.find_blamed_rank(verdict),
                slow=self.pace.list_slow_ranks(),
                missing=[str(hole) for hole in holes],
                colour=colour,
                unicode=self.look.unicode,
            )

        if self.look.mode != "json":
            self.process.stderr.write(text(self.look.colour and self.process.stderr.isatty()))
            self.process.stderr.flush()
        return text(colour=False)
