"""What an unanswered connection means and what to do about it: one sentence and one command a kind of no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def advice(dial: Mapping[str, Any], *, host: str, opens: str) -> str:
    """What to type. ``host`` is where the connection should have come in, ``opens`` what its firewall wants to hear."""
    kind = dial["outcome"]
    if kind in ("dropped", "rejected", "refused"):
        return f"open it on {host}:  {opens}"
    return {
        "no-route": f"choose an address of {host} in a network that this host is in:  addr=ADDRESS in the hostfile",
        "unresolvable": f"give a numeric address:  {host} addr=ADDRESS  in the hostfile",
        "silent": f"see what listens there:  ssh {host} ss -ltnp",
        "stranger": "a proxy or NAT is in between: choose another address with  addr=ADDRESS  in the hostfile",
        "impostor": f"compare with  ssh {host} ip addr   then name the right address with  addr=ADDRESS",
        "stalled": f"set the same MTU on both ends (1500 is safe):  ssh {host} sudo ip link set dev IFACE mtu 1500",
        "unknown": "run the check again",
    }.get(kind, f"try by hand:  nc -vz {host} PORT")


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
