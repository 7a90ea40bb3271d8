"""Lines of JSON: the text, the traceback, the host, the rank and the time of one record, by the usual names of its fields.

Loggers (structlog, python-json-logger), journalctl -o json and log collectors write such lines. No I/O.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fanout.logs.rank_prefix import has_rank

LONGEST = 64 * 1024
_MESSAGE = ("MESSAGE", "message", "msg", "event", "log", "short_message", "text", "line", "body")
_TRACE = ("exception", "exc_info", "exc_text", "traceback", "stack_trace", "stacktrace", "stack", "error.stack_trace")
_HOST = ("_HOSTNAME", "hostname", "host", "host.name", "node", "node_name", "nodename", "pod", "pod_name", "instance")
_NESTED = ("kubernetes", "k8s", "host", "resource")
_TIME = ("timestamp", "@timestamp", "time", "ts", "asctime", "datetime")
_RANK = ("rank", "RANK", "global_rank")


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonRecord:
    """One record: its lines without ends, and the host and the time as the record writes them, or ""."""

    lines: tuple[str, ...]
    host: str = ""
    time: str = ""


def read_json_line(text: str) -> JsonRecord | None:
    """Return the record of a line; None if the line is no JSON object with a message or a traceback."""
    text = text.strip()
    if not text.startswith("{") or not text.endswith("}") or len(text) > LONGEST:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    texts = [found for names in (_MESSAGE, _TRACE) if (found := _find_text(value, names))]
    if not texts:
        return None
    lines = [line for found in texts for line in found.splitlines() if line]
    rank = next((value[name] for name in _RANK if isinstance(value.get(name), int)), None)
    if isinstance(rank, int) and 0 <= rank < 10**9:
        lines = [line if has_rank(line) else f"[rank{rank}]: {line}" for line in lines]
    return JsonRecord(lines=tuple(lines), host=_find_host(value), time=_find_text(value, _TIME))


def _find_text(value: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((value[name] for name in names if isinstance(value.get(name), str) and value[name]), "")


def _find_host(value: Mapping[str, Any]) -> str:
    """Return the name of the host or of the pod, also from a nested object."""
    for name in _NESTED:
        inner = value.get(name)
        if isinstance(inner, dict) and (found := _find_text(inner, (*_HOST, "name"))):
            return found
    return _find_text(value, _HOST)
