"""Diagnosis of an attempt that has just ended: ask the machines and test the network again, if that may add facts.

Only after a failure does it import what asks and tests, so that no run pays for it at its start.
"""

from __future__ import annotations

from collections.abc import Callable

from fanout.diagnose.collector import EvidenceCollector
from fanout.diagnose.verdict import Verdict
from fanout.model.outcome import RunOutcome
from fanout.run import diagnosis
from fanout.run.run_context import RunContext
from fanout.run.session import Session


def diagnose_attempt(
    collector: EvidenceCollector,
    context: RunContext,
    session: Session,
    outcome: RunOutcome,
    keep: Callable[[str, str], None],
) -> tuple[RunOutcome, Verdict | None]:
    """Return the outcome and the verdict on a failure. ``keep`` writes a result to a file of the record, by name."""
    if any(host.has_failed for host in session.state.all_hosts):
        from fanout.run.machine_evidence import examine_machines

        examine_machines(context, session)
    outcome, verdict = diagnosis.diagnose_run(collector, session.state, outcome)
    if verdict is not None:
        from fanout.run.network_retest import is_network_suspected, retest_network

        if is_network_suspected(verdict):
            verdict = retest_network(verdict, context, session.state, keep=keep)
    return outcome, verdict
