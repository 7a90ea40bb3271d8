"""Check model: a check names the facts that it needs and has a judge, which sees all hosts at once. Pure.

``judging`` handles missing data for every check. A host whose facts are missing is *skipped*, with the reason.
A host that the judge does not mention is ok. So a missing fact never counts as a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Any, Literal, TypeAlias

from fanout.checks.deep.torch_result import DeepTest
from fanout.model.events import AnswerReason
from fanout.model.frozen import frozen
from fanout.model.hosts import Host
from fanout.model.option_table import default_of
from fanout.model.suggested_commands import CommandBuilder

Level = Literal["fail", "warn", "skip", "info", "ok"]
#: Which agent answers a check of a host in a container: the one in it, or that of the machine. "" in a finding: no container.
Place = Literal["", "container", "machine"]
WORST_FIRST: tuple[Level, ...] = ("fail", "warn", "skip", "info", "ok")
GROUPS = ("ssh", "container", "identity", "network", "files", "software", "gpu", "system", "rehearsal", "deep")


@frozen
class UnreachableHost:
    """A host without a connection: the error message and the command to try."""

    message: str
    hint: str = ""
    kind: str = "Unreachable"


@frozen
class CheckRequest:
    """Input of a check: the hosts, how each was reached, the task, and the selected checks.

    ``hosts`` are in rank order and include those in ``unreached``. ``connected_addresses`` has the numeric address at
    which ssh reached each host (absent: a local host, or a jump host in between). ``task`` is the path of the task's file,
    "" if there is none; ``module`` is the module of ``-m MODULE``. ``config_values`` is the parsed config, or None.
    ``imports`` are the task's top-level modules, ``members`` the names that it imports from modules (``MODULE:NAME``).
    A module in ``unsure`` may be on a path that only the task adds.
    ``own`` maps modules of the project to their paths on this machine. ``env`` is what the run exports to all hosts.
    ``venv_sure`` is False if the user did not name the environment, so that a host may lack it. ``attached`` is False
    for a detached run. ``only`` and ``skip`` hold names of checks or groups. ``deep`` selects the checks that need torch.
    ``earlier_attempts`` are ids of ended attempts of the same run, whose claims the next attempt takes over.
    """

    hosts: tuple[Host, ...]
    workdir: str
    unreached: Mapping[str, UnreachableHost] = field(default_factory=dict)
    connected_addresses: Mapping[str, str] = field(default_factory=dict)
    login_seconds: Mapping[str, float] = field(default_factory=dict)
    login_output: Mapping[str, str] = field(default_factory=dict)
    task: str = ""
    module: str = ""
    config: str = ""
    config_values: Any = None
    imports: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    unsure: frozenset[str] = frozenset()
    own: Mapping[str, str] = field(default_factory=dict)
    script: str = default_of("script")
    venv: str = ""
    venv_sure: bool = True
    setup: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    master_addr: str = ""
    master_port: int = default_of("master_port")
    port_may_change: bool = False
    default_port_holder: str = ""
    attached: bool = True
    commands: CommandBuilder = field(default_factory=CommandBuilder)
    only: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()
    deep: bool = False
    earlier_attempts: frozenset[str] = frozenset()

    @property
    def has_task(self) -> bool:
        return bool(self.task or self.module)

    @property
    def reached_hosts(self) -> tuple[Host, ...]:
        return tuple(host for host in self.hosts if host.name not in self.unreached)

    @property
    def first_host(self) -> Host:
        """Node rank 0, whose address is MASTER_ADDR."""
        return self.hosts[0]


def get_single_host_reason(request: CheckRequest) -> str:
    """Return why a check between hosts does not apply; "" if there are several hosts."""
    return "one host needs no network" if len(request.hosts) == 1 else ""


def one_host(request: CheckRequest) -> str:
    """Return why a check that compares hosts has nothing to compare; "" where there are several."""
    return "one host" if len(request.hosts) == 1 else ""


@frozen
class PortTest:
    """Result of the MASTER_PORT test: a listener on host 0, and connections to it from every other host.

    ``problem`` is the listener's answer if it could not listen. ``dials`` maps (host, address) to the outcome.
    ``chosen`` is the first candidate that all hosts reach ("" if there is none). ``unasked`` is why no test was made.
    """

    port: int
    candidates: tuple[str, ...] = ()
    problem: Mapping[str, Any] = field(default_factory=dict)
    dials: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    chosen: str = ""
    unasked: str = ""


@frozen
class MeshTest:
    """Result of the mesh test on free ports: ``dials`` maps (from, to) to the outcome; ``addresses`` were dialled."""

    addresses: Mapping[str, str] = field(default_factory=dict)
    dials: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    whole: bool = True
    unasked: str = ""


@frozen
class MachineAnswer:
    """Answer of the own agent of a host whose run is in a container: facts by section, and why others are missing.

    ``error`` is why there is no answer at all.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


