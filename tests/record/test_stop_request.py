"""Requests for a stop in the record of a run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fanout.record.stop_request import STOP_FILE, read_requester, write_requester


def test_requester_replaces_only_an_earlier_request(tmp_path: Path) -> None:
    outside = tmp_path / "of the user"
    outside.write_text("mine")
    os.symlink(outside, tmp_path / STOP_FILE)
    for by in ("ann@pc", "bob@vm"):
        write_requester(str(tmp_path), by)
        assert read_requester(str(tmp_path)) == by
    assert outside.read_text() == "mine"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["of the user", STOP_FILE]


@pytest.mark.parametrize("text", [None, "", "[]", '{"by":7}', '{"by":"ann@pc'])
def test_missing_or_damaged_request_has_no_requester(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / STOP_FILE).write_text(text)
    assert read_requester(str(tmp_path)) == ""
