"""Lines of JSON or logfmt: the text, the traceback, the host, the rank and the time of a record, by the names of its fields.

Loggers (structlog, python-json-logger), journalctl -o json and log collectors write such lines. No I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from fanout.logs.rank_prefix import has_rank
from fanout.model.frozen import frozen

LONGEST = 64 * 1024
_MESSAGE = ("MESSAGE", "message", "msg", "event", "log", "short_message", "text", "line", "body")
_TRACE = ("exception", "exc_info", "exc_text", "traceback", "stack_trace", "stacktrace", "stack", "error.stack_trace")
_HOST = ("_HOSTNAME", "hostname", "host", "host.name", "node", "node_name", "nodename", "pod", "pod_name", "instance")
_NESTED = ("kubernetes", "k8s", "host", "resource")
_TIME = ("timestamp", "@timestamp", "time", "ts", "asctime", "datetime")
_RANK = ("rank", "RANK", "global_rank")
_PROGRESS = ("step", "global_step", "iter", "iteration", "epoch", "loss", "step_time")
_PAIR = re.compile(
    r'(?P<name>[A-Za-z_][\w.@-]{0,63})=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s"]{0,1024}))(?:\s+|$)'
)


@frozen
class FieldRecord:
    """One record: its lines without ends, and the host and the time as the record writes them, or ""."""

    lines: tuple[str, ...]
    host: str = ""
    time: str = ""


def read_record(text: str) -> FieldRecord | None:
    """Return the record of a line; None if the line is no record with a message or a traceback."""
    is_json = text.startswith("{")
    if not is_json and "msg=" not in text and "message=" not in text:
        return None
    text = text.strip()
    if len(text) > LONGEST:
        return None
    value = _parse_json(text) if is_json else _parse_logfmt(text)
    if value is None:
        return None
    texts = [found for names in (_MESSAGE, _TRACE) if (found := _find_text(value, names))]
    if not texts:
        return None
    lines = [line for found in texts for line in found.splitlines() if line]
    rank = next((value[name] for name in _RANK if isinstance(value.get(name), int)), None)
    if isinstance(rank, int) and 0 <= rank < 10**9:
        lines = [line if has_rank(line) else f"[rank{rank}]: {line}" for line in lines]
    return FieldRecord(lines=tuple(lines), host=_find_host(value), time=_find_text(value, _TIME))


def _parse_json(text: str) -> dict[str, Any] | None:
    if not text.endswith("}"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _parse_logfmt(text: str) -> dict[str, Any] | None:
    """Return the fields of a line of ``name=value`` pairs; None if anything else is in the line."""
    value: dict[str, Any] = {}
    at = 0
    while at < len(text):
        found = _PAIR.match(text, at)
        if found is None:
            return None
        plain, at = found["plain"], found.end()
        value[found["name"]] = re.sub(r"\\(.)", r"\1", found["quoted"]) if plain is None else plain
    name = next((name for name in ("msg", "message") if value.get(name)), None)
    if name is None or len(value) < 2:
        return None
    progress = " ".join(f"{each}={value[each]}" for each in _PROGRESS if each in value)
    rank = next((value[each] for each in _RANK if value.get(each, "").isdecimal()), None)
    return {**value, name: f"{value[name]} {progress}".rstrip(), **({} if rank is None else {"rank": int(rank)})}


def _find_text(value: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((value[name] for name in names if isinstance(value.get(name), str) and value[name]), "")


def _find_host(value: Mapping[str, Any]) -> str:
    """Return the name of the host or of the pod, also from a nested object."""
    for name in _NESTED:
        inner = value.get(name)
        if isinstance(inner, dict) and (found := _find_text(inner, (*_HOST, "name"))):
            return found
    return _find_text(value, _HOST)
