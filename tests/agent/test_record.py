"""The record's room on disk is taken before anything starts, so that no later flood can take it away."""

from __future__ import annotations

from pathlib import Path

from fanout.agent import record


def test_the_status_has_its_blocks_before_anything_is_noted(tmp_path: Path) -> None:
    """A disk that fills up while the script runs cannot eat how it ended."""
    status = record.Status(str(tmp_path))
    seen = (tmp_path / "status").stat()
    assert seen.st_size == record.STATUS_BYTES
    assert seen.st_blocks * 512 >= record.STATUS_BYTES
    status.note(phase="gone")
    assert record.read_status(str(tmp_path)) == {"phase": "gone"}
