"""Checks of services on a host: firewall, time service, out-of-memory killers, other NCCL jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.engine.comparison import find_outlier_groups
from fanout.checks.engine.definition import Check, CheckContext, CheckResult, info, ok, skip, warn
from fanout.checks.network.addresses import find_common_network

_TOTALS = re.compile(r"^\s*(\d+)\s+\d+(?:-\d+)?\s+\d+(?:-\d+)?\s+(\d+)\s+(\d+)\s*$")


def _judge_firewall(case: CheckContext) -> Iterator[CheckResult]:
    """Yield a note for a firewall that differs from those of the others, or on a host where connections fail."""
    active = {name: tuple(row["firewall"]) for name, row in case.get_section("services").items()}
    failing = _find_blocked_hosts(case)
    for odd in find_outlier_groups(active):
        lone = [name for name in odd.hosts if not (odd.value and name in failing)]
        yield info(
            lone, f"firewall: {odd.format_difference(_join_names)}", "hosts of one lab usually have the same rules"
        )
    for name, names in active.items():
        if names and name in failing:
            yield info(
                name, f"{_join_names(names)} is active, and connections to this host fail", "see master-addr and mesh"
            )
        elif names:
            yield ok(
                name, f"{_join_names(names)}, which passes the ports of the run" if case.mesh else _join_names(names)
            )


def _join_names(names: tuple[str, ...]) -> str:
    return " and ".join(names) or "none"


def _find_blocked_hosts(case: CheckContext) -> set[str]:
    """Return the hosts to which a connection was dropped, rejected or refused."""
    bad = ("dropped", "rejected", "refused")
    tested = case.port.dials.values() if case.port else ()
    found = {case.request.first_host.name} if any(dial["outcome"] in bad for dial in tested) else set()
    return found | {end for (_, end), dial in (case.mesh.dials if case.mesh else {}).items() if dial["outcome"] in bad}


def _judge_time_service(case: CheckContext) -> Iterator[CheckResult]:
    for name, services in case.get_section("services").items():
        running = services["time"]
        if services["synchronised"]:
            yield ok(name, running[0] if running else "synchronised")
        elif services["synchronised"] is None:
            yield skip(name, "timedatectl does not report whether the clock is synchronised")
        elif running:
            yield warn(
                name,
                f"{running[0]} is running, but has not synchronised the clock yet",
                _advise_time_sources(case, name, running[0]),
            )
        else:
            yield warn(
                name,
                "no time service synchronises the clock",
                f"start one:  {case.format_remote_command(name, 'sudo timedatectl set-ntp true')}",
            )


def _advise_time_sources(case: CheckContext, name: str, service: str) -> str:
    tool = {
        "systemd-timesyncd": "timedatectl timesync-status",
        "ntpd": "ntpq -p",
        "ntp": "ntpq -p",
        "ntpsec": "ntpq -p",
    }
    return (
        f"see whether it reaches its servers:  {case.format_remote_command(name, tool.get(service, 'chronyc sources'))}"
    )


def _judge_oom_killers(case: CheckContext) -> Iterator[CheckResult]:
    """Yield warnings for services that kill the largest process. systemd-oomd only watches the units set up for it."""
    for name, services in case.get_section("services").items():
        eager = [unit for unit in services["killer"] if unit != "systemd-oomd"]
        if eager:
            yield warn(
                name,
                f"{eager[0]} is active: it kills the largest process before the memory is full",
                f"it writes nothing to the run's log; stop it during training:  {case.format_remote_command(name, f'sudo systemctl stop {eager[0]}')}",
            )
        elif services["killer"]:
            yield ok(name, "systemd-oomd")


def _judge_other_nccl_job(case: CheckContext) -> Iterator[CheckResult]:
    for name, lines in case.get_section("ras").items():
        if any("NCCL" in line for line in lines):
            yield info(
                name,
                f"another NCCL job is running: {_summarize_ras(lines)}",
                f"it may use the same GPUs; see its owner:  {case.format_remote_command(name, 'nvidia-smi')}",
            )


def _summarize_ras(lines: list[str]) -> str:
    """Return the totals from the table that NCCL's RAS service prints."""
    for match in filter(None, map(_TOTALS.match, lines)):
        return f"{match.group(2)} processes on {match.group(1)} hosts, {match.group(3)} GPUs"
    return next((line.strip() for line in lines if "NCCL" in line), "")[:80]


def build_firewall_commands(facts: Mapping[str, Any], address: str, source: str, ports: str) -> list[str]:
    """Return commands that open ``ports`` (``29500``, ``32768:60999``) in the host's firewall, one per tool.

    They open them to the network of ``address``, which is the host's own, if ``source`` is in it; else to ``source``.
    """
    peers = find_common_network(facts.get("interfaces", ()), address, source)
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
        name="firewall", group="network", worst="info", needs=("services",), place="machine",
        verifies="The same firewall (firewalld, ufw, nftables) is active on all hosts; the finding names it.",
        why="A firewall on one host may block MASTER_PORT or the mesh. The advice of those checks then uses its commands.",
        fix="If master-addr and mesh pass, do nothing.",
        judge=_judge_firewall,
    ),
    Check(
        name="nccl-job", group="network", worst="info", needs=("ras",),
        verifies="No other NCCL job answers on localhost:28028, the RAS service of NCCL 2.24 or later.",
        why="Two jobs on the same GPUs slow each other, or one runs out of memory.",
        fix="Ask its owner.",
        judge=_judge_other_nccl_job,
    ),
    Check(
        name="time-service", group="system", worst="warn", needs=("services",), place="machine",
        verifies="A time service synchronises the host's clock, as systemd reports; a container without systemd is not judged.",
        why="An unsynchronised clock drifts by seconds per week: logs out of order, stale .pyc files, rejected certificates.",
        fix="Run timedatectl set-ntp true, or install chrony.",
        judge=_judge_time_service,
    ),
    Check(
        name="oom-killer", group="system", worst="warn", needs=("services",), place="machine",
        verifies="No service kills processes before the memory is full (earlyoom, nohang). An active systemd-oomd is "
        "no warning. It watches only the units set up for it, usually not an ssh session.",
        why="Such a service kills the largest process, which is the training, and writes nothing to its log.",
        fix="Stop it during training, or exempt the training in its configuration.",
        judge=_judge_oom_killers,
    ),
)  # fmt: skip
