"""Runs of another version of fanout: their messages and records are refused, never misread."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.agent.agents import RUN, Agent, is_alive, wait_for

pytestmark = pytest.mark.process
OTHER_VERSION = "from fanout_agent import frames; frames.PROTOCOL_VERSION += 1"


@pytest.mark.parametrize("patches", [(OTHER_VERSION, ""), ("", OTHER_VERSION)], ids=["newer", "older"])
def test_a_run_of_another_version_is_refused_with_the_command_that_stops_it(
    state: Path, tmp_path: Path, patches: tuple[str, str]
) -> None:
    """The keeper of a run outlives an upgrade of fanout. Its messages may have other names or meanings."""
    with Agent(state, patch=patches[0]) as first, Agent(state, patch=patches[1]) as second:
        first.start_run("trap 'echo stopped; exit 3' TERM; echo ready; while :; do sleep 0.02; done", tmp_path)
        first.wait_for_output(b"ready\n")
        second.send_operation("ask", id=1, what="runs", args={}, timeout=30.0)
        (run,) = second.receive_message("answer")["value"]["runs"]
        assert (run["alive"], run["other_version"], run["keeper_status"], run["run_info"]) == (True, True, {}, {})
        second.attach_run()
        second.send_operation("kill")  # the keeper accepts no message of another version
        refused = second.receive_message("refused")
        assert refused["kind"] == "other-version"
        assert f"run {RUN} was started by another version of fanout (protocol " in refused["message"]
        stop = refused["hint"].rpartition("`kill ")[2].rstrip("`")
        os.kill(int(stop), signal.SIGTERM)
        exited, cleaned_up, output = first.end_run()
    assert (exited["code"], exited["reason"], cleaned_up["left"]) == (3, "keeper-signalled", [])
    assert output.endswith(b"stopped\n")


def test_the_record_of_another_version_is_refused(state: Path, tmp_path: Path) -> None:
    with Agent(state, patch=OTHER_VERSION) as first:
        first.start_run("exit 3", tmp_path)
        first.receive_message("cleaned_up")
        keeper = next(message["pid"] for message in first.received if message["t"] == "prepared")
    wait_for(lambda: not is_alive(keeper), "a keeper ends when it has sent everything")
    with Agent(state) as second:
        second.attach_run()
        refused = second.receive_message("refused")
        assert (refused["kind"], refused["hint"]) == ("other-version", "use the version of fanout that started it")
    with Agent(state, patch=OTHER_VERSION) as third:
        third.attach_run()
        assert third.end_run()[0]["code"] == 3
