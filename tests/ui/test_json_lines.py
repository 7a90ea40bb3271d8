"""--json: the output matches docs/events.md, for every event."""

from __future__ import annotations

import io
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from fanout.diagnose.verdict import Cause, Party, Verdict, to_dict
from fanout.model import outcome
from fanout.model.actions import Action
from fanout.model.events import Event, StreamOpened, Tick, get_type_name
from fanout.ui.json_lines import JsonLines
from tests import histories
from tests.histories import T0, History
from tests.ui.goldens import build_heading

DOC = (Path(__file__).parents[2] / "docs/events.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", DOC, re.MULTILINE))
COMMON = {"v", "t", "type", "host"}


def show_lines(run: History) -> list[dict[str, Any]]:
    out = io.StringIO()
    view = JsonLines(build_heading(run.hosts), stdout=out)
    view.begin(T0)
    state = run.play_events(view)
    view.finish(outcome.outcome_of(state))
    assert out.getvalue().isascii()
    return [json.loads(line) for line in out.getvalue().splitlines()]


def split_row(row: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", row))


@pytest.mark.parametrize("kind", [kind for kind in get_args(Event) if kind is not Tick])
def test_every_event_and_its_fields_are_in_the_document(kind: type[Any]) -> None:
    names = {field.name for field in fields(kind)} - {"at", "host"}
    if get_type_name(kind) == "chunk":
        names = names - {"data"} | {"length"}
    assert names <= split_row(ROWS[get_type_name(kind)])


@pytest.mark.parametrize("kind", get_args(Action))
def test_every_action_is_in_the_document(kind: type[Any]) -> None:
    assert get_type_name(kind) in split_row(ROWS["action_sent"])
    assert {field.name for field in fields(kind)} - {"host"} <= split_row(ROWS["action_sent"])


@pytest.mark.parametrize("name", sorted(histories.TYPICAL))
def test_printed_fields_are_documented(name: str) -> None:
    for entry in show_lines(histories.TYPICAL[name]()):
        assert entry["v"] == 1
        assert set(entry) - COMMON <= split_row(ROWS[entry["type"]])


def test_the_examples_in_the_document_are_of_its_kind() -> None:
    examples = [json.loads(line) for line in re.findall(r"^\{.*\}$", DOC, re.MULTILINE)]
    assert len(examples) == 5
    for entry in examples:
        assert set(entry) - COMMON <= split_row(ROWS[entry["type"]])


def test_lines_are_text_with_their_host_and_stream() -> None:
    run = (
        History("h")
        .connect_hosts()
        .start_hosts()
        .add_events(StreamOpened(at=T0 + 1, host="h", stream=1, name="rank 5"))
    )
    run.add_output("h", b"\x1b[31mred\n").add_output("h", b"five\xff\n", stream=1).add_output("h", b"no end")
    lines = [entry for entry in show_lines(run) if entry["type"] == "line"]
    assert [(line["stream"], line["text"]) for line in lines] == [
        ("", "\x1b[31mred"),
        ("rank 5", "five\ufffd"),
        ("", "no end"),
    ]


def test_the_first_object_is_the_run_and_the_last_its_end() -> None:
    entries = show_lines(histories.second_host_fails())
    assert (entries[0]["type"], entries[0]["hosts"]) == ("run", ["gpu01", "gpu02", "gpu03"])
    assert (entries[-1]["type"], entries[-1]["exit_code"], entries[-1]["origin"]) == ("end", 3, "script")


def test_the_verdict_is_an_event_before_the_end_and_its_keys_are_in_the_document() -> None:
    cause = Cause(signature="exit", says="ended with ValueError", host="h", rank=3, code=1)
    verdict = to_dict(
        Verdict(cause=cause, confidence="high", rule="only one", victims=(Party(host="g", rank=0, how="lost"),))
    )
    run, out = histories.second_host_fails(), io.StringIO()
    view = JsonLines(build_heading(run.hosts), stdout=out)
    view.finish(outcome.outcome_of(run.play_events(view)), "", verdict)
    entry, end = [json.loads(line) for line in out.getvalue().splitlines()][-2:]
    assert (entry["type"], entry["v"], entry["cause"]["rank"], end["type"]) == ("verdict", 1, 3, "end")
    documented = split_row(ROWS["verdict"])
    assert (set(entry) - COMMON) | set(entry["cause"]) | set(entry["victims"][0]) <= documented


def test_a_line_that_looks_like_an_error_has_its_level() -> None:
    run = History("h").connect_hosts().start_hosts().add_output("h", b"ValueError: x\nUserWarning: y\nstep 1\n")
    assert [entry.get("level") for entry in show_lines(run) if entry["type"] == "line"] == ["error", "warning", None]


def test_a_line_without_an_end_is_printed_when_its_host_is_done() -> None:
    """Not when train.sh exits: what it wrote may still be on its way then."""
    run = (
        History("h")
        .connect_hosts()
        .start_hosts()
        .add_output("h", b"last ")
        .end_hosts("h")
        .add_output("h", b"words")
        .release_hosts("h")
    )
    entries = show_lines(run)
    assert [entry["text"] for entry in entries if entry["type"] == "line"] == ["last words"]
    assert [entry["type"] for entry in entries][-6:] == [
        "exited",
        "line",
        "cleaned_up",
        "action_sent",
        "released",
        "end",
    ]
