"""The disk space of a log is bounded: acknowledged bytes are freed; others are kept while a launcher is connected."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.agent.agents import RUN, Agent, wait_for

pytestmark = pytest.mark.process
MB = 1 << 20
LIMIT = 32 * MB
#: 64 MB without repetition, at a rate that leaves a loaded machine time for the acknowledgements.
FLOOD = "import os, sys, time\nfor n in range(64):\n os.write(1, n.to_bytes(4, 'big') * 262144)\n time.sleep({pause})\n"
WHOLE = hashlib.sha256(b"".join(number.to_bytes(4, "big") * 262144 for number in range(64))).hexdigest()


def _build_flood(tmp_path: Path, pause: float) -> str:
    (tmp_path / "flood.py").write_text(FLOOD.format(pause=pause))
    return "until [ -e go ]; do sleep 0.02; done; python3 flood.py"


def _count_stored_bytes(state: Path) -> int:
    """Return the bytes of the main stream that are on disk."""
    return os.stat(state / f"{RUN}.0" / "stream-0").st_blocks * 512


def test_a_log_over_the_limit_arrives_whole_and_acknowledged_bytes_are_freed(state: Path, tmp_path: Path) -> None:
    """The launcher acknowledges bytes; the run waits for a slow launcher; no byte is lost, and the disk stays bounded."""
    with Agent(state) as agent:
        agent.start_run(_build_flood(tmp_path, 0.02), tmp_path, spool_limit=LIMIT)
        (tmp_path / "go").touch()
        most = 0
        while len(agent.output.get(0, b"")) < 64 * MB:
            before = len(agent.output.get(0, b""))
            agent.wait_for_output_beyond(before)
            agent.send_operation("heartbeat", have={"0": len(agent.output[0])})
            most = max(most, _count_stored_bytes(state))
        _, gone, output = agent.end_run()
    assert hashlib.sha256(output).hexdigest() == WHOLE
    assert gone["dropped"] == 0
    assert most <= LIMIT + 2 * MB


def test_a_late_connection_learns_which_bytes_are_gone(state: Path, tmp_path: Path) -> None:
    """Zeros must never replace log bytes."""
    with Agent(state) as agent:
        agent.start_run(
            _build_flood(tmp_path, 0.05) + "; until [ -e end ]; do sleep 0.02; done", tmp_path, spool_limit=LIMIT
        )
        (tmp_path / "go").touch()
        while len(agent.output.get(0, b"")) < 64 * MB:
            agent.wait_for_output_beyond(len(agent.output.get(0, b"")))
            agent.send_operation("heartbeat", have={"0": len(agent.output[0])})
        with Agent(state) as late:
            late.send_operation("attach", run=RUN, node=0, process_mark=[], cursors={})
            upto = late.receive_message("log_truncated")["upto"]
            assert upto >= MB
            late.first_offset[0] = upto
            late.wait_for_output_beyond(64 * MB - upto - 1)
            assert late.output[0] == agent.output[0][upto:]
            late.send_operation("disconnect")
            late.receive_message("released")
        assert (state / f"{RUN}.0").is_dir()
        (tmp_path / "end").touch()
        agent.end_run()


def test_without_a_launcher_the_run_continues_and_lost_bytes_are_counted(state: Path, tmp_path: Path) -> None:
    """Training matters more than its log: it waits a moment for an absent launcher, then continues."""
    with Agent(state) as first:
        pid = first.start_run(_build_flood(tmp_path, 0.0), tmp_path, spool_limit=LIMIT, lease=20.0)
    (tmp_path / "go").touch()
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the flood ends by itself")
    with Agent(state) as second:
        second.attach_run()
        exited, gone, output = second.end_run()
    assert exited["code"] == 0
    assert LIMIT - MB <= len(output) <= LIMIT + 2 * MB
    assert len(output) + gone["dropped"] == 64 * MB
