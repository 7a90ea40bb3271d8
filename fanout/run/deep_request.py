"""``fanout check --deep``: build the torch test from the run's own plan; only the exports of the plan are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fanout.checks.deep.torch_result import DeepTest
from fanout.checks.engine.definition import CheckContext, CheckFinding
from fanout.checks.network.master_port import find_best_candidate
from fanout.model.errors import UsageError
from fanout.model.host_facts import HostFacts
from fanout.model.hosts import fold_names
from fanout.model.planner import Planner
from fanout.model.rpc import Asker
from fanout.preflight import deep_test
from fanout.preflight.run_checks import DeepTestRunner


def build_torch_test(asker: Asker, planner: Planner, report_progress: Callable[[str], None]) -> DeepTestRunner:
    """Return the test that ``run_checks.run`` calls after the other checks. It does not run if one of them failed.

    Unlike a run, the test needs no task and no slots=, and uses an address of host 0 that not all hosts reach.
    """
    planner = replace(planner, task=planner.task or ("task.py",), has_script=True)

    def test(case: CheckContext, facts: HostFacts, findings: Sequence[CheckFinding]) -> DeepTest:
        failed = [finding for finding in findings if finding.level == "fail"]
        if failed:
            return DeepTest(
                unmade=f"not made: {failed[0].check} failed on {fold_names(failed[0].hosts)}; fix that first"
            )
        best = find_best_candidate(case) if case.port and case.port.candidates else ""
        try:
            plan = planner.make_plan(replace(facts, master_addr=facts.master_addr or best), dry=True)
        except UsageError as error:
            return DeepTest(unmade=f"not made: {error}")
        return deep_test.run(case, plan, asker, report_progress=report_progress, patience=deep_test.DeepTimeouts())

    return test
