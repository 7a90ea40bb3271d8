"""Message schemas: the form of each control message of a host. ``FrameDecoder`` checks every message against them."""

from __future__ import annotations

from typing import Any, get_args

from fanout.model.events import AnswerReason, ExitReason
from fanout.model.option import MAX_SECONDS
from fanout.model.schema import Anything, Flag, Integer, ListOf, MapOf, Nullable, Number, OneOf, Text

STREAMS = 65_536  # a frame of log bytes has a stream number of two bytes
MOST_BYTES = 1 << 50  # of one stream: no supported file system accepts a larger offset
_T, _LINE = Text(1 << 16), Text(4096)
_COUNT, _PID = Integer(0), Integer(0, 1 << 32)
_FIGURE = Nullable(OneOf((Number(), Text(80))))

_LEFT = {"pid": _PID, "state": Text(80), "wchan": _T, "cmd": _T}
_GPU = {"util?": _FIGURE, "used?": _FIGURE, "total?": _FIGURE, "temp?": _FIGURE, "watts?": _FIGURE}
_LOAD = {"cpu?": _FIGURE, "memory?": Nullable(ListOf(_FIGURE, 2)), "gpus?": ListOf(_GPU, 1024), "gpu_error?": _LINE}

MESSAGES: dict[str, dict[str, Any]] = {
    "hello": {
        "python?": _LINE, "hostname?": _LINE, "host_id?": _LINE, "boot_id?": _LINE, "pid?": _PID, "uid?": _PID,
        "cwd?": _T, "time?": Number(), "stale?": ListOf(_LINE),
    },
    "heartbeat": {"load?": _LOAD},
    "answer": {"id": Integer(), "value": Anything(), "error": _T, "reason?": Text(among=get_args(AnswerReason))},
    "prepared": {"pid": _PID},
    "refused": {"kind": _LINE, "message": _T, "hint": _T},
    "started": {"pid": _PID},
    "rendezvous_joined": {"how": Text(among=("waiting", "joined", "unresolved"))},
    "log_truncated": {"stream": Integer(0, STREAMS - 1), "upto": Integer(0, MOST_BYTES)},
    "disk_pressure": {"message": _T},
    "stream_opened": {"id": Integer(0, STREAMS - 1), "name": Text(200)},
    "exited": {
        "code": Nullable(Integer(0, 255)), "signal": Nullable(Integer(1, 64)), "why?": _T, "oom?": Flag(),
        "reason?": Text(among=get_args(ExitReason)), "silent_for?": Number(0, MAX_SECONDS),
    },
    "cleaned_up": {
        "killed": _COUNT, "left": ListOf(_LEFT), "sizes": MapOf(_COUNT), "crc?": MapOf(Nullable(Integer(-1, (1 << 32) - 1))), "dropped": _COUNT,
    },
    "released": {},
    "crash": {"text": Text(1 << 20)},
}  # fmt: skip
