"""The record's disk blocks are allocated before anything starts, so that no later flood can use them."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest

from fanout.agent import frames, run_files


def test_the_status_has_its_blocks_before_the_run_starts(tmp_path: Path) -> None:
    """If the disk fills up while the script runs, the end is still recorded."""
    status = run_files.StatusFile(str(tmp_path))
    seen = (tmp_path / "status").stat()
    assert seen.st_size == run_files.STATUS_BYTES
    assert seen.st_blocks * 512 >= run_files.STATUS_BYTES
    status.update(phase="cleaned_up")
    assert run_files.read_status(str(tmp_path)) == {"v": frames.PROTOCOL_VERSION, "phase": "cleaned_up"}


PATH = ":".join(f"/opt/some/program-{number}/bin" for number in range(1000))
LONG = {
    "a long PATH": {
        "exited": {"code": 127, "signal": None, "why": f"torchrun: not found on PATH ({PATH})", "oom": False}
    },
    "words of many bytes": {"stopped": "ÿ中" * 9000},
    "many leftovers": {
        "cleaned_up": {
            "killed": 9,
            "left": [{"pid": pid, "state": "D", "wchan": "x" * 60, "cmd": "python " * 40} for pid in range(900)],
            "sizes": {"0": 7},
        }
    },
    "many streams": {"cleaned_up": {"killed": 0, "left": [], "sizes": {str(number): 10**12 for number in range(500)}}},
}


@pytest.mark.parametrize("facts", LONG.values(), ids=list(LONG))
def test_a_status_that_is_too_long_is_cut_and_can_be_read(tmp_path: Path, facts: dict[str, Any]) -> None:
    """Otherwise it would be taken for a keeper that died without a record."""
    status = run_files.StatusFile(str(tmp_path))
    status.update(phase="running", main=7)
    status.update(**facts)
    found = run_files.read_status(str(tmp_path))
    assert (found["phase"], found["main"]) == ("running", 7)
    assert (tmp_path / "status").stat().st_size == run_files.STATUS_BYTES
    (name,) = facts
    if name == "cleaned_up":
        assert found["cleaned_up"]["sizes"] == facts["cleaned_up"]["sizes"]
        assert bool(found["cleaned_up"]["left"]) == bool(facts["cleaned_up"]["left"])
    elif name == "exited":
        assert found["exited"]["code"] == 127
        assert found["exited"]["why"].startswith("torchrun: not found on PATH (/opt/some/program-0")
    else:
        assert found["stopped"].startswith("ÿ中")


def test_a_shorter_status_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    status = run_files.StatusFile(str(tmp_path))
    status.update(stopped="x" * 900)
    status.facts.clear()
    status.update(phase="cleaned_up")
    assert run_files.read_status(str(tmp_path)) == {"phase": "cleaned_up"}


def test_a_traceback_is_reported_in_one_line() -> None:
    nothing: dict[str, str] = {}
    try:
        nothing["a key"]
    except KeyError:
        line = run_files.summarize_traceback(traceback.format_exc())
    assert line.startswith("KeyError: 'a key'; File ")
    assert "test_run_files.py" in line
    assert "\n" not in line
