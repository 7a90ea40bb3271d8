"""Faults for the check tests: functions that change the recorded facts of healthy hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fanout.checks.engine.definition import CheckContext, Level, MachineAnswer, PortTest, UnreachableHost
from tests.checks.kit import build_healthy_case, change_fact

Change = Callable[[CheckContext], CheckContext]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, and the exact finding that one check must report."""

    check: str
    level: Level
    change: Change
    hosts: tuple[str, ...] = ("gpu03",)
    saw: str = ""
    advice: str = ""
    label: str = ""

    @property
    def id(self) -> str:
        return f"{self.check}{'-' if self.label else ''}{self.label}"


def set_fact(path: str, value: Any, host: str = "gpu03") -> Change:
    return lambda case: change_fact(case, host, path, value)


def set_request(**more: Any) -> Change:
    return lambda case: replace(case, request=replace(case.request, **more))


def combine_changes(*changes: Change) -> Change:
    def apply_change(case: CheckContext) -> CheckContext:
        for change in changes:
            case = change(case)
        return case

    return apply_change


def enter_containers(case: CheckContext) -> CheckContext:
    """Let all hosts be in a container named work. Their own agents report the same healthy machine."""
    hosts = tuple(replace(host, container="work") for host in case.request.hosts)
    facts = {name: dict(row) for name, row in case.facts.items()}
    for row in facts.values():
        row["files"] = {**row["files"], "workdir": {**row["files"]["workdir"], "place": "8:77"}}
    engine = {
        "engine": "docker",
        "rootless": False,
        "image": "sha256:aa",
        "digests": ["sha256:bb"],
        "network": "host",
        "cgroup_driver": "systemd",
        "gpu_hook": False,
        "gpu_links": False,
    }
    machines = {name: MachineAnswer(facts={**row, "engine": engine}) for name, row in facts.items()}
    commands = replace(case.request.commands, containers=dict.fromkeys(facts, "docker exec -i work"))
    request = replace(case.request, hosts=hosts, commands=commands)
    return replace(case, request=request, facts=facts, machines=machines)


def set_machine_fact(path: str, value: Any, host: str = "gpu03") -> Change:
    """Return the change of one fact that the own agent of a host in a container reports."""

    def apply_change(case: CheckContext) -> CheckContext:
        case = case if case.machines else enter_containers(case)
        facts = {name: answer.facts for name, answer in case.machines.items()}
        changed = change_fact(replace(case, facts=facts), host, path, value).facts
        answers = {name: replace(answer, facts=changed[name]) for name, answer in case.machines.items()}
        return replace(case, machines=answers)

    return apply_change


def lose_host(case: CheckContext) -> CheckContext:
    trouble = UnreachableHost(
        message="ann@10.0.0.3:22  Permission denied (publickey).", hint="try:  ssh-copy-id ann@10.0.0.3"
    )
    return build_healthy_case(unreached={"gpu03": trouble})


def silence_host(case: CheckContext) -> CheckContext:
    broken = build_healthy_case(unreached={"gpu03": UnreachableHost(message="")})
    request = replace(broken.request, unreached={})
    return replace(
        broken, request=request, facts={**broken.facts, "gpu03": {}}, missing={"gpu03": {"": "no answer within 15 s"}}
    )


def set_dial(outcome: str, **more: Any) -> Change:
    def apply_change(case: CheckContext) -> CheckContext:
        assert case.port is not None
        dials = {**case.port.dials, ("gpu03", "10.0.0.1"): {"outcome": outcome, **more}}
        return replace(case, port=replace(case.port, dials=dials, chosen=""))

    return apply_change


def set_stale_name(case: CheckContext) -> CheckContext:
    """Let a name of host 0 resolve to another address on gpu03."""
    assert case.port is not None
    dials: dict[tuple[str, str], dict[str, Any]] = {
        (name, "head"): {"outcome": "ok", "peer": "10.0.0.1"} for name in ("gpu02", "gpu04")
    }
    dials["gpu03", "head"] = {"outcome": "dropped", "peer": "10.0.0.99"}
    return replace(case, port=replace(case.port, candidates=("head",), chosen="", dials=dials))


