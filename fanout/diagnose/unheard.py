"""Hosts that ended a run by themselves, because they had heard of no launcher for as long as their lease.

Nobody's training failed then: the launcher was stopped, or its machine slept (a laptop that was closed), or what lies
between it and the hosts carried nothing. Whoever has an error of its own is the business of other rules.
"""

from __future__ import annotations

from fanout.diagnose.case import Case, Finding
from fanout.diagnose.suspects import FAINT, STRONG, Suspect
from fanout.diagnose.verdict import Cause, Confidence
from fanout.hosts import fold


def rule(case: Case) -> Finding | None:
    """The launcher, or the hosts that were out of its reach."""
    leases = {host: end.lease for host, end in case.evidence.ends.items() if end.lease}
    if not leases or any(_has_a_reason(each, leases) for each in case.suspects):
        return None
    lease = max(leases.values())
    told = [f"{fold(leases)} heard of no launcher for {_long(lease)}, which is the lease, and ended the run"]
    flag = f"--lease SECONDS (it was {lease:g})"
    gaps = {host: gap for host, gap in case.evidence.gaps.items() if gap >= lease / 2}
    if case.evidence.away >= lease / 2:
        how = "stopped, killed, or its machine slept"
        says = f"was away for {_long(case.evidence.away)} ({how}), longer than the hosts wait for it"
        advice = f"run fanout where nothing sleeps (tmux on a machine of the lab), or let them wait longer: {flag}"
        return _finding(Cause(signature="unheard", says=says, host=None), "high", told, advice)
    told += [f"its connection to {host} was down for {_long(gap)}" for host, gap in list(gaps.items())[:4]]
    lost = [host for host, end in case.evidence.ends.items() if end.kind == "lost"]
    if {*leases, *gaps, *lost}.issuperset(case.evidence.hosts):
        who = "the hosts" if len(case.evidence.hosts) > 1 else "the host"
        cause = Cause(signature="unheard", says=f"was out of reach of {who} for longer than the lease", host=None)
        advice = (
            f"see what lies between this machine and {who} (Wi-Fi, VPN, a jump host); it may take longer with {flag}"
        )
        return _finding(cause, "high", told, advice)
    first = next(host for host in case.evidence.hosts if host in leases)
    says = "was out of the launcher's reach for longer than its lease, and ended its part of the run by itself"
    cause = Cause(signature="unheard", says=says, host=first, hosts=tuple(leases), at=case.evidence.ends[first].at)
    advice = f"see what lies between this machine and {fold(leases)}; it may take longer with {flag}"
    return _finding(cause, "high" if first in gaps else "medium", told, advice)


def _finding(cause: Cause, sure: Confidence, told: list[str], advice: str) -> Finding:
    return Finding(cause=cause, confidence=sure, evidence=tuple(told), advice=(advice,))


def _has_a_reason(suspect: Suspect, leases: dict[str, float]) -> bool:
    """Is there more to its end than the signal with which its host ended it, or its silence?"""
    if suspect.host in leases:
        return suspect.strength == STRONG and suspect.sighting is not None
    return suspect.strength > FAINT and suspect.signature != "lost"


def _long(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
