"""Choice of hosts for a run on shared machines: pick free ones (``--pick free``), and wait for them (``--wait``).

Nothing is claimed before the run starts. If another run takes a host first, the hosts refuse this run as a whole, and it
waits again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from fanout.model.exit_status import ExitStatus, status_of_signal
from fanout.model.frozen import frozen
from fanout.model.host_count import HostCount
from fanout.model.hosts import fold_names
from fanout.run import check_request
from fanout.run.connections import SignalRouter, open_connections, route_signals
from fanout.run.host_looks import HostLooks
from fanout.run.run_context import RunContext
from fanout.run.session import Session
from fanout.run.stop_signals import Handler
from fanout.run.task_files import TaskFiles, build_planner
from fanout.run.waiting_run import WaitingPhase
from fanout.sharing.wait_policy import (
    MOST_NAMED,
    PASSING_CHECKS,
    Look,
    Selection,
    draw_pause,
    find_permanent_trouble,
    format_status,
    select_hosts,
)
from fanout.text.parse_units import write_duration
from fanout.ui.wait_status import WaitStatus

TICK_SECONDS = 1.0


@frozen
class HostChoice:
    """The context with the chosen hosts, or the exit status of the command if there is none."""

    context: RunContext | None = None
    status: int = ExitStatus.REFUSED
    reasons: tuple[str, ...] = ()  # why, for ``fanout ps``


class HostChooser:
    """Chooses the hosts of one run. ``wait_seconds``: None looks once, 0 waits without a limit."""

    def __init__(
        self,
        context: RunContext,
        files: TaskFiles,
        *,
        wait_seconds: float | None,
        checks: bool = True,
        phase: WaitingPhase | None = None,
    ) -> None:
        self._context, self._files = context, files
        self._picks = bool(context.request.given.get("pick"))
        self._checks = checks and self._picks
        every = HostCount(least=len(context.hosts), most=len(context.hosts))
        self._count = (context.count or every) if self._picks else every
        self._wait_seconds = wait_seconds
        self._phase = phase
        self._began = time.monotonic()
        self._unfit: dict[str, str] = {}  # host -> the check that fails there also if it is free
        self._print = context.process.print_message

    def choose(self, once: Callable[[Handler], Handler] | None = None) -> HostChoice:
        """Return the hosts when they are free. Print what prevents that, and the end of the wait."""
        process = self._context.process
        status = self._phase.status if self._phase is not None else WaitStatus(process.stderr, process.columns)
        with route_signals(process.signals, once=once) as router, HostLooks(self._context, router) as looks:
            while True:
                look = looks.look()
                if looks.interrupts:
                    return self._end_interrupted(status, looks.interrupts)
                selection = (
                    self._select_fit(look, router) if not self._find_trouble(look) else select_hosts(look, self._count)
                )
                if len(selection.hosts) >= self._count.least:
                    status.clear()
                    return self._accept(selection)
                trouble = self._find_trouble(look)
                if self._wait_seconds is None or trouble:
                    status.clear()
                    return self._refuse(selection, trouble)
                if not self._wait_for_look(looks, selection, status):
                    if looks.interrupts:
                        return self._end_interrupted(status, looks.interrupts)
                    status.clear()
                    limit = write_duration(self._wait_seconds)
                    return self._refuse(selection, f"not free within --wait {limit}")

    def _wait_for_look(self, looks: HostLooks, selection: Selection, status: WaitStatus) -> bool:
        """Show who holds the hosts until the next look; return False after the limit or a signal."""
        until = time.monotonic() + draw_pause(random.Random())
        if self._phase is not None:
            text = format_status(selection, self._count, time.monotonic() - self._began)
            free = min(len(selection.hosts), self._count.least)
            self._phase.begin_wait(text, f"{free} of {self._count.least} free")
        while (now := time.monotonic()) < until:
            status.show(
                format_status(selection, self._count, now - self._began), [host for host, _ in selection.skipped]
            )
            if self._wait_seconds and now - self._began >= self._wait_seconds:
                return False
            if not looks.wait(min(TICK_SECONDS, until - now)):
                return False
        return True

    def _find_trouble(self, look: Look) -> str:
        """Return why waiting is useless, with the hosts on which a check fails."""
        unfit = [
            replace(host, trouble=self._unfit[host.host], can_heal=False) if host.host in self._unfit else host
            for host in look.hosts
        ]
        return find_permanent_trouble(replace(look, hosts=tuple(unfit)), self._count)

    # -- the check of picked hosts

    def _select_fit(self, look: Look, router: SignalRouter) -> Selection:
        """Return the first free hosts that also pass the check, in file order."""
        found: dict[str, str] = {}
        while True:
            failed = self._unfit | found
            fit = [replace(host, trouble=failed[host.host]) if host.host in failed else host for host in look.hosts]
            selection = select_hosts(replace(look, hosts=tuple(fit)), self._count)
            if not self._checks or len(selection.hosts) < self._count.least:
                return selection
            failures = self._check(selection.hosts, router)
            if not failures:
                return selection
            for host, (check, reason) in failures.items():
                found[host] = reason
                if check not in PASSING_CHECKS:
                    self._unfit[host] = reason

    def _check(self, names: Sequence[str], router: SignalRouter) -> dict[str, tuple[str, str]]:
        """Check the hosts as a run would; return host -> (check, reason) of the first failure of each."""
        from fanout.preflight import run_checks  # 35 ms that a run without --pick does not pay

        alone = self._with_hosts(names)
        with open_connections(alone, router=router) as pool:
            session = Session(pool, alone.host_names, [])
            session.connect_hosts()
            if session.state.interrupts:
                return {}
            asked = check_request.build_check_request(alone, self._files, session)
            result = run_checks.run(asked, session, planner=build_planner(alone, self._files, "check"))
            session.release_hosts()
        failures: dict[str, tuple[str, str]] = {}
        for finding in result.failures:
            for host in finding.hosts:
                failures.setdefault(host, (finding.check, f"check {finding.check}: {finding.saw}"))
        return failures

    # -- results

    def _accept(self, selection: Selection) -> HostChoice:
        if self._picks:
            for host, reason in selection.skipped:
                self._print(f"skipped {host}: {reason}")
            self._print(f"picked {fold_names(selection.hosts)}")
        return HostChoice(context=self._with_hosts(selection.hosts))

    def _refuse(self, selection: Selection, reason: str) -> HostChoice:
        free, wanted = len(selection.hosts), self._count.least
        for host, why in selection.skipped:
            self._print(f"{host} is not free: {why}")
        self._print(
            f"not launched: {free} of {wanted} hosts {'is' if free == 1 else 'are'} free"
            + (f": {reason}" if reason else "")
        )
        if self._wait_seconds is None and not reason and self._context.request.verb != "check":
            self._context.process.stderr.write("        to start when they are free, add --wait\n")
        held = tuple(f"{host}: {why}" for host, why in selection.skipped[:MOST_NAMED])
        return HostChoice(reasons=(*filter(None, (reason,)), *held))

    def _end_interrupted(self, status: WaitStatus, interrupts: Sequence[int]) -> HostChoice:
        status.clear()
        self._print("interrupted: nothing was started")
        return HostChoice(status=status_of_signal(interrupts[0]))

    def _with_hosts(self, names: Sequence[str]) -> RunContext:
        chosen = {host.name: host for host in self._context.hosts}
        spares = tuple(host for host in self._context.spares if host.name not in names)
        return replace(self._context, hosts=tuple(chosen[name] for name in names), spares=spares)