def take_port(case: CheckContext) -> CheckContext:
    holder = {
        "uid": 1001,
        "user": "bob",
        "pid": 4711,
        "command": "python train_old.py",
        "age": 7500.0,
        "listening": True,
    }
    problem = {"error": "EADDRINUSE", "text": "Address already in use", "holder": holder}
    return replace(case, port=PortTest(port=29500, candidates=("10.0.0.1",), problem=problem))


def set_mesh(outcome: str, where: Callable[[str, str], bool]) -> Change:
    def apply_change(case: CheckContext) -> CheckContext:
        assert case.mesh is not None
        dials = {
            pair: {"outcome": outcome, "seconds": 3.0} if where(*pair) else dial
            for pair, dial in case.mesh.dials.items()
        }
        return replace(case, mesh=replace(case.mesh, dials=dials))

    return apply_change


def set_pace(what: str, there: float, elsewhere: float) -> Change:
    """Set the time ``what`` of all pairs: ``there`` for pairs with gpu03, ``elsewhere`` for the others."""

    def apply_change(case: CheckContext) -> CheckContext:
        assert case.mesh is not None
        dials = {
            pair: {**dial, what: there if "gpu03" in pair else elsewhere} for pair, dial in case.mesh.dials.items()
        }
        return replace(case, mesh=replace(case.mesh, dials=dials))

    return apply_change


def lose_packets(case: CheckContext) -> CheckContext:
    """Lose six of a hundred segments that are sent to gpu03."""
    assert case.mesh is not None
    dials = {
        pair: {**dial, "sent": 200, "resent": 12 if pair[1] == "gpu03" else 0} for pair, dial in case.mesh.dials.items()
    }
    return replace(case, mesh=replace(case.mesh, dials=dials))


def build_process(**more: Any) -> dict[str, Any]:
    row = {
        "gpu": "GPU-5-of-gpu03",
        "pid": 41822,
        "memory": "61200",
        "command": "python old.py",
        "uid": 1,
        "user": "ann",
        "age": 3e5,
    }
    return {**row, **more}


IB = [
    {
        "port": "mlx5_0/1", "state": "ACTIVE", "rate": "400 Gb/sec", "link": "InfiniBand", "usable": True,
        "library": True, "errors": {"link_downed": 1, "symbol_error": 0}, "gids": {"0": "IB/RoCE v1 link-local"},
    }
]  # fmt: skip
DOWN = [{**IB[0], "state": "DOWN"}]
FLAPPING = [{**IB[0], "errors": {"link_downed": 4, "symbol_error": 900}}]
ROCE = [{**IB[0], "link": "Ethernet", "gids": {"0": "IB/RoCE v1 link-local", "3": "RoCE v2 IPv4"}}]
RENUMBERED = [{**ROCE[0], "gids": {"0": "IB/RoCE v1 link-local", "3": "RoCE v2 IPv6", "5": "RoCE v2 IPv4"}}]
RAS = [
    "NCCL version 2.27.5 compiled with CUDA 12.9", "", "Job summary", "===========", "",
    "  Nodes  Processes         GPUs  Processes     GPUs", "(total)   per node  per process    (total)  (total)",
    "      4          8            1         32       32",
]  # fmt: skip
VPN = {
    "name": "wg0",
    "addresses": ["10.9.0.1/24"],
    "up": True,
    "running": True,
    "loopback": False,
    "mtu": 1420,
    "speed": 0,
}


def set_everywhere(path: str, value: Any) -> Change:
    return combine_changes(*(set_fact(path, value, f"gpu{number:02}") for number in range(1, 5)))


def put_vpn_first(case: CheckContext) -> CheckContext:
    found = case.facts["gpu03"]["interfaces"]
    return change_fact(case, "gpu03", "interfaces", [found[0], VPN, found[1]])


def separate_directory(name: str) -> Change:
    """Give the host a directory of its own that the other hosts do not share."""

    def apply_change(case: CheckContext) -> CheckContext:
        for other in case.hosts:
            seen = [name] if other == name else [host for host in case.hosts if host != name]
            case = change_fact(case, other, "share/hosts", seen)
        return case

    return apply_change


def build_other_run(*claims: str) -> dict[str, Any]:
    """Return a run of another user, as a host reports it."""
    known = {"uid": 1002, "user": "bob (uid 1002)", "pid": 4711, "run": "8b1c", "since": 1.0, "age": 10800.0}
    return {**known, "claims": [*claims]}
