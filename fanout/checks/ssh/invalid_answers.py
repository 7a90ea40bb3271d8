"""Check of the agents' answers: an invalid answer fails the host and names the field. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fanout.checks.engine.definition import Check, CheckContext, CheckResult, fail
from fanout.checks.engine.evaluation import ADVICE
from fanout.model import answers
from fanout.model.rpc import Asker, ProbeAnswer, ProbeRequest


class InvalidAnswerRecorder:
    """Asker that forwards questions and records the invalid answers of each host."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self.invalid: dict[str, tuple[str, ...]] = {}

    def ask(self, asks: Sequence[ProbeRequest]) -> list[ProbeAnswer]:
        came = self._asker.ask(asks)
        for ask, answer in zip(asks, came, strict=True):
            if answer.error.startswith(answers.INVALID_PREFIX):
                self._record_reason(ask.host, answer.error.removeprefix(answers.INVALID_PREFIX).strip(" ()"))
            elif isinstance(answer.value, dict):
                for reason in answer.value.get(answers.INVALID, {}).values():
                    self._record_reason(ask.host, reason)
        return came

    def _record_reason(self, host: str, reason: str) -> None:
        self.invalid[host] = tuple(dict.fromkeys((*self.invalid.get(host, ()), reason)))

    def is_still_open(self, host: str, handle: int) -> bool:
        return self._asker.is_still_open(host, handle)

    def cancel(self, host: str, handle: int) -> None:
        self._asker.cancel(host, handle)


def _judge_invalid(case: CheckContext) -> Iterator[CheckResult]:
    for name in case.hosts:
        reasons = case.invalid.get(name, ())
        if reasons:
            more = f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
            yield fail(name, f"unknown: {answers.INVALID_PREFIX} ({reasons[0]}{more})", ADVICE)


CHECKS = (
    Check(
        name="answer", group="ssh", worst="fail", always=True,
        verifies="Each answer of the host's agent has the fields, types and ranges that fanout expects.",
        why="A fact that cannot be read is not judged, and a host that was not judged must not pass.",
        fix="Run the check again. If it fails again, look for a broken /proc, a wrapper in place of a program, or another "
        "program's output in the agent's answer.",
        judge=_judge_invalid,
    ),
)  # fmt: skip
