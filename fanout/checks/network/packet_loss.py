"""Packet loss between hosts: the kernel counts retransmissions during the bulk test; find the host that causes them. Pure.

Each ordered pair counts one direction. The direction of a host with the highest share of retransmissions is named
first, and its pairs are then ignored. So a good host is not blamed for a bad partner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.engine.definition import Check, CheckContext, CheckResult, get_single_host_reason, info, skip, warn
from fanout.checks.network.mesh import skip_untested_mesh
from fanout.model.hosts import fold_names

_SHARE = 0.03  # share of retransmitted segments; a busy switch or host may cause less than that
_LEAST = 6  # segments

_Counts = Mapping[tuple[str, str], Mapping[str, Any]]


def _judge_loss(case: CheckContext) -> Iterator[CheckResult]:
    if case.mesh is None or case.mesh.unasked:
        yield from skip_untested_mesh(case)
        return
    counted = {pair: dial for pair, dial in case.mesh.dials.items() if dial.get("sent")}
    if not counted:
        yield skip(case.hosts, "no kernel reported its retransmissions")
        return
    lossy = list(attribute_loss(counted))
    if len(lossy) > max(2, len(case.hosts) // 2):
        resent, sent = _sum_counts(counted.values())
        yield info(
            case.hosts,
            f"{100 * resent / sent:.0f} % of the bulk data between them was retransmitted: the switch drops packets when all send",
            "check the counters of the switch; --deep measures the bandwidth",
        )
        return
    for host, inward, others, share in lossy:
        way = f"from {fold_names(others)}" if inward else f"to {fold_names(others)}"
        yield warn(
            host,
            f"{way}: {100 * share:.0f} % of the bulk data is lost and retransmitted",
            f"check its cable, transceiver and switch port:  {case.format_remote_command(host, 'ip -s link')}   and  ethtool -S IFACE  (errors, drops)",
        )


def attribute_loss(counted: _Counts) -> Iterator[tuple[str, bool, tuple[str, ...], float]]:
    """Yield (host, whether inward, the other ends, the share lost) for each direction that loses too much."""
    left = dict(counted)
    while left:
        sides = []
        for side in (1, 0):
            for host in dict.fromkeys(pair[side] for pair in left):
                resent, sent = _sum_counts(dial for pair, dial in left.items() if pair[side] == host)
                if resent >= _LEAST and resent >= _SHARE * sent:
                    sides.append((resent / sent, side, host))
        if not sides:
            return
        share, side, host = max(sides, key=lambda each: each[:2])
        mine = [pair for pair in left if pair[side] == host]
        yield host, side == 1, tuple(pair[1 - side] for pair in mine if left[pair]["resent"]), share
        for pair in mine:
            del left[pair]


def _sum_counts(dials: Any) -> tuple[int, int]:
    listed = list(dials)
    return sum(dial["resent"] for dial in listed), sum(dial["sent"] for dial in listed)


CHECKS = (
    Check(
        name="loss", group="network", worst="warn", unless=get_single_host_reason,
        verifies="Less than 3 % of the bulk data between hosts is lost (the kernels count retransmissions).",
        why="A bad cable or an overloaded switch port loses a few percent of the packets. Nothing fails, but every step "
        "takes several times as long.",
        fix="Check the cable, transceiver and switch port of the host; ip -s link and ethtool -S count errors.",
        judge=_judge_loss,
    ),
)  # fmt: skip
