"""``fanout check --deep``: build the torch test from the run's own plan; only the exports of the plan are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fanout import deep, plan
from fanout.checks.asking import Asker
from fanout.checks.model import Case, Finding
from fanout.checks.network import best
from fanout.checks.together import DeepTest
from fanout.errors import UsageError
from fanout.hosts import fold
from fanout.preflight import Learned
from fanout.settings import Settings

Test = Callable[[Case, Learned, Sequence[Finding]], DeepTest]


def tester(asker: Asker, task: Sequence[str], settings: Settings, directory: str, tell: Callable[[str], None]) -> Test:
    """Return the test that ``preflight.run`` calls after the other checks. It does not run if one of them failed."""

    def test(case: Case, learned: Learned, findings: Sequence[Finding]) -> DeepTest:
        failed = [finding for finding in findings if finding.level == "fail"]
        if failed:
            return DeepTest(unmade=f"not made: {failed[0].check} failed on {fold(failed[0].hosts)}; fix that first")
        try:
            made = plan.make(
                case.request.hosts, task or ("task.py",), settings, run_id="check", cwd=directory, has_script=True,
                learned=_learned(case, learned), dry=True,
            )  # fmt: skip
        except UsageError as error:
            return DeepTest(unmade=f"not made: {error}")
        return deep.run(case, made, asker, tell=tell, patience=deep.Patience())

    return test


def _learned(case: Case, learned: Learned) -> plan.Learned:
    """Return the facts for the plan. Unlike for a run, use an address that not all hosts reach, and need no slots=."""
    return plan.Learned(
        master_addr=learned.master_addr or (best(case) if case.port and case.port.candidates else ""),
        gpus={name: found for name, found in learned.gpus.items() if found},
        env=learned.exports,
        address=learned.addresses,
    )
