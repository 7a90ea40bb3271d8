"""Mesh checks: connections between all hosts on free ports, with bulk data, and the host that causes failures. Pure.

gloo and NCCL connect on ports that the kernel assigns. The order of addresses decides which side connects, so every
ordered pair is tested. Beyond 32 hosts, each host is tested with those at distances 1, 2, 4, … in both directions of
a ring. Each host then has about a dozen partners each way, enough to distinguish a bad host from a bad pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from statistics import median_low
from typing import Any, TypeAlias

from fanout.checks.engine.comparison import compute_medians_of_others
from fanout.checks.engine.definition import Check, CheckContext, CheckResult, fail, get_single_host_reason, skip, warn
from fanout.checks.network import dial_outcomes
from fanout.checks.system import services
from fanout.model.hosts import fold_names

MOST_WHOLE = 32
Pair: TypeAlias = tuple[str, str]
_FAR = 0.2  # seconds to a connection's first answer: no network of one lab takes that long
_SLOW = 0.25  # seconds for the bulk data; and at least
_SLOWER = 8  # times as long as the others take


def choose_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the ordered pairs (from, to) to test."""
    count = len(names)
    if count <= MOST_WHOLE:
        return [(start, end) for start in names for end in names if start != end]
    steps = [1 << power for power in range(count.bit_length()) if 1 << power <= count // 2]
    found = [(names[i], names[(i + sign * step) % count]) for i in range(count) for step in steps for sign in (1, -1)]
    return list(dict.fromkeys(found))


def skip_untested_mesh(case: CheckContext) -> Iterator[CheckResult]:
    """Yield the reason why no pair was tested."""
    yield skip(case.hosts, case.mesh.unasked if case.mesh else "not asked")


def _judge_mesh(case: CheckContext) -> Iterator[CheckResult]:
    yield from _judge_outcomes(case, lambda outcome: outcome not in ("ok", "stalled"))


def _judge_bulk(case: CheckContext) -> Iterator[CheckResult]:
    yield from _judge_outcomes(case, lambda outcome: outcome == "stalled")


def _judge_outcomes(case: CheckContext, bad: Callable[[str], bool]) -> Iterator[CheckResult]:
    mesh = case.mesh
    if mesh is None or mesh.unasked:
        yield from skip_untested_mesh(case)
        return
    untested = tuple(name for name in case.hosts if not any(name in pair for pair in mesh.dials))
    yield skip(untested, "it has no address that another host can reach")
    failing = {pair: dial for pair, dial in mesh.dials.items() if bad(dial["outcome"])}
    for host, inward, culprits in attribute_failures(failing, mesh.dials):
        yield fail(host, *_describe_failure(case, host, inward, culprits))


def attribute_failures(
    failing: Mapping[Pair, Mapping[str, Any]], tested: Collection[Pair]
) -> Iterator[tuple[str, bool, list[tuple[Pair, Mapping[str, Any]]]]]:
    """Yield (host, whether its inward side is at fault, the pairs) until every failing pair is explained.

    A host that is in every failing pair explains them all, even if some of its pairs work. Otherwise a host that no
    host reaches, or that reaches no host, explains all its pairs; the host with most pairs comes first, inward before
    outward. The remaining pairs are attributed to the host that is in most of them; on a tie, to the one dialled.
    """
    left = dict(failing)
    while left:
        host, pairs_of = _find_main_cause(left, failing, tested)
        for side in (1, 0):
            mine = [(pair, left[pair]) for pair in pairs_of if pair[side] == host]
            if mine:
                yield host, side == 1, mine
        for pair in pairs_of:
            del left[pair]


def _find_main_cause(
    left: Mapping[Pair, Mapping[str, Any]], failing: Mapping[Pair, Mapping[str, Any]], tested: Collection[Pair]
) -> tuple[str, list[Pair]]:
    """Return the host that explains most of the remaining pairs, and these pairs."""
    common = set.intersection(*(set(pair) for pair in left))
    if len(common) == 1:
        (host,) = common
        return host, list(left)
    if len(common) == 2:  # one pair, tested in both directions: the host that accepts a connection and sends nothing
        host = next((end for (_, end), dial in left.items() if dial["outcome"] == "silent"), next(iter(left))[1])
        return host, list(left)
    sides = []
    for side in (1, 0):
        for host in {pair[side] for pair in left}:
            if all(pair in failing for pair in tested if pair[side] == host):
                sides.append((sum(pair[side] == host for pair in left), side, host))
    if sides:
        _, side, host = max(sides)
        return host, [pair for pair in left if pair[side] == host]
    counts = Counter(name for pair in left for name in pair)
    host = max(counts, key=lambda name: (counts[name], name == next(iter(left))[1]))
    return host, [pair for pair in left if host in pair]


def _judge_pace(case: CheckContext) -> Iterator[CheckResult]:
    """Yield warnings for distant and slow hosts: slow by the median of its pairs, so that a slow partner does not count."""
    if case.mesh is None or case.mesh.unasked:
        yield from skip_untested_mesh(case)
        return
    nearest = {name: min(took) for name, took in _collect_times(case.mesh.dials, "connect").items()}
    bulk = {name: median_low(took) for name, took in _collect_times(case.mesh.dials, "bulk").items()}
    usual = compute_medians_of_others(bulk)
    for name in case.hosts:
        if nearest.get(name, 0.0) > _FAR:
            yield warn(
                name,
                f"the first answer from the nearest other host takes {1000 * nearest[name]:.0f} ms",
                f"it may be in a VPN or at another site: name an address in the lab's network:  {name} addr=ADDRESS  in the hostfile",
            )
        elif name in usual and bulk[name] > max(_SLOW, _SLOWER * usual[name]):
            yield warn(
                name,
                f"256 KB in each direction take {bulk[name]:.1f} s; between the others {1000 * usual[name]:.0f} ms",
                f"every step waits for it: check its cable, its switch port and other traffic:  {case.format_remote_command(name, 'ip -s link')}",
            )


def _collect_times(dials: Mapping[tuple[str, str], Mapping[str, Any]], what: str) -> dict[str, list[float]]:
    """Return host -> the seconds that its successful connections took, in both directions."""
    times: dict[str, list[float]] = {}
    for pair, dial in dials.items():
        for name in pair if dial["outcome"] == "ok" and what in dial else ():
            times.setdefault(name, []).append(dial[what])
    return times


def _describe_failure(
    case: CheckContext, host: str, inward: bool, culprits: list[tuple[tuple[str, str], Mapping[str, Any]]]
) -> tuple[str, str]:
    """Return the text and the advice for the first of these pairs."""
    assert case.mesh is not None
    (start, end), dial = culprits[0]
    others = fold_names(pair[0 if inward else 1] for pair, _ in culprits)
    where = f"{end} at {case.mesh.addresses.get(end, '?')}, a free port"
    ranges = case.facts.get(end, {}).get("ports", {"low": 32768, "high": 60999})
    way = f"from {others}" if inward else f"to {others}"
    address = case.mesh.addresses.get(end, "")
    source = dial.get("source") or case.mesh.addresses.get(start, start)
    opens = services.build_firewall_commands(
        case.facts.get(end, {}), address, source, f"{ranges['low']}:{ranges['high']}"
    )
    if not inward and dial["outcome"] in ("dropped", "rejected", "refused") and len(case.hosts) > 2:
        cure = dial_outcomes.build_own_side_advice(case, start, others, address)
    else:
        at_fault, other = (start, end) if dial["outcome"] == "stalled" and not inward else (end, start)
        cure = dial_outcomes.build_advice(case, dial, host=at_fault, other=other, opens=opens)
    return f"{way}: {dial_outcomes.describe_outcome(dial, where)}", cure


CHECKS = (
    Check(
        name="mesh", group="network", worst="fail", unless=get_single_host_reason,
        verifies="Every host reaches every other on a free port, in both directions (beyond 32 hosts: a dozen others each).",
        why="Ranks connect to each other on ports that the kernel assigns, not only on MASTER_PORT. A firewall on one host "
        "shows as “Connect timeout” after a minute, or as a hang.",
        fix="Open the port range of outgoing connections (32768-60999) between the hosts of the lab.",
        judge=_judge_mesh,
    ),
    Check(
        name="bulk", group="network", worst="fail", unless=get_single_host_reason,
        verifies="256 KB can be sent in each direction between the same pairs.",
        why="If a switch drops large packets, small messages pass and the first large all-reduce hangs.",
        fix="Set the same MTU on all interfaces and switches, or 1500, or let ICMP “fragmentation needed” pass.",
        judge=_judge_bulk,
    ),
    Check(
        name="pace", group="network", worst="warn", unless=get_single_host_reason,
        verifies="Connections between hosts are answered within 0.2 seconds. No host takes eight times as long as the others "
        "(and 0.25 seconds) for the bulk data.",
        why="All hosts wait for the slowest link in every step. A link over a VPN, or at 10 Mb/s, sets the speed of the training.",
        fix="Check the cable and switch port of the host, or name an address in the lab's network: HOST addr=ADDRESS.",
        judge=_judge_pace,
    ),
)  # fmt: skip
