"""Format file for lnav: it knows every event, and the real lnav reads a run with it."""

from __future__ import annotations

import json
import re
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from fanout.cli.main import main
from fanout.commands.lnav import find_lnav_directory
from fanout.record import event_json
from tests import histories
from tests.record.test_run_writer import read_records, write_run

TYPES = {*event_json._EVENTS, "run", "note", "line", "bar", "end"} - {"tick"}


def load_format() -> dict[str, Any]:
    text = (resources.files("fanout.ui") / "fanout_log.lnav.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)["fanout_log"]
    return found


def test_every_type_of_event_has_exactly_one_level() -> None:
    levels = load_format()["level"]
    for kind in TYPES:
        assert len([level for level, pattern in levels.items() if re.search(pattern, kind)]) == 1, kind


def test_every_shown_field_is_a_key_of_the_records() -> None:
    """A renamed field would leave an empty column."""
    form = load_format()
    fields = {part["field"] for part in form["line-format"] if isinstance(part, dict)} - {"__timestamp__"}
    assert fields <= form["value"].keys()
    keys = {"text", "title", "headline", "hint", "stream"}  # of records that are no events
    for kind in [*event_json._EVENTS.values(), *event_json._ACTIONS.values()]:
        keys |= set(kind.__dataclass_fields__)
    assert form["value"].keys() <= keys | {"v", "type", "length"}


def test_the_format_is_installed_where_lnav_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = {"HOME": str(tmp_path)}
    assert find_lnav_directory(home) == f"{tmp_path}/.lnav"
    (tmp_path / ".config").mkdir()
    assert find_lnav_directory(home) == f"{tmp_path}/.config/lnav"
    assert find_lnav_directory(home | {"XDG_CONFIG_HOME": "/x"}) == "/x/lnav"
    (tmp_path / ".lnav").mkdir()
    assert find_lnav_directory(home | {"XDG_CONFIG_HOME": "/x"}) == f"{tmp_path}/.lnav"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["lnav", "--install"]) == 0
    written = (tmp_path / ".lnav/formats/installed/fanout_log.json").read_text()
    assert json.loads(written)["fanout_log"] == load_format()


def test_an_unwritable_directory_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".lnav").mkdir()
    (tmp_path / ".lnav/formats").write_text("a file")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["lnav", "--install"]) == 2
    assert "lnav -i" in capsys.readouterr().err


@pytest.mark.process
def test_the_real_lnav_reads_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert main(["lnav", "--install"]) == 0
    write_run(tmp_path / "run", histories.second_host_fails())
    query = ";select log_level, type, host from fanout_log"
    done = subprocess.run(
        ["lnav", "-n", "-c", query, "-c", ":write-csv-to -", str(tmp_path / "run/events.jsonl")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    read = [line.split(",") for line in done.stdout.splitlines()[1:] if line]
    recorded = [entry["type"] for entry in read_records(tmp_path / "run")]
    assert sorted(row[1] for row in read) == sorted(recorded)
    assert ["info", "exited", "gpu02"] in read
