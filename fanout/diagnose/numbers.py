"""A host that took part under another number than its own: what torchrun's rendezvous waited for says which one.

With a static rendezvous node N waits for ``assigned_ranks/N``, and only node 0 waits for everybody's ``role_info``.
"""

from __future__ import annotations

import re

from fanout.diagnose.case import Case, Finding
from fanout.diagnose.evidence import Sighting
from fanout.diagnose.verdict import Cause

_KEY = re.compile(r"torchelastic/(?:assigned_ranks/(?P<node>\d{1,9})|role_info/)")


def rule(case: Case) -> Finding | None:
    """The host whose number is not the one that it was given; nothing where nobody gave one."""
    found: list[tuple[str, int, int, Sighting]] = []
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
    cause = Cause(
        signature="node-rank",
        says=f"took part as node {used}, although it is node {own}",
        host=host,
        hosts=(host,),
        at=seen.at,
        text=seen.text,
        file=seen.file,
        line=seen.line,
    )
    told = f"it waited for what only node {used} waits for; fanout gave it NODE_RANK={own}"
    advice = f"look for what sets NODE_RANK on {host}: train.sh, a profile, --node-rank"
    return Finding(cause=cause, confidence="high", evidence=(told,), advice=(advice,))
