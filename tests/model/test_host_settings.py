"""Settings that the agent gets: their rows in the option table, and their values in the plan."""

from __future__ import annotations

from fanout.model.host_facts import HostFacts
from fanout.model.hosts import Host, Origin
from fanout.model.option_table import HOST_SETTINGS
from fanout.model.planner import Planner
from fanout.model.settings import Settings


def test_the_plan_has_the_settings_that_the_agent_needs() -> None:
    settings = Settings(grace=5.0, lease=60.0, spool_limit=10**9, stacks="off")
    host = Host(name="gpu01", slots=1, origin=Origin(file="hosts.txt", line=1))
    planner = Planner(hosts=[host], task=["t.py"], settings=settings, run_id="r", directory="/p", has_script=True)
    plan = planner.make_plan(HostFacts())
    expected = {"grace": 5.0, "lease": 60.0, "spool_limit": 10**9, "stacks": "off"}
    assert {name: plan.host_settings[name] for name in expected} == expected
    assert set(plan.host_settings) == set(HOST_SETTINGS)
