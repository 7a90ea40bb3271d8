"""The choice of MASTER_PORT: the default port, or the next free one if another run holds it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fanout.checks.engine.definition import CheckContext, PortTest
from fanout.model.settings import merge_settings
from fanout.preflight.port_choice import PORTS_TRIED, choose_port
from fanout.preflight.run_checks import extract_facts
from tests.checks.kit import build_healthy_case, change_fact


def build_case(host: str, *ports: int, may_change: bool = True, section: str = "runs") -> CheckContext:
    """Return a case in which a run on ``host`` holds the ports."""
    run: dict[str, Any] = {"run": "7f3a", "node": 0, "claims": [f"port-{port}" for port in ports]}
    if section == "other_runs":
        run |= {"user": "bob", "pid": 4711, "age": None}
    case = change_fact(build_healthy_case(), host, section, [run])
    return replace(case, request=replace(case.request, port_may_change=may_change))


def choose_tested(case: CheckContext, taken: tuple[int, ...] = ()) -> CheckContext:
    """Choose a port; programs without a run listen on the ports ``taken``."""

    def test_port(tried: CheckContext) -> PortTest:
        port = tried.request.master_port
        return PortTest(port=port, problem={"error": "EADDRINUSE"} if port in taken else {})

    return choose_port(case, test_port)


@pytest.mark.parametrize("host", ["gpu01", "gpu03"])
def test_the_next_free_port_is_taken_if_a_run_holds_the_default_on_any_host(host: str) -> None:
    case = choose_tested(build_case(host, 29500, 29501), taken=(29502,))
    assert (case.request.master_port, case.request.default_port_holder) == (29503, "your run 7f3a")
    assert case.port is not None
    assert case.port.port == extract_facts(case).master_port == 29503


def test_a_run_of_another_user_counts_as_well() -> None:
    case = choose_tested(build_case("gpu02", 29500, section="other_runs"))
    assert (case.request.master_port, case.request.default_port_holder) == (29501, "run 7f3a of bob, pid 4711")


@pytest.mark.parametrize(("kept", "port"), [(True, 29501), (False, 29500)])
def test_a_process_of_a_run_whose_claims_are_not_seen_counts_too(kept: bool, port: int) -> None:
    """Its state directory is another one. A process that has outlived its run is no run."""

    def test_port(tried: CheckContext) -> PortTest:
        holder = {"pid": 4711, "command": "torchrun", "age": 9.0, "run": "7f3a", "kept": kept}
        taken = tried.request.master_port == 29500
        problem = {"error": "EADDRINUSE", "holder": holder} if taken else {}
        return PortTest(port=tried.request.master_port, problem=problem)

    case = build_healthy_case()
    case = choose_port(replace(case, request=replace(case.request, port_may_change=True)), test_port)
    assert case.request.master_port == port
    assert case.request.default_port_holder == ("your run 7f3a" if kept else "")


def test_a_free_default_port_a_given_port_and_a_port_of_a_program_do_not_change() -> None:
    for case, taken in (
        (build_case("gpu01", 29600), ()),
        (build_case("gpu01", 29500, may_change=False), ()),
        (build_case("gpu01", 29600), (29500,)),
    ):
        chosen = choose_tested(case, taken)
        assert (chosen.request.master_port, chosen.request.default_port_holder) == (29500, "")


def test_the_default_port_stays_if_no_other_port_is_free() -> None:
    case = choose_tested(build_case("gpu01", *range(29500, 29501 + PORTS_TRIED)))
    assert (case.request.master_port, case.request.default_port_holder) == (29500, "")


def test_only_a_port_that_the_user_gave_is_fixed() -> None:
    assert not merge_settings({}, {}, ()).settings.master_port_given
    assert merge_settings({"master_port": 29500}, {}, ()).settings.master_port_given
    assert merge_settings({}, {"FANOUT_MASTER_PORT": "29500"}, ()).settings.master_port_given
    assert merge_settings({}, {}, [("fanout.toml", {"master_port": 29500})]).settings.master_port_given
