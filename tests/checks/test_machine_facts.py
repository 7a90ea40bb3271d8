"""Checks of hosts in containers: the host's own agent answers for the machine, and a missing answer is never a pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fanout.checks.engine.catalogue import CATALOGUE
from fanout.checks.engine.definition import CheckContext, CheckFinding, CheckRequest, MachineAnswer
from fanout.checks.engine.evaluation import ON_MACHINE, judge_all_checks
from fanout.checks.engine.machine_facts import list_machine_sections
from tests.checks.changes import enter_containers, set_fact, set_machine_fact
from tests.checks.kit import build_healthy_case, build_request, drop_section

OF_MACHINE = [check for check in CATALOGUE if check.place == "machine"]


def find_findings(case: CheckContext, name: str) -> list[CheckFinding]:
    (check,) = (check for check in CATALOGUE if check.name == name)
    return list(judge_all_checks([check], case))


def test_healthy_containers_on_healthy_machines_have_no_finding() -> None:
    case = enter_containers(build_healthy_case())
    assert not [each for each in judge_all_checks(CATALOGUE, case) if each.level in ("fail", "warn", "info")]


@pytest.mark.parametrize("check", OF_MACHINE, ids=lambda check: check.name)
def test_a_machine_that_did_not_answer_is_not_verified_and_gives_its_reason(check: object) -> None:
    case = enter_containers(build_healthy_case())
    silent = {"gpu03": MachineAnswer(error="the login to the machine failed: no python3")}
    case = replace(case, machines={**case.machines, **silent})
    findings = find_findings(case, check.name)  # type: ignore[attr-defined]
    (skipped,) = (each for each in findings if "gpu03" in each.hosts)
    assert skipped.level == "skip"
    assert skipped.saw == "not verified on the machine: the login to the machine failed: no python3"


def test_one_missing_section_of_a_machine_gives_its_own_reason() -> None:
    case = enter_containers(build_healthy_case())
    facts = {name: row for name, row in case.machines["gpu03"].facts.items() if name != "services"}
    answer = MachineAnswer(facts=facts, missing={"services": "no systemd on this host"})
    case = replace(case, machines={**case.machines, "gpu03": answer})
    (skipped,) = (each for each in find_findings(case, "firewall") if each.hosts == ("gpu03",))
    assert (skipped.level, skipped.saw) == ("skip", "no systemd on this host")


def test_a_finding_about_the_machine_names_it_and_its_command_does_not_enter_the_container() -> None:
    case = set_machine_fact("stuck", [{"pid": 7, "command": "ls", "wchan": "rpc_wait_bit_killable"}])(
        build_healthy_case()
    )
    (found,) = (each for each in find_findings(case, "stuck") if each.level == "warn")
    assert found.saw.endswith(ON_MACHINE)
    assert found.place == "machine"
    assert "docker exec" not in found.advice


def test_facts_of_the_container_do_not_count_for_a_check_of_the_machine() -> None:
    """The kernel log is closed in the container, and the machine reads it."""
    case = enter_containers(build_healthy_case())
    case = drop_section(case, "gpu03", "services", "no systemd on this host")
    assert {each.level for each in find_findings(case, "time-service")} == {"ok"}


def test_a_host_without_a_container_is_judged_by_its_only_agent() -> None:
    case = build_healthy_case()
    for check in OF_MACHINE:
        assert {each.place for each in find_findings(case, check.name)} <= {""}
    assert not [each for each in judge_all_checks(CATALOGUE, case) if each.group == "container" and each.saw]


def test_only_the_sections_of_selected_checks_are_asked_for() -> None:
    def list_sections(request: CheckRequest) -> set[str]:
        return set(list_machine_sections(CATALOGUE, request))

    assert list_sections(build_request(only=frozenset({"python"}))) == set()
    assert list_sections(build_request(only=frozenset({"firewall", "image"}))) == {"services", "engine"}
    assert {"services", "engine", "gpu", "kernel", "identity", "files"} <= list_sections(build_request())


def test_a_pid_in_a_finding_about_the_container_names_the_container() -> None:
    row = {"pid": 71, "command": "python train.py", "run": "old", "age": 5.0}
    case = set_fact("leftovers", [row])(enter_containers(build_healthy_case()))
    (found,) = (each for each in find_findings(case, "leftovers") if each.level == "warn")
    assert "pid 71 in container work  python train.py" in found.saw
