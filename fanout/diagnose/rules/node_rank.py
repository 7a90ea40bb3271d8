"""Rule for a wrong NODE_RANK or NNODES: torchrun's rendezvous keys show the numbers that a host used.

With a static rendezvous node N waits for ``assigned_ranks/N``. Only node 0 waits for the ``role_info`` of all nodes,
and before that for as many clients as its NNODES.
"""

from __future__ import annotations

import re
from dataclasses import replace

from fanout.diagnose.candidates import build_match_cause
from fanout.diagnose.evidence import LogMatch
from fanout.diagnose.evidence_order import COUNTED, UNEQUAL
from fanout.diagnose.rule_context import RuleContext, RuleResult
from fanout.logs import rank_prefix

_KEY = re.compile(r"torchelastic/(?:assigned_ranks/(?P<node>\d{1,9})|role_info/)")


def find_wrong_number(case: RuleContext) -> RuleResult | None:
    """Return the host that used other numbers than fanout set, or two hosts that used the same number."""
    return _find_node_rank(case) or _find_nnodes(case) or _find_same_number(case)


def _find_same_number(case: RuleContext) -> RuleResult | None:
    """Return two hosts with the same node number. Their logs do not show which one is wrong."""
    hosts: dict[int, dict[str, LogMatch]] = {}
    for seen in case.evidence.sightings:
        if match := _KEY.search(seen.fields.get("key", "")):
            hosts.setdefault(int(match["node"] or 0), {}).setdefault(seen.host, seen)
    for number, here in hosts.items():
        if len(here) == 2:
            both = tuple(here)
            causes = [
                build_match_cause(
                    seen,
                    signature="node-rank",
                    says=f"took part as node {number}, as {' and '.join(other for other in both if other != host)} did",
                    hosts=both,
                )
                for host, seen in here.items()
            ]
            evidence = f"{both[0]} and {both[1]} waited for keys that only node {number} waits for"
            advice = "compare NODE_RANK or --node-rank of these two hosts"
            return RuleResult(
                cause=causes[0], evidence=(evidence,), doubts=(UNEQUAL,), also=tuple(causes[1:]), advice=(advice,)
            )
    return None


def _find_node_rank(case: RuleContext) -> RuleResult | None:
    found: list[tuple[str, int, int, LogMatch]] = []
    for seen in case.evidence.sightings:
        match = _KEY.search(seen.fields.get("key", ""))
        given = case.evidence.ranks.get(seen.host)
        if match is None or given is None:
            continue
        used = int(match["node"] or 0)
        if used != given[0]:
            found.append((seen.host, given[0], used, seen))
    if len({host for host, *_ in found}) != 1:
        return None
    host, own, used, seen = found[0]
    cause = build_match_cause(
        seen, signature="node-rank", says=f"took part as node {used}, although it is node {own}", hosts=(host,)
    )
    evidence = f"it waited for a key that only node {used} waits for; fanout set NODE_RANK={own}"
    advice = f"look for what sets NODE_RANK on {host}: train.sh, a profile, --node-rank"
    return RuleResult(cause=cause, evidence=(evidence,), advice=(advice,))


def _find_nnodes(case: RuleContext) -> RuleResult | None:
    """Return the host that waited for another number of hosts than the run has.

    If a rank keeps the store itself, the number is that of ranks.
    """
    given = case.evidence.ranks
    each = [count for _, count in given.values()]
    if len(given) != len(case.evidence.hosts) or None in each:
        return None
    right = {len(given), sum(count for count in each if count)}
    waited = [
        seen
        for seen in case.evidence.sightings
        if rank_prefix.parse_number(seen.fields.get("want")) not in {None, *right}
    ]
    if not waited:
        return None
    first, hosts = waited[0], tuple(dict.fromkeys(seen.host for seen in waited))
    alone = first.host if len(hosts) == 1 else None
    want = first.fields["want"]
    says = f"waited for {want} hosts, although the run has {len(given)}"
    cause = replace(build_match_cause(first, signature="nnodes", says=says, hosts=hosts), host=alone)
    evidence = f"{first.fields.get('got', '?')} of {want} joined on {first.host}; fanout set NNODES={len(given)}"
    where = f"on {alone} (perhaps on the others too)" if alone else "on all hosts"
    advice = f"look for what sets NNODES {where}: train.sh, a profile, --nnodes"
    return RuleResult(cause=cause, evidence=(evidence,), doubts=(COUNTED,), advice=(advice,))
