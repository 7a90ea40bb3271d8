"""``fanout check --deep``: build the torch test from the run's own plan; only the exports of the plan are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fanout.checks.deep.torch_result import DeepTest
from fanout.checks.engine.definition import CheckContext, CheckFinding
from fanout.checks.network.master_port import find_best_candidate
from fanout.model import plan
from fanout.model.errors import UsageError
from fanout.model.hosts import fold_names
from fanout.model.rpc import Asker
from fanout.model.settings import Settings
from fanout.preflight import deep_test
from fanout.preflight.run_checks import PreflightFacts

TorchTestRunner = Callable[[CheckContext, PreflightFacts, Sequence[CheckFinding]], DeepTest]


def build_torch_test(
    asker: Asker, task: Sequence[str], settings: Settings, directory: str, report_progress: Callable[[str], None]
) -> TorchTestRunner:
    """Return the test that ``preflight.run`` calls after the other checks. It does not run if one of them failed."""

    def test(case: CheckContext, learned: PreflightFacts, findings: Sequence[CheckFinding]) -> DeepTest:
        failed = [finding for finding in findings if finding.level == "fail"]
        if failed:
            return DeepTest(
                unmade=f"not made: {failed[0].check} failed on {fold_names(failed[0].hosts)}; fix that first"
            )
        try:
            made = plan.make_plan(
                case.request.hosts, task or ("task.py",), settings, run_id="check", cwd=directory, has_script=True,
                learned=_to_plan_facts(case, learned), dry=True,
            )  # fmt: skip
        except UsageError as error:
            return DeepTest(unmade=f"not made: {error}")
        return deep_test.run(case, made, asker, report_progress=report_progress, patience=deep_test.DeepTimeouts())

    return test


def _to_plan_facts(case: CheckContext, learned: PreflightFacts) -> plan.HostFacts:
    """Return the facts for the plan. Unlike for a run, use an address that not all hosts reach, and need no slots=."""
    return plan.HostFacts(
        master_addr=learned.master_addr or (find_best_candidate(case) if case.port and case.port.candidates else ""),
        gpus={name: found for name, found in learned.gpus.items() if found},
        env=learned.exports,
        address=learned.addresses,
    )
