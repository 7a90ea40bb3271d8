"""Checks of what else is at work on a host: a firewall, the time service, whoever kills for want of memory, NCCL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.addresses import around
from fanout.checks.compare import outliers
from fanout.checks.model import Case, Check, Verdict, info, ok, skip, warn

_TOTALS = re.compile(r"^\s*(\d+)\s+\d+(?:-\d+)?\s+\d+(?:-\d+)?\s+(\d+)\s+(\d+)\s*$")


def _firewall(case: Case) -> Iterator[Verdict]:
    """No fault in itself: worth a word where it is not what the others have, or where connections fail."""
    active = {name: tuple(row["firewall"]) for name, row in case.of("services").items()}
    failing = _barred(case)
    for odd in outliers(active):
        lone = [name for name in odd.hosts if not (odd.value and name in failing)]
        yield info(lone, f"firewall: {odd.against(_list)}", "hosts of one lab mostly have the same rules")
    for name, names in active.items():
        if names and name in failing:
            yield info(name, f"{_list(names)} is active, and connections to this host fail", "see master-addr and mesh")
        elif names:
            yield ok(name, f"{_list(names)}, which lets the run's ports through" if case.mesh else _list(names))


def _list(names: tuple[str, ...]) -> str:
    return " and ".join(names) or "none"


def _barred(case: Case) -> set[str]:
    """Hosts at which somebody's connection was not answered."""
    bad = ("dropped", "rejected", "refused")
    tested = case.port.dials.values() if case.port else ()
    found = {case.request.first.name} if any(dial["outcome"] in bad for dial in tested) else set()
    return found | {end for (_, end), dial in (case.mesh.dials if case.mesh else {}).items() if dial["outcome"] in bad}


def _time(case: Case) -> Iterator[Verdict]:
    for name, services in case.of("services").items():
        running = services["time"]
        if services["synchronised"]:
            yield ok(name, running[0] if running else "synchronised")
        elif services["synchronised"] is None:
            yield skip(name, "timedatectl does not say whether the clock is synchronised")
        elif running:
            yield warn(name, f"{running[0]} runs, but has not set the clock yet", _sources(case, name, running[0]))
        else:
            yield warn(
                name, "no time service keeps the clock", f"start one:  {case.on(name, 'sudo timedatectl set-ntp true')}"
            )


def _sources(case: Case, name: str, service: str) -> str:
    tool = {
        "systemd-timesyncd": "timedatectl timesync-status",
        "ntpd": "ntpq -p",
        "ntp": "ntpq -p",
        "ntpsec": "ntpq -p",
    }
    return f"see whether it reaches its servers:  {case.on(name, tool.get(service, 'chronyc sources'))}"


def _killers(case: Case) -> Iterator[Verdict]:
    """systemd-oomd comes with many systems, and watches only what it is told to; the others take the largest process."""
    for name, services in case.of("services").items():
        eager = [unit for unit in services["killer"] if unit != "systemd-oomd"]
        if eager:
            yield warn(
                name, f"{eager[0]} is active: it ends the largest process before the memory is full",
                f"it leaves no word in the run's log; for the time of training:  {case.on(name, f'sudo systemctl stop {eager[0]}')}",
            )  # fmt: skip
        elif services["killer"]:
            yield ok(name, "systemd-oomd")


def _other_job(case: Case) -> Iterator[Verdict]:
    for name, lines in case.of("ras").items():
        if any("NCCL" in line for line in lines):
            yield info(
                name, f"another job of NCCL is at work: {_summary(lines)}",
                f"it may want the same GPUs; whose is it:  {case.on(name, 'nvidia-smi')}",
            )  # fmt: skip


def _summary(lines: list[str]) -> str:
    """Out of the totals that NCCL's service prints as a table."""
    for match in filter(None, map(_TOTALS.match, lines)):
        return f"{match.group(2)} processes on {match.group(1)} hosts, {match.group(3)} GPUs"
    return next((line.strip() for line in lines if "NCCL" in line), "")[:80]


def opening(facts: Mapping[str, Any], address: str, source: str, ports: str) -> list[str]:
    """The commands, one of which opens ``ports`` (``29500``, ``32768:60999``) with the firewall that a host has: to the network of ``address``,
    which is the host's own, if ``source`` is in it."""
    peers = around(facts.get("interfaces", ()), address, source)
    family = "ip6" if ":" in peers else "ip"
    commands = {
        "ufw": f"sudo ufw allow from {peers} to any port {ports} proto tcp",
        "firewalld": f"sudo firewall-cmd --add-port={ports.replace(':', '-')}/tcp",
        "nftables": f"sudo nft insert rule inet filter input {family} saddr {peers} tcp dport {ports.replace(':', '-')} accept",
    }
    active = [name for name in facts.get("services", {}).get("firewall", ()) if name in commands]
    return [commands[name] for name in active or ("ufw", "firewalld")]


CHECKS = (
    Check(
        name="firewall", group="network", worst="info", needs=("services",),
        verifies="Which firewall is active (firewalld, ufw, nftables), and that it is the same on all hosts.",
        why="It is what bars MASTER_PORT or the mesh on one host of many; the advice of those checks is then for this tool.",
        fix="Nothing, as long as master-addr and mesh pass.",
        judge=_firewall,
    ),
    Check(
        name="nccl-job", group="network", worst="info", needs=("ras",),
        verifies="No other job of NCCL answers on localhost:28028, where NCCL (2.24 or later) tells of itself.",
        why="Two jobs on the same GPUs slow each other, or one ends out of memory.",
        fix="Agree with its owner.",
        judge=_other_job,
    ),
    Check(
        name="time-service", group="system", worst="warn", needs=("services",),
        verifies="A time service keeps the host's clock (asked of systemd; a container without it is not judged).",
        why="A clock that nobody keeps drifts by seconds a week: logs out of order, stale .pyc files, certificates refused.",
        fix="timedatectl set-ntp true, or chrony.",
        judge=_time,
    ),
    Check(
        name="oom-killer", group="system", worst="warn", needs=("services",),
        verifies="No service ends processes before the memory is full (earlyoom, nohang). systemd-oomd is told, not warned "
        "of: it watches only what it is told to, which an ssh session mostly is not.",
        why="They take the largest process, which is the training, and leave no word in its log.",
        fix="Stop it for the time of training, or exempt the training in its configuration.",
        judge=_killers,
    ),
)  # fmt: skip
