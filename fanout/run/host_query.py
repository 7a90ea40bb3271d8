"""Run query: ask each host which runs it has, and return the answers as values."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Any

from fanout.model.frozen import frozen
from fanout.model.rpc import ProbeRequest
from fanout.run.connections import open_connections
from fanout.run.run_context import RunContext
from fanout.run.session import Session

TIMEOUT = 30.0
SILENT_SECONDS = 15.0  # a launcher sends a heartbeat every 5 seconds
STATE_NAMES = {"prepared": "ready", "running": "running", "exited": "ending", "cleaned_up": "ended"}


@frozen
class RunOnHost:
    """One run on one host, as that host reported it."""

    host: str
    run: str
    node: int
    entry: Mapping[str, Any]

    @property
    def is_alive(self) -> bool:
        return bool(self.entry["alive"])

    @property
    def is_unresponsive(self) -> bool:
        """Return whether the keeper is alive but does not answer: it is stopped, or stuck in the kernel."""
        return self.is_alive and (self.entry.get("keeper_status") or {}).get("silent_for") is None

    @property
    def is_being_fetched(self) -> bool:
        """Return whether the run has ended and a connection is fetching its result."""
        return bool(self.entry.get("followed"))

    @property
    def run_info(self) -> Mapping[str, Any]:
        run_info: Mapping[str, Any] = self.entry.get("run_info") or {}
        return run_info

    @property
    def state(self) -> str:
        """Return running, ready, ending, unkillable, stuck or other version; without a keeper: ended and how, or died."""
        phase = str(self.entry.get("phase", ""))
        if self.entry.get("other_version"):
            return "other version"
        if self.is_unresponsive:
            return "stuck"
        if self.is_alive:
            return "unkillable" if self.entry.get("left") else STATE_NAMES.get(phase, "starting")
        exited = self.entry.get("exited")
        if not exited:
            return "died" if phase != "cleaned_up" else "never started"
        how = f"signal {exited['signal']}" if exited.get("signal") is not None else f"exit {exited.get('code')}"
        return f"ended ({how})"

    @property
    def launcher(self) -> str:
        """Return the state of its launcher: attached, detached, fetching, gone, or lost with the time to the lease's end."""
        status = self.entry.get("keeper_status") or {}
        if not self.is_alive:
            return "fetching" if self.is_being_fetched else "gone"
        silent_for, lease = status.get("silent_for"), status.get("lease")
        if status.get("relays") and silent_for is not None and silent_for < SILENT_SECONDS:
            return "detached" if self.run_info.get("detached") else "attached"
        return "lost" if lease is None else f"lost (stops in {max(0.0, lease):.0f} s)"


@frozen
class OtherRun:
    """Process of another user that holds claims on a host. ``user`` and ``pid`` come from the host's kernel.

    ``run`` is what the process itself reports; "" if it reports no run of fanout.
    """

    host: str
    user: str
    pid: int | None
    run: str
    since: float | None
    ports: tuple[str, ...]
    gpus: tuple[str, ...]


@frozen
class CreatedContainer:
    """Container that fanout created for a run. One that runs ends by itself with its run."""

    engine: str
    name: str
    state: str
    runs: bool

    @property
    def run(self) -> str:
        """Return the run that the name contains."""
        return self.name.partition("-")[2]


@frozen
class HostRuns:
    """Answer of one host; ``error`` is set if there is none. ``in_container``: other containers are not visible there.

    ``container`` is the one that fanout entered, to which the pids belong.
    """

    host: str
    container: str = ""
    error: str = ""
    runs: tuple[RunOnHost, ...] = ()
    processes: tuple[Mapping[str, Any], ...] = ()
    searched: tuple[str, ...] = ()
    killed: int = 0
    others: tuple[OtherRun, ...] = ()
    in_container: bool = False
    containers: tuple[CreatedContainer, ...] = ()
    silent_engines: Mapping[str, str] = field(default_factory=dict)

    @property
    def orphan_processes(self) -> tuple[Mapping[str, Any], ...]:
        """Return orphan processes: those of runs without a keeper."""
        return tuple(process for process in self.processes if not process["kept"])

    @property
    def stale_runs(self) -> tuple[RunOnHost, ...]:
        """Return stale runs: those without a keeper and without a connection that reads them."""
        return tuple(run for run in self.runs if not run.is_alive and not run.is_being_fetched)

    @property
    def stale_containers(self) -> tuple[CreatedContainer, ...]:
        """Return the containers that fanout created and that do not run any more."""
        return tuple(container for container in self.containers if not container.runs)

    @property
    def has_leftovers(self) -> bool:
        """Return whether anything is left of ended runs."""
        return bool(self.orphan_processes or self.stale_runs or self.stale_containers)


def ask_hosts(
    context: RunContext,
    what: str = "runs",
    args: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[HostRuns]:
    """Ask every host and return the answers. With ``args`` (by host), ask only those hosts."""
    asked = tuple(host for host in context.hosts if args is None or host.name in args)
    with open_connections(replace(context, hosts=asked)) as pool:
        session = Session(pool, [host.name for host in asked], [])
        session.connect_hosts()
        context.print_notices()
        wanted = [
            ProbeRequest(host=host.name, what=what, args=dict(args[host.name] if args else {}), timeout=TIMEOUT)
            for host in asked
        ]
        answers = session.ask(wanted)
        session.release_hosts()
    found = []
    for host, answer in zip(asked, answers, strict=True):
        trouble = session.state.hosts[host.name].trouble
        if answer.error or not isinstance(answer.value, dict):
            unreached = trouble.message if trouble is not None and trouble.kind != "lost" else ""
            found.append(HostRuns(host=host.name, error=unreached or answer.error or "no answer"))
        else:
            found.append(replace(_parse_answer(host.name, answer.value), container=host.container or ""))
    return found


def _parse_answer(host: str, value: Mapping[str, Any]) -> HostRuns:
    return HostRuns(
        host=host,
        runs=tuple(
            RunOnHost(host=host, run=str(entry["run"]), node=int(entry["node"]), entry=entry)
            for entry in value.get("runs", ())
        ),
        processes=tuple(value.get("processes", ())),
        searched=tuple(str(path) for path in value.get("searched", ())),
        killed=int(value.get("killed", 0)),
        others=tuple(_parse_other_run(host, entry) for entry in value.get("others", ())),
        in_container=bool(value.get("container", False)),
        containers=tuple(CreatedContainer(**entry) for entry in value.get("created", ())),
        silent_engines=value.get("silent_engines", {}),
    )


def _parse_other_run(host: str, entry: Mapping[str, Any]) -> OtherRun:
    return OtherRun(
        host=host,
        user=str(entry["user"]),
        pid=entry["pid"],
        run=str(entry["run"]),
        since=entry["since"],
        ports=select_claims(entry["claims"], "port"),
        gpus=select_claims(entry["claims"], "gpu"),
    )


def select_claims(claims: Iterable[str], kind: str) -> tuple[str, ...]:
    """Return the numbers of the claims of one kind: ``port`` or ``gpu``."""
    return tuple(claim.partition("-")[2] for claim in map(str, claims) if claim.startswith(f"{kind}-"))


def format_time(at: float | None) -> str:
    """Return a Unix time as month, day, hour and minute in local time; "?" if it is not known."""
    return time.strftime("%m-%d %H:%M", time.localtime(at)) if at else "?"
