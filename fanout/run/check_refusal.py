"""What a check that refused a start means for the next one: which hosts have a fault, and which may take part later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fanout.model.frozen import frozen
from fanout.model.outcome import RunOutcome
from fanout.model.state import RunState
from fanout.sharing.wait_policy import PASSING_CHECKS

if TYPE_CHECKING:
    from fanout.checks.engine.definition import CheckFinding

#: Checks between two attempts: what an ended attempt, a fault or another user may have changed. Each takes one question.
RECHECKS = frozenset(
    "master-addr master-port leftovers gpu gpu-busy gpu-memory gpu-ecc gpu-rows gpu-recovery gpu-xid space shm stuck mount "
    "file-server workdir task script config mesh reached answer".split()
)


@frozen
class CheckRefusal:
    """Checks that refused a start, hosts with a fault of their own, and hosts that were refused only because others use them; and why."""

    checks: frozenset[str] = frozenset()
    faulty: frozenset[str] = frozenset()
    in_use: frozenset[str] = frozenset()
    why: str = ""


def summarize_failures(failures: Sequence[CheckFinding], why: str) -> CheckRefusal:
    """Return what the failed checks mean for the next start. ``why`` is the reason in one line."""
    faulty = frozenset(name for each in failures if each.check not in PASSING_CHECKS for name in each.hosts)
    in_use = frozenset(name for each in failures for name in each.hosts) - faulty
    return CheckRefusal(checks=frozenset(each.check for each in failures), faulty=faulty, in_use=in_use, why=why)


def list_absent_hosts(refusal: CheckRefusal, outcome: RunOutcome, state: RunState) -> frozenset[str]:
    """Return the hosts that prevented a start, but may take part later: they do not answer, or others use them."""
    busy = {host.name for host in state.all_hosts if host.trouble is not None and host.trouble.kind == "busy"}
    return refusal.in_use | busy | {host.host for host in outcome.hosts if host.verdict in ("unreached", "lost")}


def list_faulty_hosts(refusal: CheckRefusal, outcome: RunOutcome, state: RunState) -> frozenset[str]:
    """Return the hosts that prevented a start by a fault of their own, which the check or the host found."""
    found = refusal.faulty | {host.host for host in outcome.hosts if host.verdict == "refused"}
    return found - list_absent_hosts(refusal, outcome, state)
