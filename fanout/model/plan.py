"""Launch plan: the command and environment of every host, complete and frozen before anything starts.

``make_plan`` is pure. plan_text.py prints the same value that protocol.py sends, so a dry run shows exactly what will run.
The exports are the contract of train.sh (NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT, NPROC_PER_NODE, PYTHONPATH) as
dFactory and VeOmni document it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from fanout.model.errors import UsageError
from fanout.model.hosts import Host
from fanout.model.settings import Settings
from fanout.text.parse_units import parse_size

RESERVED = frozenset(
    "NNODES NODE_RANK MASTER_ADDR MASTER_PORT NPROC_PER_NODE RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK "
    "FANOUT_RUN_ID FANOUT_NODE".split()
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

# Constant. The user's text is passed in the environment and never becomes part of a shell's source.
SETUP = 'if [ -f "$FANOUT_SETUP" ]; then . "$FANOUT_SETUP"; else eval "$FANOUT_SETUP"; fi || exit; unset FANOUT_SETUP; exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class PathList:
    """Directories before and after the host's own value. Relative ones are below the work directory."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    only_if: str = ""  # a path that must exist on the host, or this has no effect


@dataclass(frozen=True, slots=True, kw_only=True)
class Default:
    """A value that is used only if the host's login sets none."""

    value: str
    only_if: str = ""


