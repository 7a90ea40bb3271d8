"""Connection outcomes: one sentence and one command for each way in which a connection test can fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fanout.checks.engine.definition import CheckContext
from fanout.checks.network.addresses import find_interface

_RULES = "sudo nft list ruleset || sudo iptables -S"


def describe_outcome(dial: Mapping[str, Any], where: str) -> str:
    """Return what happened to a connection to ``where`` (``gpu01 at 10.0.0.1:29500``)."""
    kind = dial["outcome"]
    text = {
        "refused": f"connection refused by {where}, although a listener is open there: a firewall rejects it, "
        "or another machine has this address",
        "dropped": f"no answer from {where} in {dial.get('seconds', 0):.0f} s: a firewall drops the packets",
        "rejected": f"{where}: {dial.get('text', 'no route to host')}: a firewall rejects the connection (ssh passes)",
        "no-route": f"no route to {where}: {dial.get('text', '')}",
        "unresolvable": f"cannot resolve the name of {where}: {dial.get('text', '')}",
        "silent": f"{where} accepts the connection but sends nothing",
        "stranger": f"something else answers at {where}: {dial.get('first', '')!r}{detect_protocol(str(dial.get('first', '')))}",
        "impostor": f"the listener at {where} is not from this check: another host has the address, "
        "or another check is running",
        "stalled": f"{where} receives small messages, but bulk data stalls: packets of this size (MTU) are lost",
        "unknown": f"{where} could not be tested: {dial.get('text', '')}",
    }.get(kind)
    return text or f"{where}: {dial.get('text', kind)}"


def build_advice(case: CheckContext, dial: Mapping[str, Any], *, host: str, other: str, opens: Sequence[str]) -> str:
    """Return the advice for a failed connection from ``other`` to ``host``; ``opens`` opens the firewall of ``host``."""
    kind = dial["outcome"]
    if kind in ("dropped", "rejected", "refused"):
        return f"open it on {host}:  {'   or  '.join(case.format_remote_command(host, command) for command in opens)}"
    if kind == "silent":
        return (
            f"a firewall between the two accepts a connection and drops its data; see the rules of {host}:  {case.format_remote_command(host, _RULES)}"
            f"   or its listeners:  {case.format_remote_command(host, 'ss -ltnp')}"
        )
    return {
        "unresolvable": f"give a numeric address:  {host} addr=ADDRESS  in the hostfile",
        "no-route": f"choose an address of {host} in a network of this host:  addr=ADDRESS in the hostfile",
        "stranger": "a proxy or NAT is in between: choose another address with  addr=ADDRESS  in the hostfile",
        "impostor": f"compare with  {case.format_remote_command(host, 'ip addr')}   then name the right address with  addr=ADDRESS",
        "stalled": _advise_packet_size(case, host, other, str(dial.get("peer", ""))),
        "unknown": "run the check again",
    }.get(kind, f"test it:  {case.format_remote_command(other, 'nc -vz ' + str(dial.get('peer', host)) + ' 22')}")


def build_own_side_advice(case: CheckContext, host: str, other: str, address: str) -> str:
    """Return the advice if other hosts do reach ``other``: the cause is on ``host``, which does not."""
    route = f"   and its route  {case.format_remote_command(host, f'ip route get {address}')}" if address else ""
    return f"others reach {other}, so check {host}: its firewall  {case.format_remote_command(host, _RULES)}{route}"


def _advise_packet_size(case: CheckContext, host: str, other: str, address: str) -> str:
    """Return the advice for lost large packets: the smaller MTU on both ends, or an MTU that the path between carries."""
    sizes = {name: device for name in (host, other) if (device := _find_mesh_interface(case, name))}
    if len(sizes) == 2 and sizes[host][1] != sizes[other][1]:
        least = min(size for _, size in sizes.values())
        larger = host if sizes[host][1] > least else other
        command = f"sudo ip link set dev {sizes[larger][0]} mtu {least}"
        return f"the MTU is {sizes[host][1]} on {host} and {sizes[other][1]} on {other}; make it the same:  {case.format_remote_command(larger, command)}"
    name, size = sizes.get(host, ("IFACE", 1500))
    lower = 1500 if size > 1500 else 1400
    return (
        f"both ends have MTU {size}, and a device between drops packets of that size: let ICMP “fragmentation needed” pass, or "
        f"use smaller packets on {host}:  {case.format_remote_command(host, f'sudo ip link set dev {name} mtu {lower}')}"
    )


def _find_mesh_interface(case: CheckContext, name: str) -> tuple[str, int] | None:
    """Return the interface that has the host's address in the mesh, and its MTU; None if it is unknown."""
    address = case.mesh.addresses.get(name, "") if case.mesh else ""
    rows = case.facts.get(name, {}).get("interfaces", ())
    device = find_interface(rows, address)
    return next(((device, int(row["mtu"])) for row in rows if row["name"] == device and device), None)


def detect_protocol(first: str) -> str:
    """Return `` (PROTOCOL)`` for well-known first bytes, else ""."""
    for start, name in (
        ("HTTP/", "HTTP"),
        ("SSH-", "ssh"),
        ("220 ", "FTP or mail"),
        ("\x15\x03", "TLS"),
        ("<", "HTML"),
    ):
        if first.startswith(start):
            return f" ({name})"
    return ""
