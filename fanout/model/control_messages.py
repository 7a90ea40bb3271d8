"""Message schemas: the form of each control message of a host. ``FrameDecoder`` checks every message against them.

Most messages are an event of the agent: the fields of its class are the schema. The others stand here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from fanout.model.events import AgentEvent, AnswerReason, Event, get_type_name
from fanout.model.schema import CheckedLater, Integer, ListOf, MapOf, Nullable, Number, OneOf, Text, schema_of

MOST_BYTES = 1 << 50  # of one stream: no supported file system accepts a larger offset
_T, _LINE = Text(1 << 16), Text(4096)
_COUNT, _PID = Integer(0), Integer(0, 1 << 32)
_FIGURE = Nullable(OneOf((Number(), Text(80))))

_LEFT = {"pid": _PID, "state": Text(80), "wchan": _T, "cmd": _T}
_GPU = {"util?": _FIGURE, "used?": _FIGURE, "total?": _FIGURE, "temp?": _FIGURE, "watts?": _FIGURE}
_LOAD = {"cpu?": _FIGURE, "memory?": Nullable(ListOf(_FIGURE, 2)), "gpus?": ListOf(_GPU, 1024), "gpu_error?": _LINE}

#: The events that the agent sends, by the type of their message.
AGENT_EVENTS: Mapping[str, type[Any]] = {
    get_type_name(kind): kind for kind in get_args(Event) if issubclass(kind, AgentEvent)
}


def _build_event_schema(kind: type[Any]) -> dict[str, Any]:
    """Return the schema of the message about an event. The launcher adds the host and the time."""
    return {name: schema for name, schema in schema_of(kind).items() if name not in ("at", "host")}


MESSAGES: dict[str, dict[str, Any]] = {name: _build_event_schema(kind) for name, kind in AGENT_EVENTS.items()} | {
    "hello": {
        "python?": _LINE, "hostname?": _LINE, "host_id?": _LINE, "boot_id?": _LINE, "pid?": _PID, "uid?": _PID,
        "cwd?": _T, "engine?": _LINE, "time?": Number(), "stale?": ListOf(_LINE),
    },
    "answer": {"id": Integer(), "value": CheckedLater(), "error": _T, "reason?": Text(among=get_args(AnswerReason))},
    "heartbeat": {"load?": _LOAD},
    "cleaned_up": {
        "killed": _COUNT, "left": ListOf(_LEFT), "sizes": MapOf(_COUNT), "crc?": MapOf(Nullable(Integer(-1, (1 << 32) - 1))), "dropped": _COUNT,
    },
    "crash": {"text": Text(1 << 20)},
}  # fmt: skip
