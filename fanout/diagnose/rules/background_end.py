"""Background rule: the keeper ended a launcher that train.sh had left running, because the user chose --background end."""

from __future__ import annotations

from fanout.diagnose.rule_context import RuleContext, RuleResult
from fanout.diagnose.verdict import Cause


def find_ended_launcher(case: RuleContext) -> RuleResult | None:
    """Return the return of train.sh as the cause, unless a rank failed before it."""
    ends = {host: end for host, end in case.evidence.ends.items() if end.reason == "background-ended"}
    if not ends:
        return None
    first = min(ends.values(), key=lambda end: end.at)
    if any(each.is_strong and each.sighting is not None and each.end < first.at for each in case.suspects):
        return None
    cause = Cause(
        signature="background-ended",
        says="had a train.sh that returned while its launcher ran",
        host=first.host,
        hosts=tuple(host for host in case.evidence.hosts if host in ends),
        at=first.at,
    )
    advice = "start the launcher in the foreground in train.sh, or wait for it:  --background wait"
    return RuleResult(cause=cause, evidence=(first.why,), advice=(advice,))
