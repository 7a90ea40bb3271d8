"""Checks on recorded facts: no finding on healthy hosts, and one fault causes the finding of one check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from fanout.checks.engine.catalogue import CATALOGUE
from fanout.checks.engine.definition import CheckFinding, PortTest, UnreachableHost
from fanout.checks.engine.evaluation import judge_all_checks
from tests.checks.changes import Fault
from tests.checks.faults import FAULTS
from tests.checks.kit import build_file, build_healthy_case, build_hosts, build_missing_file, change_fact, drop_section
from tests.lab.faults import ELSEWHERE, RECORDED, SCENES


def select_findings(findings: tuple[CheckFinding, ...]) -> Iterator[CheckFinding]:
    return (finding for finding in findings if finding.level in ("fail", "warn", "info"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_one_fault_causes_exactly_the_finding_of_its_check(fault: Fault) -> None:
    """The finding has that level and those hosts, the observation and the advice. No other check has one."""
    findings = list(select_findings(judge_all_checks(CATALOGUE, fault.change(build_healthy_case()))))
    reported = {(finding.check, finding.level) for finding in findings}
    assert reported == {(fault.check, fault.level)}
    assert tuple(dict.fromkeys(host for finding in findings for host in finding.hosts)) == fault.hosts
    assert fault.saw in findings[0].saw
    assert fault.advice in findings[0].advice


@pytest.mark.parametrize("count", [1, 2, 4, 40])
@pytest.mark.parametrize("gpu", [True, False])
def test_healthy_hosts_have_no_finding(count: int, gpu: bool) -> None:
    """There is no failure, warning or note: with and without GPUs, for one host or many."""
    assert list(select_findings(judge_all_checks(CATALOGUE, build_healthy_case(count, gpu=gpu)))) == []


def test_every_check_is_provoked_at_its_worst_level() -> None:
    """The table has a fault for each check of the catalogue, at the level that the catalogue promises."""
    provoked = {(fault.check, fault.level) for fault in FAULTS}
    promised = {(check.name, check.worst) for check in CATALOGUE if not check.name.startswith("deep-")}  # test_deep.py
    assert promised - provoked == {("nccl", "fail")}  # provoked below: it cannot occur alone


def test_every_check_has_a_fault_on_real_hosts_or_a_reason_why_not() -> None:
    """Each check of the catalogue has exactly one of the two; recorded ones have a reason."""
    real = {fault.check for scene in SCENES.values() for fault in scene.faults}
    real |= {name for scene in SCENES.values() for fault in scene.faults for name, _ in fault.also}
    real |= {name for scene in SCENES.values() for name, _ in scene.everywhere} | set(ELSEWHERE)
    assert real | set(RECORDED) == {check.name for check in CATALOGUE}
    assert not real & set(RECORDED)
    assert {name for name in RECORDED if not name.startswith("deep-")} <= {fault.check for fault in FAULTS}


def test_mixed_nccl_is_named_beside_the_package_list() -> None:
    """Another NCCL is always another package too: the check and the note both have a finding."""
    case = change_fact(build_healthy_case(), "gpu03", "software/packages/nvidia-nccl-cu12", "2.21.5")
    findings = list(select_findings(judge_all_checks(CATALOGUE, case)))
    assert {(finding.check, finding.level) for finding in findings} == {("nccl", "fail"), ("packages", "info")}


@pytest.mark.parametrize("check", [check for check in CATALOGUE if check.needs], ids=lambda check: check.name)
def test_an_unknown_fact_is_a_skip_with_its_reason(check: Any) -> None:
    """It is never ok, for any check and any section that it needs."""
    for section in check.needs:
        case = drop_section(build_healthy_case(), "gpu03", section, "no answer within 5 s")
        mine = [finding for finding in judge_all_checks((check,), case) if "gpu03" in finding.hosts]
        if check.unless(case.request):
            continue
        assert [(finding.level, finding.saw) for finding in mine] == [("skip", "no answer within 5 s")]


def test_gpu_checks_skip_hosts_without_gpus_and_give_the_reason() -> None:
    """“no GPU” does not mean that the GPUs are healthy."""
    findings = judge_all_checks(CATALOGUE, build_healthy_case(gpu=False))
    rows = {finding.check: (finding.level, finding.saw) for finding in findings if finding.group == "gpu"}
    assert rows.pop("slots")[0] == "ok"
    assert set(rows.values()) == {("skip", "no GPU")}


def test_a_cpu_host_without_slots_gets_the_line_to_write() -> None:
    """The number of processes is never guessed."""
    case = build_healthy_case(2, gpu=False, hosts=build_hosts(2))
    failures = [finding for finding in judge_all_checks(CATALOGUE, case) if finding.level == "fail"]
    assert [(f.check, f.hosts, f.advice) for f in failures] == [
        ("slots", (name,), f"write the number of processes:  {name} slots=N  in hosts.txt")
        for name in ("gpu01", "gpu02")
    ]


def test_a_project_without_a_script_is_fine_and_needs_torchrun() -> None:
    """A project without train.sh runs through torchrun; a train.sh that calls something else does not need it."""
    case = build_healthy_case(2)
    for name in case.facts:
        case = change_fact(case, name, "files/script", build_missing_file("/home/ann/proj/train.sh"))
        case = change_fact(case, name, "programs/found/torchrun", "")
        case = drop_section(case, name, "rehearsal", "no train.sh")
    assert {f.check for f in judge_all_checks(CATALOGUE, case) if f.level == "fail"} == {"torchrun"}
    for name in case.facts:
        case = change_fact(case, name, "files/script", build_file("/home/ann/proj/train.sh", mentions=[]))
    assert {f.check for f in judge_all_checks(CATALOGUE, case) if f.level == "fail"} == set()


def test_a_worker_that_reaches_another_address_gets_that_address() -> None:
    """Host 0 has two networks: gpu02 does not reach the one that the user chose, but reaches the other."""
    case = build_healthy_case(2)
    dials: dict[tuple[str, str], dict[str, Any]] = {
        ("gpu02", "192.168.1.1"): {"outcome": "dropped", "seconds": 3.0},
        ("gpu02", "10.0.0.1"): {"outcome": "ok"},
    }
    port = PortTest(port=29500, candidates=("192.168.1.1", "10.0.0.1"), dials=dials)
    bad: dict[tuple[str, str], dict[str, Any]] = {("gpu02", "10.0.0.1"): {"outcome": "refused"}}
    several = [
        f
        for f in judge_all_checks(CATALOGUE, replace(case, port=port))
        if f.check == "master-addr" and f.level == "fail"
    ]
    assert several == []  # the best candidate is judged, and it is reached
    port = replace(port, dials={**dials, **bad})
    (finding,) = [
        f
        for f in judge_all_checks(CATALOGUE, replace(case, port=port))
        if f.check == "master-addr" and f.level == "fail"
    ]
    assert "a firewall drops" in finding.saw


@pytest.mark.parametrize(
    ("baton", "built", "holder", "level"),
    [
        (1, True, 0, "warn"),
        (1, False, 0, "warn"),
        (0, True, 0, None),
        (0, False, 0, None),
        (0, True, 77, "warn"),
        (None, True, 0, None),
        (None, False, 0, "warn"),
    ],
)
def test_a_build_lock_is_a_fault_only_if_an_import_waits_for_it(
    baton: int | None, built: bool, holder: int, level: str | None
) -> None:
    """A torch that locks by flock leaves the file after every build; another torch waits as long as the file exists."""
    case = change_fact(build_healthy_case(), "gpu03", "software/torch/baton", baton)
    case = change_fact(case, "gpu03", "locks", [{"path": "/c/x/lock", "built": built, "holder": holder}])
    found = [finding.level for finding in judge_all_checks(CATALOGUE, case) if finding.check == "build-locks"]
    assert found == [level or "ok", *(["ok"] if level else [])]


def test_only_and_skip_accept_names_and_groups() -> None:
    """A check that is left out is not evaluated."""
    case = build_healthy_case()
    only = replace(case, request=replace(case.request, only=frozenset({"ssh", "clock"}), skip=frozenset({"python"})))
    assert {f.check for f in judge_all_checks(CATALOGUE, only)} == {
        "reached",
        "answer",
        "login-time",
        "login-noise",
        "session",
        "clock",
    }


def test_an_unreachable_host_is_reported_for_any_choice_of_checks() -> None:
    """Otherwise a single check would end with "All checks passed" although it knows nothing of that host."""
    case = build_healthy_case()
    unreached = {"gpu03": UnreachableHost(message="refused", hint="look", kind="Unreachable")}
    case = replace(case, request=replace(case.request, unreached=unreached, only=frozenset({"clock"})))
    bad = [(finding.check, finding.hosts) for finding in judge_all_checks(CATALOGUE, case) if finding.level == "fail"]
    assert bad == [("reached", ("gpu03",))]
