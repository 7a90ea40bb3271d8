"""One launch of a run: connect, check, plan, start on all hosts, watch, stop together, diagnose."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fanout import __version__, dryrun, holder, plan, rejoin, supervise
from fanout.arguments import Request
from fanout.diagnose.verdict import Verdict, as_dict
from fanout.errors import LauncherError, UsageError
from fanout.guardian import Guardian
from fanout.hosts import Host, fold
from fanout.launch import Session
from fanout.outcome import RunOutcome, of, with_holes
from fanout.plan import LaunchPlan, Learned
from fanout.settings import Settings
from fanout.transports.pick import Picker, addresses
from fanout.verbs import again, detach, explain, retest
from fanout.verbs.common import Edge, fan_of, has_script_here, on_these_hosts, runs_directory, stop_signal
from fanout.verbs.pacing import PaceTeller
from fanout.verbs.runs import ORDER, make_directory, new_id
from fanout.verbs.showing import look_of, view_of, wishes_of
from fanout.verbs.waiting import WaitTeller
from fanout.views.base import Heading, View
from fanout.views.logdir import LogDir, Problem
from fanout.views.tail import Tails

if TYPE_CHECKING:
    from fanout.preflight import Preflight


class Launch:
    """One launch of a run; each method is one step."""

    def __init__(
        self,
        request: Request,
        edge: Edge,
        settings: Settings,
        hosts: tuple[Host, ...],
        directory: str,
        config: tuple[str, Any],
        picker: Picker,
        run_id: str,
        *,
        left: bool = False,
    ) -> None:
        """Prepare the launch. ``left``: the user has already detached, from the run before a restart."""
        self.left, self.hung = left, False
        self.request = request
        self.edge = edge
        self.settings = settings
        self.hosts = hosts
        self.directory = directory
        self.config = config
        self.picker = picker
        quiet = left or (request.given["detach"] and settings.output == "auto")
        self.look = look_of(settings, edge, "plain" if quiet else "")
        self.wishes = wishes_of(settings)
        self.pace = PaceTeller()
        self._name(run_id)

    def _name(self, run_id: str) -> None:
        """Set the id of the run, the directory of its record, and its evidence collector."""
        settings, hosts = self.settings, self.hosts
        self.run_id = run_id
        self.heading = Heading(
            run_id=run_id,
            title=shlex.join(self.request.task),
            hosts=tuple(host.name for host in hosts),
            log_dir=os.path.join(runs_directory(settings, self.edge), run_id),
            ranks={host.name: (rank, settings.nproc_per_node or host.slots) for rank, host in enumerate(hosts)},
        )
        self.witness = explain.witness_of(self.heading, explain.book_of(settings, self.edge))

    def run(self, door: detach.Door | None = None) -> int:
        """Do the whole run, from the first connection to the report. With a ``door``, the user can detach."""
        if self.settings.skip_check:
            self._plan(self._looked_up())  # without a check, the plan's errors are known before any connection
        path = self._make_directory()
        with ExitStack() as stack:
            wish = detach.Wish()
            leave = wish if door is not None else None
            what = self.heading, self.look, self.edge, self.wishes
            teller = explain.HangTeller(self.witness)
            so_far = partial(explain.so_far, self.witness)
            slow, hung = self.pace.brief, teller.brief
            shown = view_of(*what, so_far=so_far, slow=slow, hung=hung, detach=leave, waits=False)
            stack.callback(shown.close)
            record = LogDir(path, self.heading, warn=shown.note)
            stack.callback(record.close)
            hold = self._hold(record)
            stack.callback(hold.let_go)
            keep = self.settings.on_hangup == "keep"
            on_leave = partial(self._leave, record, hold)
            view = detach.Curtain(shown, door=door, keep=keep, on_leave=on_leave, wish=wish)
            if self.left:
                view.left = True
                detach.redirect(record.path)
            tails = Tails()
            guardian = Guardian()
            stack.callback(guardian.leave_to_it)
            hung_up = view.hang_up if keep else None
            once = door.once if door is not None else None
            fan = stack.enter_context(
                fan_of(self.hosts, self.settings, self.picker, self.edge, hung_up=hung_up, once=once)
            )
            facts = {"argv": list(self.request.task), "fanout": __version__, "metric": self.settings.metric or None}
            for subscriber in (record, shown):
                if hasattr(subscriber, "begin"):
                    subscriber.begin(fan.clock(), **facts)
            self.pace.says += [view.note, record.note]
            teller.says += [view.note, record.note]
            session = Session(fan, self.heading.hosts, [record, tails, self.witness, view, teller, self.pace])
            session.connect()
            self._tell_found(session, view)
            outcome = self._launch(session, view, record, guardian)
            self.left, self.hung = view.left, again.hung(session.state, outcome)
            if outcome.clean:
                guardian.dismiss()
            view.close()
            outcome = with_holes(outcome, len(record.problems))
            outcome, verdict = explain.judged(self.witness, session.state, outcome)
            if verdict is not None and retest.worth(verdict):
                where = self.hosts, session.state, self.settings, self.picker, self.edge
                verdict = retest.retested(verdict, *where, keep=record.keep)
            text = self._report(session, outcome, tails, verdict, record.problems)
            judged = None if verdict is None else as_dict(verdict)
            if verdict is not None:
                record.keep(explain.VERDICT, explain.as_json(verdict))
            record.finish(outcome, text, judged)
            if hasattr(shown, "finish") and not view.left:
                shown.finish(outcome, text, judged)
        return outcome.exit_code

    def _make_directory(self) -> str:
        """Create the directory of the run's record and return it. If the id is taken, draw a new one."""
        while True:
            path = self.heading.log_dir
            assert path is not None
            if make_directory(path):
                return path
            self._name(new_id())

    def again(self) -> Launch:
        """Return the same launch under a new run id."""
        told = self.request, self.edge, self.settings, self.hosts, self.directory, self.config, self.picker
        return Launch(*told, new_id(), left=self.left)

    def _tell_found(self, session: Session, view: View) -> None:
        """Report the notices of the logins, and earlier runs whose results were never fetched from these hosts."""
        for notice in self.picker.notices.take():
            view.note(notice)
        where: dict[str, list[str]] = {}
        for host in session.state.all:
            for run in host.hello.get("stale", ()):
                where.setdefault(str(run), []).append(host.name)
        for run, names in where.items():
            text = f"{fold(names)}: the result of run {run} was never fetched: try:  fanout attach {run}   or "
            view.note(f"{text} {on_these_hosts(self.request, self.settings, 'clean')}")

    def _hold(self, record: LogDir) -> holder.Hold:
        """Lock the new record for this process, its only writer. Raises LauncherError."""
        hold = holder.take(record.path, self._holder())
        if hold is None:
            raise LauncherError(f"{record.path}: another process writes this record", hint="launch the run again")
        return hold

    def _holder(self, *, detached: bool = False) -> holder.Holder:
        edge = self.edge
        return holder.Holder(
            pid=os.getpid(),
            user=edge.user,
            machine=edge.machine,
            since=time.time(),
            detached=detached or self.left,
            signal=stop_signal(),
        )

    def _leave(self, record: LogDir, hold: holder.Hold, why: str) -> None:
        """Detach: print how to return to the run, and go on without a terminal."""
        record.note(f"{why} (its launcher is pid {os.getpid()} on {self.edge.machine})")
        hold.become(self._holder(detached=True))
        if why == "detached":
            self.edge.say(f"detached: run {self.run_id} goes on; its launcher is pid {os.getpid()} on this machine")
            for verb in ("attach", "logs -f", "stop"):
                self.edge.stderr.write(f"        fanout {verb} {self.run_id}\n")
        self.edge.stderr.flush()
        detach.redirect(record.path)

    def _launch(self, session: Session, view: View, record: LogDir, guardian: Guardian) -> RunOutcome:
        """Check, plan, launch and watch; return the outcome, also if an earlier step ends the run."""
        if session.state.failures or session.state.interrupts:
            session.dismiss()
            return of(session.state)
        learned = Learned()
        if self.settings.skip_check:
            learned = self._looked_up()
        else:
            checked = self._check(session, view)
            if checked is None or (checked.failures and not self.settings.force):
                session.dismiss()
                return of(session.state, refused="refused by the check: nothing was started")
            from fanout.verbs.check import for_plan

            learned = for_plan(checked.learned)
        try:
            made = replace(self._plan(learned), detached=self.request.given["detach"])
        except UsageError:
            session.dismiss()
            raise
        explain.learn(self.witness, made, learned.address)
        record.keep("plan.json", json.dumps(dryrun.as_dict(made), indent=2) + "\n")
        ranks = f"{made.world_size} ranks" if made.world_size != 1 else "1 rank"
        view.note(f"launching {ranks}, MASTER_ADDR={made.master_addr} MASTER_PORT={made.master_port}")
        guardian.watch(self._order(record))
        policy = supervise.policy_of(self.settings)
        session.tell(WaitTeller(policy, [view.note, record.note]))
        return session.run(policy, made)

    def _order(self, record: LogDir) -> str:
        """Write and return the data to stop this run without its launcher, for the guardian and ``fanout stop``."""
        order = rejoin.Order(
            run_id=self.run_id,
            hosts=self.hosts,
            settings=self.settings,
            directory=record.path,
            user=self.edge.user,
        ).to_json()
        record.keep(ORDER, order)
        return order

    def _check(self, session: Session, view: View) -> Preflight | None:
        """Check the hosts before the run. Print the report if a check failed, else one line and the warnings."""
        from fanout import preflight  # 35 ms that --skip-check does not pay
        from fanout.verbs import check

        asked = check.check_request(session, self.hosts, self.request.task, self.directory, self.settings, self.config)
        typed = check.commands_of(self.hosts, self.settings, self.picker, self.request.hosts or "")
        asked = replace(asked, commands=typed)
        result = preflight.run(asked, session, plan=lambda learned: self._plan(check.for_plan(learned)))
        if session.state.interrupts:
            return None
        if result.failures and self.settings.force:
            for finding in result.failures:
                view.note(f"check {finding.check} failed: {fold(finding.hosts)}: {finding.saw}")
            view.note("launching although a check failed: --force")
        elif result.failures:
            view.close()
            self.edge.stderr.write(
                check.shown(f"fanout check {self.request.hosts}", result, self.edge, self.edge.stderr)
            )
            self.edge.say("not launched: the check failed (--force launches anyway)")
        else:
            lines = check.warned(result)
            also = f", {len(lines)} warning{'s' if len(lines) > 1 else ''}" if lines else ""
            view.note(f"check ok in {result.seconds:.1f} s{also}")
            for line in lines:
                view.note(line)
        for text in check.exported(result.learned.exports):
            view.note(text)
        return result

    def _looked_up(self) -> Learned:
        """Return the facts that this machine can find without a check: the address of the first host."""
        first = self.hosts[0]
        if len(self.hosts) == 1 or first.addr or self.settings.master_addr:
            return Learned()
        name = self.picker.address(first)
        found = sorted(addresses(name), key=lambda address: ":" in address)  # scripts write HOST:PORT without brackets
        return Learned(address={first.name: found[0] if found else name})

    def _plan(self, learned: Learned) -> LaunchPlan:
        return plan.make(
            self.hosts,
            self.request.task,
            self.settings,
            run_id=self.run_id,
            cwd=self.directory,
            has_script=has_script_here(self.settings, self.directory),
            learned=learned,
        )

    def _report(
        self, session: Session, outcome: RunOutcome, tails: Tails, verdict: Verdict | None, holes: Sequence[Problem]
    ) -> str:
        """Print the report on stderr; return it without colours for the record."""
        from fanout.views.report import report

        words = explain.last_words(tails, outcome, verdict)

        def text(colour: bool) -> str:
            return report(
                self.heading,
                session.state,
                outcome,
                words,
                diagnosis=explain.shown(verdict),
                blamed=explain.blamed(verdict),
                slow=self.pace.slow(),
                missing=[str(hole) for hole in holes],
                colour=colour,
                unicode=self.look.unicode,
            )

        if self.look.mode != "json":
            self.edge.stderr.write(text(self.look.colour and self.edge.stderr.isatty()))
            self.edge.stderr.flush()
        return text(colour=False)
