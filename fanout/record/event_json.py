"""Record format: convert events to JSON objects and back, for ``events.jsonl`` and ``--json``, version 1.

Within a version, keys are only added. ``type`` is the class name of the event in snake_case, and the keys are its fields.
``t`` is the time at which the event reached the launcher. A Chunk is written as its place in the stream, because the
host's log file holds the bytes. Login output is written with one character per byte (U+0000 to U+00FF).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any, get_args

from fanout.model import schema
from fanout.model.actions import Action
from fanout.model.errors import LauncherError
from fanout.model.events import ActionSent, Chunk, CleanedUp, Event, Leftover, LoginOutput, Tick, get_type_name
from fanout.model.outcome import RunOutcome
from fanout.model.run_info import AttemptInfo, RunInfo
from fanout.model.schema import Anything, Integer, Number, Text

VERSION = 1
MOST_BYTES = 64 << 20  # of one stream in one record


_EVENTS: Mapping[str, type[Any]] = {get_type_name(kind): kind for kind in get_args(Event)}
_ACTIONS: Mapping[str, type[Any]] = {get_type_name(kind): kind for kind in get_args(Action)}


#: Fields that have another form in the record than in the event, or a restricted range.
_REPLACED_FIELDS: Mapping[type[Any], dict[str, Any]] = {
    Chunk: {"data?": Anything(), "length": Integer(0, MOST_BYTES), "stream": Integer(0, 65535), "offset": Integer(0)},
    LoginOutput: {"data": Text(1 << 20)},
    ActionSent: {"action": Text(among=tuple(_ACTIONS)), "host": Text()},
}


def _build_schema(kind: type[Any]) -> dict[str, Any]:
    """Return the schema of an event's record: the fields of its class, some with another form."""
    instead = {**_REPLACED_FIELDS.get(kind, {}), "v": Integer(0), "t": Number(0, 1e12)}
    named = {name.rstrip("?") for name in instead} | {"at"}
    return {**{name: what for name, what in schema.schema_of(kind).items() if name.rstrip("?") not in named}, **instead}


_SHAPES: Mapping[type[Any], dict[str, Any]] = {kind: _build_schema(kind) for kind in _EVENTS.values()}


def encode_event(event: Event) -> dict[str, Any] | None:
    """Convert an event to a JSON object; return None for a Tick, which is not recorded."""
    if isinstance(event, Tick):
        return None
    known: dict[str, Any] = {"v": VERSION, "t": event.at, "type": get_type_name(type(event))}
    match event:
        case Chunk():
            length = len(event.data)
            return build_chunk_record(event.host, event.stream, at=event.at, offset=event.offset, length=length)
        case LoginOutput():
            return known | {"host": event.host, "data": event.data.decode("latin-1")}
        case ActionSent():
            return known | {"action": get_type_name(type(event.action))} | _get_fields(event.action)
        case CleanedUp():
            return known | _get_fields(event) | {"left": [_get_fields(process) for process in event.left]}
        case _:
            return known | _get_fields(event)


def decode_event(record: Mapping[str, Any], read: Callable[[str, int, int, int], bytes]) -> Event | None:
    """Convert a record back to its event; ``read(host, stream, offset, length)`` returns the bytes of a chunk.

    Return None if the type is not an event (``run``, ``end``) or unknown. Raises InvalidValue if the fields do not match the
    event, and LauncherError if the record has a later version.
    """
    if isinstance(record.get("v"), int) and record["v"] > VERSION:
        raise LauncherError(
            f"this record is version {record.get('v')}, this fanout reads version {VERSION}",
            hint="read it with the fanout version that wrote it",
        )
    kind = _EVENTS.get(str(record.get("type")))
    if kind is None:
        return None
    schema.check_value(_SHAPES[kind], record)
    values = schema.select_fields(kind, record) | {"at": record["t"]}
    if kind is Chunk:
        values["data"] = read(record["host"], record["stream"], record["offset"], record["length"])
    elif kind is LoginOutput:
        values["data"] = record["data"].encode("latin-1")
    elif kind is ActionSent:
        action = _ACTIONS[record["action"]]
        schema.check_value(schema.schema_of(action), record)
        values["action"] = action(**schema.select_fields(action, record))
    elif kind is CleanedUp:
        values["left"] = tuple(Leftover(**schema.select_fields(Leftover, process)) for process in record["left"])
    event: Event = kind(**values)
    return event


def build_run_record(heading: RunInfo, at: float) -> dict[str, Any]:
    """Return the first object of a run."""
    ranks = {host: list(rank) for host, rank in heading.ranks.items()}
    named = {"name": heading.name} if heading.name else {}
    about = {"v": VERSION, "t": at, "type": "run", "run": heading.run_id, "title": heading.title}
    return {**about, **named, **_build_attempt_keys(heading.attempt), "hosts": list(heading.hosts), "ranks": ranks}


def _build_attempt_keys(attempt: AttemptInfo) -> dict[str, Any]:
    """Return the number of the attempt; for a run with restarts, also its place in the budget and the cause before it."""
    if not attempt.max_restarts:
        return {"attempt": attempt.number}
    budget = {"max_restarts": attempt.max_restarts, "restarts_used": attempt.used}
    return {"attempt": attempt.number, **budget, "cause": attempt.cause}


def read_attempt_keys(record: Mapping[str, Any]) -> AttemptInfo:
    """Return the attempt that the first object of a run names."""
    return AttemptInfo(
        number=record.get("attempt", 0),
        max_restarts=record.get("max_restarts", 0),
        used=record.get("restarts_used", 0),
        cause=record.get("cause", ""),
    )


def build_end_record(outcome: RunOutcome, at: float) -> dict[str, Any]:
    """Return the last object of a run."""
    return {"v": VERSION, "t": at, "type": "end", **asdict(outcome)}


def build_verdict_record(verdict: Mapping[str, Any], at: float) -> dict[str, Any]:
    """Return the diagnosis of a failed run (the content of verdict.json) as a record."""
    return {**verdict, "v": VERSION, "t": at, "type": "verdict"}


def build_chunk_record(host: str, stream: int, *, at: float, offset: int, length: int) -> dict[str, Any]:
    """Return the record of a chunk: the place of its bytes in the stream."""
    place = {"host": host, "stream": stream, "offset": offset, "length": length}
    return {"v": VERSION, "t": at, "type": "chunk"} | place


def to_json_line(record: Mapping[str, Any]) -> str:
    """Return a record as one line of ASCII JSON, without the line end."""
    return json.dumps(record, separators=(",", ":"), default=str)


def _get_fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value) if field.name != "at"}
