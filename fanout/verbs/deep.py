"""``fanout check --deep``: the run's own plan, of which only the exports are used, and the way to the deep check."""

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
    """What ``preflight.run`` calls once it knows the rest. It is not made where something failed already."""

    def test(case: Case, learned: Learned, findings: Sequence[Finding]) -> DeepTest:
        failed = [finding for finding in findings if finding.level == "fail"]
        if failed:
            return DeepTest(unmade=f"not made: {failed[0].check} failed on {fold(failed[0].hosts)}, mend that first")
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
    """As for a run; an address that not all reach is tried all the same, and a host without GPUs needs no slots=."""
    return plan.Learned(
        master_addr=learned.master_addr or (best(case) if case.port and case.port.candidates else ""),
        gpus={name: found for name, found in learned.gpus.items() if found},
        env=learned.exports,
        address=learned.addresses,
    )
