"""Packets that were lost between hosts: counted by the kernel while the bulk went, and laid at the door of one host. Pure.

A pair that dials the other way round counts the other direction. The direction of a host on which most had to be sent
again is named first, and its pairs then speak against nobody else: so a good host is not blamed for its partners.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.mesh import unmeshed
from fanout.checks.model import Case, Check, Verdict, alone, info, skip, warn
from fanout.hosts import fold

_SHARE = 0.03  # of what was sent; less than that is what a crowded switch, or a busy host, does now and then
_LEAST = 6  # segments

_Counts = Mapping[tuple[str, str], Mapping[str, Any]]


def _loss(case: Case) -> Iterator[Verdict]:
    if case.mesh is None or case.mesh.unasked:
        yield from unmeshed(case)
        return
    counted = {pair: dial for pair, dial in case.mesh.dials.items() if dial.get("sent")}
    if not counted:
        yield skip(case.hosts, "no kernel told how much it had to send again")
        return
    lossy = list(blamed(counted))
    if len(lossy) > max(2, len(case.hosts) // 2):
        resent, sent = _sums(counted.values())
        yield info(
            case.hosts, f"{100 * resent / sent:.0f} % of the bulk between them had to be sent again: the switch drops it when all send",
            "look at the switch's counters; --deep shows what becomes of the bandwidth",
        )  # fmt: skip
        return
    for host, inward, others, share in lossy:
        way = f"from {fold(others)}" if inward else f"to {fold(others)}"
        yield warn(
            host, f"{way}: {100 * share:.0f} % of the bulk is lost on the way and sent again",
            f"cable, transceiver, switch port:  {case.on(host, 'ip -s link')}   and  ethtool -S IFACE  (errors, drops)",
        )  # fmt: skip


def blamed(counted: _Counts) -> Iterator[tuple[str, bool, tuple[str, ...], float]]:
    """(host, whether it is what it is sent, the other ends, the share) of every direction that loses too much."""
    left = dict(counted)
    while left:
        sides = []
        for side in (1, 0):
            for host in dict.fromkeys(pair[side] for pair in left):
                resent, sent = _sums(dial for pair, dial in left.items() if pair[side] == host)
                if resent >= _LEAST and resent >= _SHARE * sent:
                    sides.append((resent / sent, side, host))
        if not sides:
            return
        share, side, host = max(sides, key=lambda each: each[:2])
        mine = [pair for pair in left if pair[side] == host]
        yield host, side == 1, tuple(pair[1 - side] for pair in mine if left[pair]["resent"]), share
        for pair in mine:
            del left[pair]


def _sums(dials: Any) -> tuple[int, int]:
    listed = list(dials)
    return sum(dial["resent"] for dial in listed), sum(dial["sent"] for dial in listed)


CHECKS = (
    Check(
        name="loss", group="network", worst="warn", unless=alone,
        verifies="Of the bulk between hosts hardly anything is lost on the way (the kernels count what they send again).",
        why="A bad cable or a full switch port loses a few packets in a hundred: nothing fails, and every step takes several "
        "times as long.",
        fix="Cable, transceiver and switch port of the host; ip -s link and ethtool -S count errors.",
        judge=_loss,
    ),
)  # fmt: skip
