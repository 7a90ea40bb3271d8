"""Checks of services on a host: firewall, time service, out-of-memory killers, other NCCL jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.addresses import around
from fanout.checks.compare import outliers
from fanout.checks.model import Case, Check, Verdict, info, ok, skip, warn

_TOTALS = re.compile(r"^\s*(\d+)\s+\d+(?:-\d+)?\s+\d+(?:-\d+)?\s+(\d+)\s+(\d+)\s*$")


def _firewall(case: Case) -> Iterator[Verdict]:
    """Yield a note for a firewall that differs from those of the others, or on a host where connections fail."""
    active = {name: tuple(row["firewall"]) for name, row in case.of("services").items()}
    failing = _barred(case)
    for odd in outliers(active):
        lone = [name for name in odd.hosts if not (odd.value and name in failing)]
        yield info(lone, f"firewall: {odd.against(_list)}", "hosts of one lab usually have the same rules")
    for name, names in active.items():
        if names and name in failing:
            yield info(name, f"{_list(names)} is active, and connections to this host fail", "see master-addr and mesh")
        elif names:
            yield ok(name, f"{_list(names)}, which passes the ports of the run" if case.mesh else _list(names))


def _list(names: tuple[str, ...]) -> str:
    return " and ".join(names) or "none"


def _barred(case: Case) -> set[str]:
    """Return the hosts to which a connection was dropped, rejected or refused."""
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
            yield skip(name, "timedatectl does not report whether the clock is synchronised")
        elif running:
            yield warn(
                name,
                f"{running[0]} is running, but has not synchronised the clock yet",
                _sources(case, name, running[0]),
            )
        else:
            yield warn(
                name,
                "no time service synchronises the clock",
                f"start one:  {case.on(name, 'sudo timedatectl set-ntp true')}",
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
    """Yield warnings for services that kill the largest process. systemd-oomd only watches the units set up for it."""
    for name, services in case.of("services").items():
        eager = [unit for unit in services["killer"] if unit != "systemd-oomd"]
        if eager:
            yield warn(
                name, f"{eager[0]} is active: it kills the largest process before the memory is full",
                f"it writes nothing to the run's log; stop it during training:  {case.on(name, f'sudo systemctl stop {eager[0]}')}",
            )  # fmt: skip
        elif services["killer"]:
            yield ok(name, "systemd-oomd")


def _other_job(case: Case) -> Iterator[Verdict]:
    for name, lines in case.of("ras").items():
        if any("NCCL" in line for line in lines):
            yield info(
                name, f"another NCCL job is running: {_summary(lines)}",
                f"it may use the same GPUs; see its owner:  {case.on(name, 'nvidia-smi')}",
            )  # fmt: skip


def _summary(lines: list[str]) -> str:
    """Return the totals from the table that NCCL's RAS service prints."""
    for match in filter(None, map(_TOTALS.match, lines)):
        return f"{match.group(2)} processes on {match.group(1)} hosts, {match.group(3)} GPUs"
    return next((line.strip() for line in lines if "NCCL" in line), "")[:80]


def opening(facts: Mapping[str, Any], address: str, source: str, ports: str) -> list[str]:
    """Return commands that open ``ports`` (``29500``, ``32768:60999``) in the host's firewall, one per tool.

    They open them to the network of ``address``, which is the host's own, if ``source`` is in it; else to ``source``.
    """
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
        verifies="The same firewall (firewalld, ufw, nftables) is active on all hosts; the finding names it.",
        why="A firewall on one host may block MASTER_PORT or the mesh. The advice of those checks then uses its commands.",
        fix="If master-addr and mesh pass, do nothing.",
        judge=_firewall,
    ),
    Check(
        name="nccl-job", group="network", worst="info", needs=("ras",),
        verifies="No other NCCL job answers on localhost:28028, the RAS service of NCCL 2.24 or later.",
        why="Two jobs on the same GPUs slow each other, or one runs out of memory.",
        fix="Ask its owner.",
        judge=_other_job,
    ),
    Check(
        name="time-service", group="system", worst="warn", needs=("services",),
        verifies="A time service synchronises the host's clock, as systemd reports; a container without systemd is not judged.",
        why="An unsynchronised clock drifts by seconds per week: logs out of order, stale .pyc files, rejected certificates.",
        fix="Run timedatectl set-ntp true, or install chrony.",
        judge=_time,
    ),
    Check(
        name="oom-killer", group="system", worst="warn", needs=("services",),
        verifies="No service kills processes before the memory is full (earlyoom, nohang). An active systemd-oomd is "
        "no warning. It watches only the units set up for it, usually not an ssh session.",
        why="Such a service kills the largest process, which is the training, and writes nothing to its log.",
        fix="Stop it during training, or exempt the training in its configuration.",
        judge=_killers,
    ),
)  # fmt: skip
