"""Planner: makes the launch plan from hosts, task, settings and the facts about the hosts. Pure.

The exports are the contract of train.sh (NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT, NPROC_PER_NODE, PYTHONPATH) as
dFactory and VeOmni document it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any

from fanout.model.attempt_plan import FIRST_ATTEMPT, AttemptPlan
from fanout.model.errors import UsageError
from fanout.model.frozen import frozen
from fanout.model.host_facts import HostFacts
from fanout.model.hosts import Host
from fanout.model.option_table import HOST_SETTINGS
from fanout.model.plan import SETUP, Default, EnvValue, LaunchPlan, NodePlan, PathList
from fanout.model.settings import Settings
from fanout.model.task_words import get_module

RESERVED = frozenset(
    "NNODES NODE_RANK MASTER_ADDR MASTER_PORT NPROC_PER_NODE RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK "
    "FANOUT_RUN_ID FANOUT_NODE FANOUT_ATTEMPT FANOUT_MAX_RESTARTS FANOUT_RESTART_REASON".split()
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@frozen
class Planner:
    """Input of a plan except the facts about the hosts, so that a check and a run make the same plan.

    ``hosts`` are in rank order. ``directory`` is the work directory. Without ``has_script``, hosts start torchrun.
    ``task_file`` is the file of a module in the work directory, "" for another module.
    """

    hosts: Sequence[Host]
    task: Sequence[str]
    settings: Settings
    run_id: str
    directory: str
    has_script: bool
    task_file: str = ""
    detached: bool = False
    attempt: AttemptPlan = FIRST_ATTEMPT

    def make_plan(self, facts: HostFacts, *, dry: bool = False) -> LaunchPlan:
        """Return the plan. Raises UsageError if a needed value is given nowhere.

        With ``dry`` a process count may stay unknown, because a dry run asks no host.
        """
        hosts, settings = self.hosts, self.settings
        port = facts.master_port or settings.master_port
        master = choose_master_address(hosts, settings, facts)
        local = _local_addresses(hosts, facts)
        nodes: list[NodePlan] = []
        for rank, host in enumerate(hosts):
            nproc = _process_count(host, settings, facts, dry=dry)
            first_rank = None if settings.rank_logs == "off" else sum(node.nproc or 0 for node in nodes)
            exports = self._build_contract(rank, nproc, master, port)
            exports |= _build_exports(host, settings, facts, local.get(host.name, ""))
            nodes.append(
                NodePlan(
                    host=host,
                    rank=rank,
                    nproc=nproc,
                    cwd=host.workdir or self.directory,
                    argv=self._build_argv(rank, nproc, master, port),
                    env=tuple(exports.items()),
                    needs=self._list_needed_files(),
                    claims=_build_claims(host, port, nproc, facts),
                    first_rank=first_rank,
                    run_id=self.run_id,
                    private=frozenset(name for name, _ in (*settings.env, *host.env)),
                    holds_claims=self.attempt.holds,
                    before=self.attempt.before.get(host.name),
                )
            )
        return LaunchPlan(
            run_id=self.run_id,
            task=tuple(self.task),
            nodes=tuple(nodes),
            master_addr=master,
            master_port=port,
            host_settings=build_host_settings(settings),
            detached=self.detached,
        )

    def _build_contract(self, rank: int, nproc: int | None, master: str, port: int) -> dict[str, EnvValue]:
        """Return the exports that are the contract of train.sh."""
        contract: dict[str, EnvValue] = {"NNODES": str(len(self.hosts)), "NODE_RANK": str(rank), "MASTER_ADDR": master}
        contract["MASTER_PORT"] = str(port)
        if nproc is not None:
            contract["NPROC_PER_NODE"] = str(nproc)
        contract |= self.attempt.build_exports()
        return contract

    def _list_needed_files(self) -> tuple[str, ...]:
        """Return the files in the work directory that a host needs."""
        file = self.task_file if get_module(self.task) else self.task[0]
        return tuple(filter(None, (self.settings.script if self.has_script else "", file)))

    def _build_argv(self, rank: int, nproc: int | None, master: str, port: int) -> tuple[str, ...]:
        settings = self.settings
        if self.has_script:
            shell = ("bash", "-o", "pipefail") if settings.shell == "bash" else (settings.shell,)
            argv: tuple[str, ...] = (*shell, settings.script, *self.task)
        else:
            where = (f"--node-rank={rank}", f"--master-addr={master}", f"--master-port={port}")
            count = str(nproc) if nproc is not None else "gpu"
            argv = ("torchrun", f"--nnodes={len(self.hosts)}", f"--nproc-per-node={count}", *where, *self.task)
        return ("bash", "-c", SETUP, "fanout", *argv) if settings.setup else argv


def build_host_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings that the agent gets, by name."""
    return {name: getattr(settings, name) for name in HOST_SETTINGS}


