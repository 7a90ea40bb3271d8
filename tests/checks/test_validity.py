"""Invalid answers: a host that sends nonsense is unknown and fails the check; the other hosts are checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from fanout.checks.engine.catalogue import CATALOGUE
from fanout.checks.engine.definition import Check, CheckContext, CheckResult, warn
from fanout.checks.engine.evaluation import judge_all_checks, judge_check
from fanout.model import answers
from fanout.model.rpc import ProbeAnswer
from fanout.preflight import run_checks
from tests.checks.kit import ScriptedAsker, build_healthy_case, build_healthy_facts, build_request, change_fact
from tests.preflight.test_run_checks import build_healthy_script


def _read_memory(case: CheckContext) -> Iterator[CheckResult]:
    for name, memory in case.get_section("memory").items():
        if memory["total"] + 1 < 5:
            yield warn(name, "little", "buy some")


READS = Check(
    name="reads", group="system", worst="warn", verifies="", why="", fix="", needs=("memory",), judge=_read_memory
)


def test_a_host_that_makes_a_judge_fail_is_unknown_and_the_others_are_judged() -> None:
    case = change_fact(change_fact(build_healthy_case(3), "gpu02", "memory/total", "x"), "gpu03", "memory/total", 2)
    found = {finding.hosts: (finding.level, finding.saw) for finding in judge_check(READS, case)}
    assert found["gpu01",] == ("ok", "")
    assert found["gpu03",] == ("warn", "little")
    level, saw = found["gpu02",]
    assert level == "fail"
    assert saw.startswith("unknown: its answer is invalid (memory: TypeError: ")
    assert "test_validity.py" in saw


def test_a_judge_that_always_fails_passes_no_host() -> None:
    def raise_error(case: CheckContext) -> Iterator[CheckResult]:
        raise RuntimeError("a fault of the judge")
        yield  # pragma: no cover

    (finding,) = {finding.level for finding in judge_check(replace(READS, judge=raise_error), build_healthy_case(3))}
    assert finding == "fail"


def run_check_with_answer(value: Mapping[str, Any]) -> run_checks.Preflight:
    """Run a check of three hosts in which gpu02 gives this answer to the first question."""

    def answer_facts(host: str, args: Mapping[str, Any]) -> ProbeAnswer:
        answer = value if host == "gpu02" else build_healthy_facts(int(host[-1]))
        kept, error = answers.check_answer("facts", answer)
        return ProbeAnswer(value=kept, error=error)

    return run_checks.run(build_request(3), ScriptedAsker(build_healthy_script(facts=answer_facts)), clock=lambda: 0.0)


def test_a_section_that_is_invalid_fails_the_check_in_one_row() -> None:
    result = run_check_with_answer({**build_healthy_facts(2), "memory": {"total": "x"}, "cpu": None})
    assert result.compute_exit_code() == 1
    (finding,) = result.failures
    assert (finding.check, finding.hosts) == ("answer", ("gpu02",))
    assert "facts.memory.total: is text, not a whole number, and 1 more" in finding.saw


def test_an_answer_that_is_invalid_as_a_whole_fails_the_check() -> None:
    result = run_check_with_answer([])  # type: ignore[arg-type]
    assert result.compute_exit_code() == 1
    assert {"gpu02"} == {host for finding in result.failures for host in finding.hosts} - {"gpu01", "gpu03"}


def test_no_choice_of_checks_leaves_an_invalid_answer_out() -> None:
    case = replace(
        build_healthy_case(2, only=frozenset({"gpu"}), skip=frozenset({"ssh"})), invalid={"gpu01": ("x: is null",)}
    )
    assert [finding.check for finding in judge_all_checks(CATALOGUE, case) if finding.level == "fail"] == ["answer"]
