"""What a check is: a row that names the facts it needs and a judge over all hosts together. Pure.

The frame does what every judge would have to remember: a host whose facts could not be had is *skipped* with the
reason, a host that the judge does not mention is fine. So silence can never pass for health.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from fanout.checks.together import DeepTest
from fanout.commands import Commands
from fanout.hosts import Host

Level = Literal["fail", "warn", "skip", "info", "ok"]
WORST_FIRST: tuple[Level, ...] = ("fail", "warn", "skip", "info", "ok")
GROUPS = ("ssh", "identity", "network", "files", "software", "gpu", "system", "rehearsal", "deep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """A host that never answered: the sentence of the error and what to type."""

    message: str
    hint: str = ""
    kind: str = "Unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """What is to be checked, by whom the hosts were reached, and which checks are wanted.

    ``hosts`` are in rank order and include those in ``unreached``. ``dialled`` is the numeric address at which ssh
    reached a host (absent: local, or through a jump host). ``config_values`` is the parsed config, None if there is
    none; ``imports`` are the task's top-level modules, of which ``unsure`` may be found where only the task looks, and
    ``own`` lie at these paths here; ``env`` is what the run exports to all hosts. ``venv_sure`` is
    False where nobody asked for the environment, so that a host may be without; ``attached`` is False for a run that
    outlives its launcher. ``only`` and ``skip`` hold names of checks or groups; ``deep`` asks for those that need torch.
    """

    hosts: tuple[Host, ...]
    workdir: str
    unreached: Mapping[str, Unreachable] = field(default_factory=dict)
    dialled: Mapping[str, str] = field(default_factory=dict)
    login_seconds: Mapping[str, float] = field(default_factory=dict)
    noise: Mapping[str, str] = field(default_factory=dict)
    task: str = ""
    config: str = ""
    config_values: Any = None
    imports: tuple[str, ...] = ()
    unsure: frozenset[str] = frozenset()
    own: Mapping[str, str] = field(default_factory=dict)
    script: str = "train.sh"
    venv: str = ""
    venv_sure: bool = True
    setup: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    master_addr: str = ""
    master_port: int = 29500
    attached: bool = True
    commands: Commands = field(default_factory=Commands)
    only: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()
    deep: bool = False

    @property
    def reached(self) -> tuple[Host, ...]:
        return tuple(host for host in self.hosts if host.name not in self.unreached)

    @property
    def first(self) -> Host:
        """Node rank 0, whose address is MASTER_ADDR."""
        return self.hosts[0]


def alone(request: CheckRequest) -> str:
    """Why a check between hosts has nothing to ask; "" where there are several."""
    return "one host needs no network" if len(request.hosts) == 1 else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortTest:
    """MASTER_PORT on host 0 and every other host's way to it.

    ``problem`` is the listener's answer if it could not listen; ``dials`` is (host, address) -> what became of it.
    ``chosen`` is the first candidate that all reach ("" if none is), ``unasked`` says why no test was made.
    """

    port: int
    candidates: tuple[str, ...] = ()
    problem: Mapping[str, Any] = field(default_factory=dict)
    dials: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    chosen: str = ""
    unasked: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshTest:
    """Every tested pair on free ports: (from, to) -> what became of it; ``addresses`` are those dialled."""

    addresses: Mapping[str, str] = field(default_factory=dict)
    dials: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    whole: bool = True
    unasked: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that was learned, for the judges: the request, the facts by host and section, the tests between hosts.

    ``missing`` gives the reason for each section that a host could not tell. ``offsets`` is (seconds, plus or minus)
    of a host's clock against this machine's. ``slow`` tells that the hosts had to be asked a few at a time.
    """

    request: CheckRequest
    facts: Mapping[str, Mapping[str, Any]]
    missing: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    offsets: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    port: PortTest | None = None
    mesh: MeshTest | None = None
    deep: DeepTest | None = None
    invalid: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # host -> the fields of answers that were
    slow: str = ""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of the hosts that this judge may speak of, in rank order."""
        return tuple(host.name for host in self.request.hosts if host.name in self.facts)

    def of(self, section: str) -> dict[str, Any]:
        """One section by host, in rank order."""
        return {name: self.facts[name][section] for name in self.hosts if section in self.facts[name]}

    @property
    def commands(self) -> Commands:
        return self.request.commands

    def on(self, name: str, command: str) -> str:
        """Return what the user types to run a command on a host."""
        return self.request.commands.on(name, command)

    def workdir(self, name: str) -> str:
        """Return the directory of the run on a host."""
        return self.host(name).workdir or self.request.workdir

    def host(self, name: str) -> Host:
        return next(host for host in self.request.hosts if host.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a judge says of some hosts: what it saw, and what to do or type about it."""

    level: Level
    hosts: tuple[str, ...]
    saw: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A verdict with the name of its check: what the report and the JSON are made of."""

    check: str
    group: str
    level: Level
    hosts: tuple[str, ...]
    saw: str
    advice: str = ""


Judge: TypeAlias = Callable[[Case], Iterable[Verdict]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One row of the catalogue. ``unless`` gives the reason why it does not apply to a request ("" if it does)."""

    name: str
    group: str
    worst: Level
    verifies: str
    why: str
    fix: str
    judge: Judge
    needs: tuple[str, ...] = ()
    always: bool = False  # if a host was not reached or its answer was invalid: judged whatever --only and --skip name
    unless: Callable[[CheckRequest], str] = lambda request: ""


def fail(hosts: Iterable[str] | str, saw: str, advice: str) -> Verdict:
    return Verdict(level="fail", hosts=_names(hosts), saw=saw, advice=advice)


def warn(hosts: Iterable[str] | str, saw: str, advice: str) -> Verdict:
    return Verdict(level="warn", hosts=_names(hosts), saw=saw, advice=advice)


def skip(hosts: Iterable[str] | str, why: str) -> Verdict:
    """Not judged, and why; no reason means that the check does not concern these hosts."""
    return Verdict(level="skip", hosts=_names(hosts), saw=why)


def info(hosts: Iterable[str] | str, saw: str, advice: str = "") -> Verdict:
    return Verdict(level="info", hosts=_names(hosts), saw=saw, advice=advice)


def ok(hosts: Iterable[str] | str, saw: str) -> Verdict:
    return Verdict(level="ok", hosts=_names(hosts), saw=saw)


def _names(hosts: Iterable[str] | str) -> tuple[str, ...]:
    return (hosts,) if isinstance(hosts, str) else tuple(hosts)


def wanted(check: Check, request: CheckRequest) -> bool:
    names = {check.name, check.group}
    asked = request.deep or check.group != "deep"
    return asked and (not request.only or bool(names & request.only)) and not names & request.skip