def _build_exports(host: Host, settings: Settings, facts: HostFacts, local_address: str) -> dict[str, EnvValue]:
    """Return the exports of a host beside the contract of train.sh. Later entries override earlier ones."""
    exports: dict[str, EnvValue] = {"PYTHONPATH": PathList(before=("VeOmni",), after=("",))}
    if host.gpus:
        exports["CUDA_VISIBLE_DEVICES"] = ",".join(host.gpus)
    exports["OMP_NUM_THREADS"] = Default(value="1")
    if local_address:
        exports["PET_LOCAL_ADDR"] = Default(value=local_address)
    exports.update(_venv_exports(settings))
    exports.update(facts.exports.get(host.name, {}))
    if host.iface:
        exports.update(NCCL_SOCKET_IFNAME=host.iface, GLOO_SOCKET_IFNAME=host.iface)
    exports.update(_check_user_env(settings.env, where="--env", force=settings.force))
    exports.update(_check_user_env(host.env, where=str(host.origin), force=settings.force))
    if settings.setup:
        exports["FANOUT_SETUP"] = settings.setup
    return exports


def check_exports(hosts: Sequence[Host], settings: Settings) -> None:
    """Raise UsageError for an export that ``Planner.make_plan`` would refuse. Call it before any host is touched."""
    _check_user_env(settings.env, where="--env", force=settings.force)
    for host in hosts:
        _check_user_env(host.env, where=str(host.origin), force=settings.force)


def choose_master_address(hosts: Sequence[Host], settings: Settings, facts: HostFacts) -> str:
    """Return the address of host 0 for MASTER_ADDR: a given one, a measured one, or its name.

    Raises UsageError if it is a loopback address and another host is on another machine.
    """
    first = hosts[0]
    address = settings.master_addr or first.addr or facts.master_addr
    if not address:
        address = "127.0.0.1" if len(hosts) == 1 else facts.addresses.get(first.name, first.ssh_name)
    if len(hosts) > 1 and is_loopback(address) and not all(_is_loopback_entry(host, facts) for host in hosts):
        raise UsageError(
            f'MASTER_ADDR would be {address}, which means "myself" on every host ({first.origin}: {first.name})',
            hint=f"give an address of {first.name} that the other hosts reach:  `{first.name} addr=192.168.…` in the hostfile, "
            "or --master-addr",
        )
    return address


def _local_addresses(hosts: Sequence[Host], facts: HostFacts) -> dict[str, str]:
    """Return, by host, the address that torchrun there gives to its workers and to the other hosts.

    Without it a c10d rendezvous, and so ``--standalone``, uses the host's own name, which may not resolve here or on
    the other hosts. A static rendezvous does not use it; neither does any rendezvous of torch 2.4. Several hosts get
    theirs only if all are known: hosts that differ in this alone would be hard to explain.
    """
    if len(hosts) == 1:
        return {hosts[0].name: "127.0.0.1"}
    found = {host.name: host.addr or facts.addresses.get(host.name, "") for host in hosts}
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


def _is_loopback_entry(host: Host, facts: HostFacts) -> bool:
    """Return whether this entry is itself on loopback, as in a lab of several hosts on one machine."""
    return is_loopback(host.addr or facts.addresses.get(host.name, host.ssh_name))


def _process_count(host: Host, settings: Settings, facts: HostFacts, *, dry: bool) -> int | None:
    if settings.nproc_per_node is not None:
        return settings.nproc_per_node
    if host.slots is not None:
        return host.slots
    if host.gpus:
        return len(host.gpus)
    found = facts.gpus.get(host.name)
    if found or dry:
        return found or None
    raise UsageError(
        f"{host.origin}: how many processes on {host.name}? Its line has no slots=, and no GPU was found there"
        if found == 0
        else f"{host.origin}: how many processes on {host.name}? Its line has no slots=, and its GPUs were not counted",
        hint=f"write `{host.name} slots=1` (on a CPU host, up to one per core), or --nproc-per-node N",
    )


def _venv_exports(settings: Settings) -> dict[str, EnvValue]:
    if not settings.venv:
        return {}
    python_path = "" if settings.venv_sure else f"{settings.venv}/bin/python"
    marker = "CONDA_PREFIX" if settings.venv_is_conda else "VIRTUAL_ENV"
    exports: dict[str, EnvValue] = {"PATH": PathList(before=(f"{settings.venv}/bin",), only_if=python_path)}
    exports[marker] = Default(value=settings.venv, only_if=python_path)
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


def _build_claims(host: Host, port: int, nproc: int | None, facts: HostFacts) -> tuple[str, ...]:
    """Return the claims on the port and the GPUs. Two runs with different ports and GPUs may share a host."""
    gpus = host.gpus or tuple(str(number) for number in range(nproc or 0) if facts.gpus.get(host.name))
    return (f"port-{port}", *(f"gpu-{number}" for number in gpus))
