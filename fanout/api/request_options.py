"""Request of a call: keyword options with the names of the command line become the value that argv becomes there. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fanout.model.errors import UsageError
from fanout.model.option import CONNECTION, LAUNCH, RECORD, RECOVERY, SELECTION, TIMEOUTS, Option
from fanout.model.option_table import SETTINGS, options_of
from fanout.model.option_values import parse_option_text
from fanout.model.request import HostFilters, Request
from fanout.text.suggest import find_nearest

#: Groups of options of each call: those of the command, without the options of the terminal.
GROUPS: dict[str, tuple[str, ...]] = {
    "run": (LAUNCH, TIMEOUTS, RECOVERY, SELECTION, CONNECTION, RECORD),
    "check": (LAUNCH, SELECTION, CONNECTION),
    "logs": (),
}
#: Options that make sense only on a command line: --dry-run is fanout.plan, -d needs a terminal to leave, --sync prints.
LEFT_OUT = frozenset(
    {"full", "dry_run", "sync", "detach", "on_hangup", "pick", "wait", "json", "list", "explain", "color"}
)


def get_keyword(option: Option) -> str:
    """Return the name of an option as a keyword: ``time_limit`` for --time-limit."""
    return option.long_flag[2:].replace("-", "_")


def list_options(verb: str) -> dict[str, Option]:
    """Return keyword -> option of a call."""
    rows = [row for group in ("", *GROUPS[verb]) for row in options_of(verb, group) if row.flags and not row.const]
    return {get_keyword(row): row for row in rows if get_keyword(row) not in LEFT_OUT}


def build_request(verb: str, hosts: str | Sequence[str], task: Sequence[str], options: Mapping[str, Any]) -> Request:
    """Return the request. Raises UsageError for an unknown option and for a value outside its range."""
    rows = list_options(verb)
    given = {name: value for name, value in options.items() if value is not None}
    for name in given.keys() - rows.keys():
        near = find_nearest(name, rows, likeness=0.6)
        raise UsageError(f"{verb}: unknown option {name}", hint=f"did you mean {near[0]}?" if near else "")
    values: dict[str, Any] = {}
    for group in ("", *GROUPS[verb]):
        for row in options_of(verb, group):
            values.setdefault(row.name, None if row.is_setting or row.const else row.default)
    values |= {rows[name].name: parse_value(rows[name], name, value) for name, value in given.items()}
    filters = HostFilters.take_from(values)
    flags = {name: values.pop(name) for name in list(values) if name in SETTINGS}
    return Request(
        verb=verb,
        hosts=hosts if isinstance(hosts, str) else ",".join(hosts),
        task=tuple(task),
        filters=filters,
        flags=flags,
        given=values,
        head=tuple(word for name, value in given.items() for word in _format_words(rows[name], value)),
        literal=True,
    )


def parse_value(row: Option, name: str, value: Any) -> Any:
    """Return the value as the command line parses it: durations may be numbers or texts. Raises UsageError."""
    if row.kind is bool:
        if not isinstance(value, bool):
            raise UsageError(f"{name} must be True or False, not {value!r}")
        return value if value else (None if row.is_setting else False)
    if row.kind is tuple:
        return _list_texts(name, value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UsageError(f"{name} must be a text or a number, not {value!r}")
    return parse_option_text(row, value if isinstance(value, str) else _format_number(row, value), name)


def _format_number(row: Option, value: float) -> str:
    """Return the number as the user would type it, if that text stands for exactly this number."""
    text = row.format_value(value)
    try:
        return text if float(parse_option_text(row, text, "")) == value else repr(value)
    except (UsageError, ValueError):
        return repr(value)


def _list_texts(name: str, value: Any) -> list[str]:
    """Return the texts of an option that may be repeated; a mapping gives NAME=VALUE."""
    if isinstance(value, Mapping):
        value = [f"{key}={text}" for key, text in value.items()]
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise UsageError(f"{name} must be a list of texts, not {value!r}")
    return list(value)


def _format_words(row: Option, value: Any) -> list[str]:
    """Return the words of the command line that set this value, for ``fanout rerun``."""
    if row.kind is bool:
        return [row.long_flag] if value else []
    if row.kind is tuple:
        return [word for text in _list_texts(row.long_flag, value) for word in (row.long_flag, text)]
    return [f"{row.long_flag}={value if isinstance(value, str) else _format_number(row, value)}"]
