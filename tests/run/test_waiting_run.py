"""A run that waits for hosts: the release of the terminal, and the error for a run without a record."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fanout.model.errors import UsageError
from fanout.record.run_lookup import find_run
from fanout.record.waiting_runs import WaitingRecord
from fanout.run.detach import ParentPipe
from tests.record.test_waiting_runs import RUN, build_waiting


def test_parent_is_released_once() -> None:
    """A run that left the terminal when it began to wait does not leave it again at its start."""
    read, write = os.pipe()
    pipe = ParentPipe(write)
    assert pipe.release_parent()
    assert pipe.release_parent()
    assert os.read(read, 16) == b"away"
    os.close(read)


def test_record_of_a_waiting_run_does_not_exist_yet(tmp_path: Path) -> None:
    record = WaitingRecord(str(tmp_path), build_waiting())
    with pytest.raises(UsageError, match=f"run {RUN} waits for hosts, so it has no record yet"):
        find_run("lr3", str(tmp_path))
    record.close(keep=False)
