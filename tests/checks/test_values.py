"""Secrets: no finding of the check contains a value that the user gave to the run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fanout.checks.engine.catalogue import CATALOGUE
from fanout.checks.engine.evaluation import judge_all_checks
from fanout.checks.network.interfaces import GLOO, NCCL
from fanout.model.credentials import hide_values
from fanout.model.host_facts import HostFacts
from fanout.model.planner import Planner
from fanout.model.rpc import ProbeAnswer
from fanout.model.settings import Settings
from fanout.preflight.cross_host import rehearse_script
from tests.checks.kit import ScriptedAsker, build_healthy_case, build_hosts

SECRET = "hunter2zzz"


def test_a_value_becomes_its_name() -> None:
    values = {"S3": SECRET, "LONG": f"{SECRET}/more", "FEW": "1"}
    text = f"+ curl {SECRET} '{SECRET}/more' x{SECRET} 1"
    assert hide_values(text, values) == f"+ curl $S3 '$LONG' x{SECRET} 1"


@pytest.mark.parametrize("variable", [GLOO, NCCL])
@pytest.mark.parametrize("value", [SECRET, f"^{SECRET}", f"={SECRET}"])
def test_a_finding_about_an_interface_names_the_variable_alone(variable: str, value: str) -> None:
    case = build_healthy_case()
    case = replace(case, request=replace(case.request, env={variable: value}))
    named = [finding for finding in judge_all_checks(CATALOGUE, case) if variable in finding.saw]
    assert named
    assert SECRET not in str(named)


def test_script_output_in_the_rehearsal_contains_no_value() -> None:
    """``set -x`` prints every value that the script uses."""
    machines = build_hosts(1, env=(("S3", SECRET),))
    settings = Settings(env=(("TOKEN_FILE", f"/{SECRET}/token"),), nproc_per_node=1)
    words = f"+ login {SECRET}\ntrain.sh: line 2: /{SECRET}/token: No such file or directory"
    answer = {"words": words, "errors": words.splitlines()[1:], "calls": [], "status": 1, "seconds": 0.1, "count": 0}
    case = build_healthy_case(1)
    case = replace(case, request=replace(case.request, hosts=machines))
    planner = Planner(hosts=machines, task=["task.py"], settings=settings, run_id="r", directory="/w", has_script=True)
    plan = planner.make_plan(HostFacts())
    asker = ScriptedAsker({"rehearse": lambda host, args: ProbeAnswer(value=answer)})
    played = rehearse_script(case, asker, lambda: plan).facts["gpu01"]["rehearsal"]
    assert played["words"] == "+ login $S3\ntrain.sh: line 2: $TOKEN_FILE: No such file or directory"
    assert SECRET not in str(played)
