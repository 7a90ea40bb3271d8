"""What an unanswered connection means and what to do about it: one sentence and one command a kind of no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fanout.checks.addresses import interface_of
from fanout.checks.model import Case

_RULES = "sudo nft list ruleset || sudo iptables -S"

OUTCOMES = (
    "ok", "refused", "dropped", "rejected", "no-route", "unresolvable", "silent", "stranger", "impostor", "stalled",
    "error", "unknown",
)  # fmt: skip


def saw(dial: Mapping[str, Any], where: str) -> str:
    """What happened on the way to ``where`` (``gpu01 at 10.0.0.1:29500``)."""
    kind = dial["outcome"]
    text = {
        "refused": f"connection refused by {where}, although a listener waits there: a firewall that rejects, "
        "or another machine has this address",
        "dropped": f"no answer from {where} in {dial.get('seconds', 0):.0f} s: a firewall drops the packets",
        "rejected": f"{where}: {dial.get('text', 'no route to host')}: a firewall rejects the connection (ssh passes)",
        "no-route": f"no route to {where}: {dial.get('text', '')}",
        "unresolvable": f"cannot resolve the name of {where}: {dial.get('text', '')}",
        "silent": f"{where} takes the connection but says nothing",
        "stranger": f"something else answers at {where}: {dial.get('first', '')!r}{decoded(str(dial.get('first', '')))}",
        "impostor": f"the listener at {where} is not that of this check: another host has the address, "
        "or another check runs",
        "stalled": f"{where} takes small messages, but bulk data stalls: a packet size (MTU) that does not get through",
        "unknown": f"it could not try {where}: {dial.get('text', '')}",
    }.get(kind)
    return text or f"{where}: {dial.get('text', kind)}"


def advice(case: Case, dial: Mapping[str, Any], *, host: str, other: str, opens: Sequence[str]) -> str:
    """What to type. The connection should have come in at ``host`` from ``other``; ``opens`` opens its firewall."""
    kind = dial["outcome"]
    if kind in ("dropped", "rejected", "refused"):
        return f"open it on {host}:  {'   or  '.join(case.on(host, command) for command in opens)}"
    if kind == "silent":
        return (
            f"a firewall between the two lets a connection begin and drops the rest; on {host}:  {case.on(host, _RULES)}"
            f"   or see what listens there:  {case.on(host, 'ss -ltnp')}"
        )
    return {
        "unresolvable": f"give a numeric address:  {host} addr=ADDRESS  in the hostfile",
        "no-route": f"choose an address of {host} in a network that this host is in:  addr=ADDRESS in the hostfile",
        "stranger": "a proxy or NAT is in between: choose another address with  addr=ADDRESS  in the hostfile",
        "impostor": f"compare with  {case.on(host, 'ip addr')}   then name the right address with  addr=ADDRESS",
        "stalled": _packet_size(case, host, other, str(dial.get("peer", ""))),
        "unknown": "run the check again",
    }.get(kind, f"try by hand:  {case.on(other, 'nc -vz ' + str(dial.get('peer', host)) + ' 22')}")


def own_side(case: Case, host: str, other: str, address: str) -> str:
    """What to do where other hosts do reach ``other``: the cause lies with the one that does not."""
    route = f"   and its route  {case.on(host, f'ip route get {address}')}" if address else ""
    return f"others reach {other}, so look at {host}: its firewall  {case.on(host, _RULES)}{route}"


def _packet_size(case: Case, host: str, other: str, address: str) -> str:
    """What to do where large packets are lost: the smaller MTU for both ends, or one that passes what lies between."""
    sizes = {name: device for name in (host, other) if (device := _device(case, name))}
    if len(sizes) == 2 and sizes[host][1] != sizes[other][1]:
        least = min(size for _, size in sizes.values())
        larger = host if sizes[host][1] > least else other
        command = f"sudo ip link set dev {sizes[larger][0]} mtu {least}"
        return f"the MTU is {sizes[host][1]} on {host} and {sizes[other][1]} on {other}; make it the same:  {case.on(larger, command)}"
    name, size = sizes.get(host, ("IFACE", 1500))
    lower = 1500 if size > 1500 else 1400
    return (
        f"both ends have MTU {size}, and something between drops packets of that size: let ICMP “fragmentation needed” pass, or "
        f"make packets smaller on {host}:  {case.on(host, f'sudo ip link set dev {name} mtu {lower}')}"
    )


def _device(case: Case, name: str) -> tuple[str, int] | None:
    """The interface that carries the host's address in the mesh, and its MTU."""
    address = case.mesh.addresses.get(name, "") if case.mesh else ""
    rows = case.facts.get(name, {}).get("interfaces", ())
    device = interface_of(rows, address)
    return next(((device, int(row["mtu"])) for row in rows if row["name"] == device and device), None)


def decoded(first: str) -> str:
    """The protocol by its first bytes, where they are well known."""
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
