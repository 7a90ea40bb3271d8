"""A keeper that was stopped for a while: it judges its launcher by the time at which frames reached the host."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent.agents import Agent, is_alive, list_processes_of, wait_for
from tests.processes import join_threads

pytestmark = pytest.mark.process


class _Heartbeats:
    """Send a launcher's heartbeats from a thread, while the test waits for another event."""

    def __init__(self, agent: Agent, seconds: float) -> None:
        self._agent, self._seconds, self._over = agent, seconds, threading.Event()
        self._thread = threading.Thread(target=self._send_heartbeats)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: Any) -> None:
        self._over.set()
        join_threads(self._thread)

    def _send_heartbeats(self) -> None:
        while not self._over.wait(self._seconds):
            self._agent.send_operation("heartbeat")


def test_keeper_stopped_longer_than_the_lease_continues_with_its_launcher(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        keeper = agent.prepare_script("echo ready; until [ -e end ]; do sleep 0.05; done", tmp_path, 1.5)
        agent.send_go()
        agent.wait_for_output(b"ready\n")
        with _Heartbeats(agent, 0.2):
            os.kill(keeper, signal.SIGSTOP)
            threading.Event().wait(3.0)
            os.kill(keeper, signal.SIGCONT)
            threading.Event().wait(1.0)
            (tmp_path / "end").touch()
            exited = agent.receive_message("exited")
        assert (exited["code"], exited["why"]) == (0, "")
        agent.receive_message("cleaned_up")
        agent.release_run()


STALLS_BEFORE_THE_LEASE_IS_CHECKED = """
import time
from fanout_agent import keeper
really, stalls = keeper.Keeper._check_deadlines, [3.0]

def check_deadlines(self):
    if self.main and stalls:
        time.sleep(stalls.pop())
    really(self)

keeper.Keeper._check_deadlines = check_deadlines
"""


def test_keeper_stalled_after_it_read_its_sockets_reads_them_again_first(state: Path, tmp_path: Path) -> None:
    """Heartbeats wait in its socket while it checks the lease: they count."""
    with Agent(state, patch=STALLS_BEFORE_THE_LEASE_IS_CHECKED) as agent:
        agent.prepare_script("sleep 4", tmp_path, 1.5)
        with _Heartbeats(agent, 0.2):
            agent.send_go()
            exited = agent.receive_message("exited")
        assert (exited["code"], exited["why"]) == (0, "")
        agent.receive_message("cleaned_up")
        agent.release_run()


def test_heartbeats_from_before_a_freeze_do_not_renew_the_lease(state: Path, tmp_path: Path) -> None:
    """They waited in the keeper's socket; the launcher that sent them may have abandoned this host."""
    with Agent(state) as agent:
        keeper = agent.prepare_script("trap '' TERM; echo ready; while :; do sleep 0.05; done", tmp_path, 2.0)
        agent.send_go()
        pid = agent.receive_message("started")["pid"]
        agent.wait_for_output(b"ready\n")
        os.kill(keeper, signal.SIGSTOP)
        for _ in range(3):
            agent.send_operation("heartbeat")
        agent.send_operation("ask", id=1, what="no such probe", args={}, timeout=5.0)
        agent.receive_message("answer")  # so the heartbeats have reached the keeper
    threading.Event().wait(13.0)  # longer than lease and grace (2 + 10)
    os.kill(keeper, signal.SIGCONT)
    began = time.monotonic()
    wait_for(lambda: not is_alive(pid), "the lease is over, and the grace with it")
    assert time.monotonic() - began < 8.0, "it got its grace once more"
    wait_for(lambda: not list_processes_of(state), "the keeper ends with its run")
    with Agent(state) as second:
        second.attach_run()
        exited, _, _ = second.end_run()
    assert (exited["reason"], exited["silent_for"]) == ("lease-expired", 2.0)
    assert "the lease expired" in exited["why"]


def test_go_older_than_the_lease_starts_nothing(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        keeper = agent.prepare_script("touch started", tmp_path, 1.0)
        os.kill(keeper, signal.SIGSTOP)
        agent.send_go()
        threading.Event().wait(1.5)
        os.kill(keeper, signal.SIGCONT)
        gone = agent.receive_message("cleaned_up")
        assert gone["killed"] == 0
        agent.release_run()
    assert not (tmp_path / "started").exists()


def test_a_keeper_with_a_full_socket_queue_is_not_taken_for_dead(state: Path, tmp_path: Path) -> None:
    """It is stopped, and its socket queue is full of relays: that does not end its training."""
    with Agent(state) as agent:
        keeper = agent.prepare_script("echo ready; until [ -e end ]; do sleep 0.05; done", tmp_path, 60.0)
        agent.send_go()
        pid = agent.receive_message("started")["pid"]
        agent.wait_for_output(b"ready\n")
        os.kill(keeper, signal.SIGSTOP)
        late = [Agent(state) for _ in range(20)]
        try:
            for one in late:
                one.attach_run()
            for one in late:
                one.send_operation("ask", id=1, what="no such probe", args={}, timeout=5.0)
                one.receive_message("answer")
            assert is_alive(pid)
            os.kill(keeper, signal.SIGCONT)
            for one in late:
                one.receive_message("started")
        finally:
            for one in late:
                one.__exit__(None, None, None)
        (tmp_path / "end").touch()
        assert agent.end_run()[0]["code"] == 0
