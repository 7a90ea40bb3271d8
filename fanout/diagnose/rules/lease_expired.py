"""Lease rule: hosts ended a run by themselves, because they had no contact with the launcher during the lease.

The training did not fail then: the launcher was stopped, its machine slept (a closed laptop), or the network between
launcher and hosts was down. Other rules handle a rank with an error of its own.
"""

from __future__ import annotations

from fanout.diagnose.candidates import Candidate
from fanout.diagnose.evidence_order import UNSEEN, Doubt
from fanout.diagnose.rule_context import RuleContext, RuleResult
from fanout.diagnose.verdict import Cause
from fanout.model.hosts import fold_names
from fanout.text.parse_units import write_duration
from fanout.text.units import format_duration


def find_expired_lease(case: RuleContext) -> RuleResult | None:
    """Return the launcher, or the hosts that it could not reach, as the cause."""
    leases = {host: end.lease_seconds for host, end in case.evidence.ends.items() if end.lease_seconds}
    if not leases or any(_has_own_failure(each, leases) for each in case.suspects):
        return None
    lease = max(leases.values())
    evidence = [
        f"{fold_names(leases)} had no contact with the launcher for {format_duration(lease)} (the lease) and ended the run"
    ]
    flag = f"--lease TIME (it was {write_duration(lease)})"
    gaps = {host: gap for host, gap in case.evidence.gaps.items() if gap >= lease / 2}
    if case.evidence.away >= lease / 2:
        how = "stopped, killed, or its machine slept"
        says = f"was away for {format_duration(case.evidence.away)} ({how}), longer than the lease of the hosts"
        advice = f"run fanout on a machine that does not sleep (in tmux on a lab machine), or extend the lease: {flag}"
        return _build_result(Cause(signature="unheard", says=says, host=None), evidence, advice)
    evidence += [
        f"the launcher's connection to {host} was down for {format_duration(gap)}"
        for host, gap in list(gaps.items())[:4]
    ]
    lost = [host for host, end in case.evidence.ends.items() if end.kind == "lost"]
    if {*leases, *gaps, *lost}.issuperset(case.evidence.hosts):
        who = "the hosts" if len(case.evidence.hosts) > 1 else "the host"
        cause = Cause(signature="unheard", says=f"could not reach {who} for longer than the lease", host=None)
        advice = (
            f"check the network between this machine and {who} (Wi-Fi, VPN, a jump host), or extend the lease: {flag}"
        )
        return _build_result(cause, evidence, advice)
    first = next(host for host in case.evidence.hosts if host in leases)
    says = "could not be reached for longer than its lease, and ended its part of the run by itself"
    cause = Cause(signature="unheard", says=says, host=first, hosts=tuple(leases), at=case.evidence.ends[first].at)
    advice = f"check the network between this machine and {fold_names(leases)}, or extend the lease: {flag}"
    return _build_result(cause, evidence, advice, *(() if first in gaps else (UNSEEN,)))


def _build_result(cause: Cause, evidence: list[str], advice: str, *doubts: Doubt) -> RuleResult:
    return RuleResult(cause=cause, evidence=tuple(evidence), doubts=doubts, advice=(advice,))


def _has_own_failure(suspect: Candidate, leases: dict[str, float]) -> bool:
    """Return whether the candidate failed for another reason than the expired lease."""
    if suspect.host in leases:
        return suspect.is_strong and suspect.sighting is not None
    return suspect.level != "bare" and suspect.signature != "lost"
