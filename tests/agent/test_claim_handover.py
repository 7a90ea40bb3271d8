"""Claims between two attempts of a run: no other run gets them, and they end with the launcher."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent.agents import PATIENCE, RUN, Agent, build_spec, kill_leftovers

pytestmark = pytest.mark.process
NEXT = f"{RUN}.1"
STRANGER = f"{RUN}-stranger"
CLAIMS = ["gpu-0", "port-29500"]


def is_refused(state: Path, cwd: Path, claims: list[str]) -> bool:
    """Return whether another run that needs the claims is refused."""
    with Agent(state) as other:
        answer = other.prepare_run(["true"], cwd, run=STRANGER, claims=claims)
        if answer["t"] == "refused":
            assert answer["kind"] == "busy"
            return True
        other.send_operation("stop", grace=0.0, why="test")
        other.receive_message("cleaned_up")
        other.release_run()
        return False


def test_no_other_run_gets_the_claims_between_two_attempts(state: Path, tmp_path: Path) -> None:
    with kill_leftovers(state), Agent(state) as first, Agent(state) as second:
        first.start_run("exit 3", tmp_path, claims=CLAIMS, hold=True)
        first.receive_message("cleaned_up")
        assert is_refused(state, tmp_path, CLAIMS)
        spec: dict[str, Any] = {"run": NEXT, "claims": CLAIMS, "after": {"run": RUN, "node": 0}}
        second.start_run("read -r _ < /dev/zero", tmp_path, **spec)
        assert is_refused(state, tmp_path, CLAIMS[:1])
        first.release_run()
        assert is_refused(state, tmp_path, CLAIMS[1:])
        second.send_operation("stop", grace=0.0, why="test")
        second.end_run()
        assert not is_refused(state, tmp_path, CLAIMS)


def test_attempt_without_a_successor_releases_the_claims_with_its_end(state: Path, tmp_path: Path) -> None:
    with kill_leftovers(state), Agent(state) as first:
        first.start_run("exit 0", tmp_path, claims=CLAIMS, hold=True)
        first.end_run()
        assert not is_refused(state, tmp_path, CLAIMS)


def test_launcher_that_dies_between_two_attempts_frees_the_claims_after_the_lease(state: Path, tmp_path: Path) -> None:
    with kill_leftovers(state):
        with Agent(state) as first:
            # a loaded machine needs 3 s for the agent of the second run
            first.start_run("exit 3", tmp_path, claims=CLAIMS, hold=True, lease=6.0)
            first.receive_message("cleaned_up")
        assert is_refused(state, tmp_path, CLAIMS)
        until = time.monotonic() + PATIENCE
        while is_refused(state, tmp_path, CLAIMS):
            assert time.monotonic() < until, "the keeper holds the claims although no launcher is left"


def test_next_attempt_takes_other_claims_and_frees_those_that_it_does_not_need(state: Path, tmp_path: Path) -> None:
    with kill_leftovers(state), Agent(state) as first, Agent(state) as second:
        first.start_run("exit 3", tmp_path, claims=CLAIMS, hold=True)
        first.receive_message("cleaned_up")
        spec: dict[str, Any] = {"run": NEXT, "claims": ["gpu-0", "port-29501"], "after": {"run": RUN, "node": 0}}
        second.start_run("read -r _ < /dev/zero", tmp_path, **spec)
        first.release_run()
        assert not is_refused(state, tmp_path, ["port-29500"])
        assert is_refused(state, tmp_path, ["port-29501"])
        second.send_operation("stop", grace=0.0, why="test")
        second.end_run()


def test_attempt_takes_its_claims_itself_if_the_one_before_has_ended(state: Path, tmp_path: Path) -> None:
    with kill_leftovers(state), Agent(state) as first, Agent(state) as second:
        first.start_run("exit 3", tmp_path, claims=CLAIMS, hold=True)
        first.end_run()
        second.start_run("exit 0", tmp_path, run=NEXT, claims=CLAIMS, after={"run": RUN, "node": 0})
        second.end_run()


def test_attempt_that_still_runs_keeps_its_claims(state: Path, tmp_path: Path) -> None:
    with kill_leftovers(state), Agent(state) as first, Agent(state) as second:
        first.start_run("read -r _ < /dev/zero", tmp_path, claims=CLAIMS, hold=True)
        answer = second.prepare_run(["true"], tmp_path, run=NEXT, claims=CLAIMS, after={"run": RUN, "node": 0})
        assert (answer["t"], answer["kind"]) == ("refused", "busy")
        first.send_operation("stop", grace=0.0, why="test")
        first.end_run()


def test_connection_that_ends_during_the_handover_prepares_nothing(state: Path, tmp_path: Path) -> None:
    """The launcher connects again, and that attempt may be over before the keeper of the broken connection is ready."""
    with kill_leftovers(state), Agent(state) as first:
        first.start_run("exit 3", tmp_path, claims=CLAIMS, hold=True)
        first.receive_message("cleaned_up")
        keeper = next(message["pid"] for message in first.received if message["t"] == "prepared")
        os.kill(keeper, signal.SIGSTOP)
        with Agent(state) as second:
            after = {"run": RUN, "node": 0}
            second.send_operation("prepare", **build_spec(["true"], tmp_path, run=NEXT, claims=CLAIMS, after=after))
            assert second.child.stdin is not None
            second.child.stdin.close()
            os.kill(keeper, signal.SIGCONT)
            assert second.child.wait(PATIENCE) == 0
        assert not list(state.glob(f"*{NEXT}*"))
        first.release_run()
        assert not is_refused(state, tmp_path, CLAIMS)