@frozen
class CheckContext:
    """Input of the judges: the request, the facts by host and section, and the tests between hosts.

    ``missing`` gives the reason for each section that a host did not return, and ``reasons`` the same for programs. ``offsets`` is (seconds, margin of
    error) of a host's clock relative to this machine's. ``slow`` is set if fanout had to ask the hosts in small groups.
    ``machines`` has what the own agents of hosts in containers answered.
    """

    request: CheckRequest
    facts: Mapping[str, Mapping[str, Any]]
    missing: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    machines: Mapping[str, MachineAnswer] = field(default_factory=dict)
    reasons: Mapping[str, Mapping[str, AnswerReason]] = field(default_factory=dict)
    offsets: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    port: PortTest | None = None
    mesh: MeshTest | None = None
    deep: DeepTest | None = None
    invalid: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # host -> its invalid answers, by field
    slow: str = ""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the names of the hosts that this judge may judge, in rank order."""
        return tuple(host.name for host in self.request.hosts if host.name in self.facts)

    def is_late(self, name: str, section: str) -> bool:
        """Return whether the host did not return the section in time."""
        return self.reasons.get(name, {}).get(section, "") in ("timeout", "stuck")

    def get_section(self, section: str) -> dict[str, Any]:
        """Return one section of the facts by host, in rank order."""
        return {name: self.facts[name][section] for name in self.hosts if section in self.facts[name]}

    @property
    def commands(self) -> CommandBuilder:
        return self.request.commands

    def format_remote_command(self, name: str, command: str) -> str:
        """Return the command line that runs ``command`` on a host, as the user types it."""
        return self.request.commands.build_remote_command(name, command)

    def choose_cure(self, name: str, option: str, cure: str) -> str:
        """Return the cure, or for a host in a container the option that its next container needs."""
        container, image = self.get_host(name).container, self.get_host(name).image
        if image:
            return f"add  --container-arg={option.partition('  or  ')[0].replace(' ', '=', 1)}"
        return f"create container {container} again with  {option}" if container else cure

    def get_workdir(self, name: str) -> str:
        """Return the directory of the run on a host."""
        return self.get_host(name).workdir or self.request.workdir

    def get_host(self, name: str) -> Host:
        return next(host for host in self.request.hosts if host.name == name)


#: Reasons of a skip that leave the start of torchrun unverified.
SkipReason: TypeAlias = Literal["", "no-sandbox", "unknown-path", "unseen-call"]


@frozen
class CheckResult:
    """Result of a judge for some hosts: what it saw, and the advice or command that fixes it."""

    level: Level
    hosts: tuple[str, ...]
    saw: str
    advice: str = ""
    reason: SkipReason = ""


@frozen
class CheckFinding:
    """A verdict with the name of its check, as the report and the JSON show it.

    ``place`` is the agent that answered for hosts in containers.
    """

    check: str
    group: str
    level: Level
    hosts: tuple[str, ...]
    saw: str
    advice: str = ""
    reason: SkipReason = ""
    place: Place = ""


Judge: TypeAlias = Callable[[CheckContext], Iterable[CheckResult]]


@frozen
class Check:
    """One row of the catalogue. ``unless`` returns why the check does not apply to a request ("" if it applies).

    ``place`` "machine": if a host runs in a container, the host's own agent answers. ``outside`` are sections that the
    judge compares with those of the container.
    """

    name: str
    group: str
    worst: Level
    verifies: str
    why: str
    fix: str
    judge: Judge
    needs: tuple[str, ...] = ()
    always: bool = False  # if a host was not reached or its answer was invalid, --only and --skip do not apply
    unless: Callable[[CheckRequest], str] = lambda request: ""
    place: Place = "container"
    outside: tuple[str, ...] = ()


def fail(hosts: Iterable[str] | str, saw: str, advice: str) -> CheckResult:
    return CheckResult(level="fail", hosts=_to_host_tuple(hosts), saw=saw, advice=advice)


def warn(hosts: Iterable[str] | str, saw: str, advice: str) -> CheckResult:
    return CheckResult(level="warn", hosts=_to_host_tuple(hosts), saw=saw, advice=advice)


def skip(hosts: Iterable[str] | str, why: str, reason: SkipReason = "") -> CheckResult:
    """Return a verdict "not checked" with the reason; "" if the check does not concern these hosts."""
    return CheckResult(level="skip", hosts=_to_host_tuple(hosts), saw=why, reason=reason)


def info(hosts: Iterable[str] | str, saw: str, advice: str = "") -> CheckResult:
    return CheckResult(level="info", hosts=_to_host_tuple(hosts), saw=saw, advice=advice)


def ok(hosts: Iterable[str] | str, saw: str) -> CheckResult:
    return CheckResult(level="ok", hosts=_to_host_tuple(hosts), saw=saw)


def _to_host_tuple(hosts: Iterable[str] | str) -> tuple[str, ...]:
    return (hosts,) if isinstance(hosts, str) else tuple(hosts)


def is_check_selected(check: Check, request: CheckRequest) -> bool:
    """Return whether the request selects this check."""
    names = {check.name, check.group}
    asked = request.deep or check.group != "deep"
    return asked and (not request.only or bool(names & request.only)) and not names & request.skip