EnvValue: TypeAlias = str | PathList | Default


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """The part of one host. ``nproc`` is None if the host was not asked yet (dry runs only)."""

    host: Host
    rank: int
    nproc: int | None
    cwd: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, EnvValue], ...]
    needs: tuple[str, ...]  # files that must exist before any host starts
    first_rank: int | None = None  # global rank of its first process; None: ranks share one log
    claims: tuple[str, ...]  # port and GPUs that no other run may use on that host at the same time
    run_id: str
    private: frozenset[str] = frozenset()  # exports with values of the user, which no record contains

    @property
    def gpu_ids(self) -> tuple[str, ...]:
        """Return the ids of its GPUs in the order of its processes, () if unknown."""
        return tuple(claim[4:] for claim in self.claims if claim.startswith("gpu-"))

    @property
    def process_mark(self) -> tuple[str, ...]:
        """Return the environment entries that mark this run's processes on that host."""
        return (f"FANOUT_RUN_ID={self.run_id}", f"FANOUT_NODE={self.rank}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """The whole run."""

    run_id: str
    task: tuple[str, ...]
    nodes: tuple[NodePlan, ...]
    master_addr: str
    master_port: int
    grace: float
    lease: float
    spool_limit: int = 0  # bytes of log that a host may keep; 0: any number
    detached: bool = False  # launched with -d: its launcher has no terminal
    notes: tuple[str, ...] = field(default=())
    stacks: bool = True  # whether the stacks of its Python processes can be read

    @property
    def world_size(self) -> int | None:
        """Return the number of ranks of all hosts, None if that of a host is unknown."""
        counts = [node.nproc for node in self.nodes if node.nproc is not None]
        return sum(counts) if len(counts) == len(self.nodes) else None

    def node_of(self, name: str) -> NodePlan:
        return next(node for node in self.nodes if node.host.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """Facts about the hosts that were collected before the plan is made. Each may be missing."""

    master_addr: str = ""
    gpus: Mapping[str, int] = field(default_factory=dict)  # GPUs found, by host name
    env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # per-host exports, such as interfaces
    address: Mapping[str, str] = field(default_factory=dict)  # HostName of ssh_config, by host name


def make_plan(
    hosts: Sequence[Host],
    task: Sequence[str],
    settings: Settings,
    *,
    run_id: str,
    cwd: str,
    has_script: bool,
    learned: HostFacts,
    dry: bool = False,
) -> LaunchPlan:
    """Return the plan for ``hosts`` in rank order. Raises UsageError if a needed value is given nowhere.

    With ``dry`` a process count may stay unknown, because a dry run asks no host.
    """
    master = master_address(hosts, settings, learned)
    local = _local_addresses(hosts, learned)
    nodes: list[NodePlan] = []
    for rank, host in enumerate(hosts):
        nproc = _process_count(host, settings, learned, dry=dry)
        contract: dict[str, EnvValue] = {"NNODES": str(len(hosts)), "NODE_RANK": str(rank), "MASTER_ADDR": master}
        contract["MASTER_PORT"] = str(settings.master_port)
        if nproc is not None:
            contract["NPROC_PER_NODE"] = str(nproc)
        exports = contract | _build_exports(host, settings, learned, local.get(host.name, ""))
        nodes.append(
            NodePlan(
                host=host,
                rank=rank,
                nproc=nproc,
                cwd=host.workdir or cwd,
                argv=_build_argv(task, settings, len(hosts), rank, nproc, master, has_script=has_script),
                env=tuple(exports.items()),
                needs=(settings.script, task[0]) if has_script else (task[0],),
                claims=_build_claims(host, settings, nproc, learned),
                first_rank=None if settings.rank_logs == "off" else sum(node.nproc or 0 for node in nodes),
                run_id=run_id,
                private=frozenset(name for name, _ in (*settings.env, *host.env)),
            )
        )
    return LaunchPlan(
        run_id=run_id,
        task=tuple(task),
        nodes=tuple(nodes),
        master_addr=master,
        master_port=settings.master_port,
        grace=settings.grace,
        lease=settings.lease,
        spool_limit=parse_size(settings.spool_limit) or 0,
        stacks=settings.stacks != "off",
    )


def _build_exports(host: Host, settings: Settings, learned: HostFacts, local_address: str) -> dict[str, EnvValue]:
    """Return the exports of a host beside the contract of train.sh. Later entries override earlier ones."""
    exports: dict[str, EnvValue] = {"PYTHONPATH": PathList(before=("VeOmni",), after=("",))}
    if host.gpus:
        exports["CUDA_VISIBLE_DEVICES"] = ",".join(host.gpus)
    exports["OMP_NUM_THREADS"] = Default(value="1")
    if local_address:
        exports["PET_LOCAL_ADDR"] = Default(value=local_address)
    exports.update(_venv_exports(settings))
    exports.update(learned.env.get(host.name, {}))
    if host.iface:
        exports.update(NCCL_SOCKET_IFNAME=host.iface, GLOO_SOCKET_IFNAME=host.iface)
    exports.update(_check_user_env(settings.env, where="--env", force=settings.force))
    exports.update(_check_user_env(host.env, where=str(host.origin), force=settings.force))
    if settings.setup:
        exports["FANOUT_SETUP"] = settings.setup
    return exports


def check_exports(hosts: Sequence[Host], settings: Settings) -> None:
    """Raise UsageError for an export that ``make_plan`` would refuse. Call it before any host is touched."""
    _check_user_env(settings.env, where="--env", force=settings.force)
    for host in hosts:
        _check_user_env(host.env, where=str(host.origin), force=settings.force)


def master_address(hosts: Sequence[Host], settings: Settings, learned: HostFacts) -> str:
    """Return the address of host 0 for MASTER_ADDR: a given one, a measured one, or its name.

    Raises UsageError if it is a loopback address and another host is on another machine.
    """
    first = hosts[0]
    address = settings.master_addr or first.addr or learned.master_addr
    if not address:
        address = "127.0.0.1" if len(hosts) == 1 else learned.address.get(first.name, first.ssh_name)
    if len(hosts) > 1 and is_loopback(address) and not all(_is_loopback_entry(host, learned) for host in hosts):
        raise UsageError(
            f'MASTER_ADDR would be {address}, which means "myself" on every host ({first.origin}: {first.name})',
            hint=f"give an address of {first.name} that the other hosts reach:  `{first.name} addr=192.168.…` in the hostfile, "
            "or --master-addr",
        )
    return address


def _local_addresses(hosts: Sequence[Host], learned: HostFacts) -> dict[str, str]:
    """Return, by host, the address that torchrun there gives to its workers and to the other hosts.

    Without it a c10d rendezvous, and so ``--standalone``, uses the host's own name, which may not resolve here or on
    the other hosts. A static rendezvous does not use it; neither does any rendezvous of torch 2.4. Several hosts get
    theirs only if all are known: hosts that differ in this alone would be hard to explain.
    """
    if len(hosts) == 1:
        return {hosts[0].name: "127.0.0.1"}
    found = {host.name: host.addr or learned.address.get(host.name, "") for host in hosts}
    return found if all(map(is_address, found.values())) else {}


def is_address(text: str) -> bool:
    """Return whether ``text`` is an IP address and not a name."""
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Return whether ``address`` is 127.*, ::1 or localhost."""
    if address == "localhost" or address.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_loopback_entry(host: Host, learned: HostFacts) -> bool:
    """Return whether this entry is itself on loopback, as in a lab of several hosts on one machine."""
    return is_loopback(host.addr or learned.address.get(host.name, host.ssh_name))


def _process_count(host: Host, settings: Settings, learned: HostFacts, *, dry: bool) -> int | None:
    if settings.nproc_per_node is not None:
        return settings.nproc_per_node
    if host.slots is not None:
        return host.slots
    if host.gpus:
        return len(host.gpus)
    found = learned.gpus.get(host.name)
    if found:
        return found
    if dry and found is None:
        return None
    raise UsageError(
        f"{host.origin}: how many processes on {host.name}? Its line has no slots=, and no GPU was found there"
        if found == 0
        else f"{host.origin}: how many processes on {host.name}? Its line has no slots=, and its GPUs were not counted",
        hint=f"write `{host.name} slots=1` (on a CPU host, up to one per core), or --nproc-per-node N",
    )


def _build_argv(
    task: Sequence[str],
    settings: Settings,
    nnodes: int,
    rank: int,
    nproc: int | None,
    master: str,
    *,
    has_script: bool,
) -> tuple[str, ...]:
    if has_script:
        shell = ("bash", "-o", "pipefail") if settings.shell == "bash" else (settings.shell,)
        argv: tuple[str, ...] = (*shell, settings.script, *task)
    else:
        where = (f"--node-rank={rank}", f"--master-addr={master}", f"--master-port={settings.master_port}")
        count = str(nproc) if nproc is not None else "gpu"
        argv = ("torchrun", f"--nnodes={nnodes}", f"--nproc-per-node={count}", *where, *task)
    return ("bash", "-c", SETUP, "fanout", *argv) if settings.setup else argv


def _venv_exports(settings: Settings) -> dict[str, EnvValue]:
    if not settings.venv:
        return {}
    sure = "" if settings.venv_sure else f"{settings.venv}/bin/python"
    marker = "CONDA_PREFIX" if settings.venv_is_conda else "VIRTUAL_ENV"
    exports: dict[str, EnvValue] = {"PATH": PathList(before=(f"{settings.venv}/bin",), only_if=sure)}
    exports[marker] = Default(value=settings.venv, only_if=sure)
    return exports


def _check_user_env(pairs: Sequence[tuple[str, str]], *, where: str, force: bool) -> dict[str, str]:
    exports = {}
    for name, value in pairs:
        if not _NAME.match(name):
            raise UsageError(f"{where}: {name!r} is not a name for an environment variable")
        if "\0" in value:
            raise UsageError(
                f"{where}: the value of {name} contains a NUL byte, which no environment variable can contain"
            )
        if name in RESERVED and not force:
            raise UsageError(f"{where}: {name} is set by fanout for each host", hint="use --force to set it anyway")
        exports[name] = value
    return exports


def _build_claims(host: Host, settings: Settings, nproc: int | None, learned: HostFacts) -> tuple[str, ...]:
    """Return the claims on the port and the GPUs. Two runs with different ports and GPUs may share a host."""
    gpus = host.gpus or tuple(str(number) for number in range(nproc or 0) if learned.gpus.get(host.name))
    return (f"port-{settings.master_port}", *(f"gpu-{number}" for number in gpus))
