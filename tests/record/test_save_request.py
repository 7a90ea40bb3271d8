"""Requests for a planned stop in the record of a run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fanout.record.save_request import REQUEST_FILE, SaveRequest, read_request, write_request


def test_request_replaces_only_an_earlier_request(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("{}")
    outside = tmp_path / "of the user"
    outside.write_text("mine")
    os.symlink(outside, tmp_path / REQUEST_FILE)
    for seconds in (600.0, 30.0):
        write_request(str(tmp_path), SaveRequest(signal="USR1", seconds=seconds, by="ann@pc"))
        assert read_request(str(tmp_path)) == SaveRequest(signal="USR1", seconds=seconds, by="ann@pc")
    assert outside.read_text() == "mine"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["events.jsonl", "of the user", REQUEST_FILE]


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"signal":"KILL","seconds":5,"by":"x"}', '{"signal":"USR1","seconds":-1,"by":"x"}'],
)
def test_damaged_request_is_no_request(tmp_path: Path, text: str) -> None:
    (tmp_path / REQUEST_FILE).write_text(text)
    assert read_request(str(tmp_path)) is None


def test_run_without_a_request_has_none(tmp_path: Path) -> None:
    assert read_request(str(tmp_path)) is None
