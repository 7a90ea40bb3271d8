"""Settings: every option with its default, and the source of each value.

Sources, highest priority first: the command line, FANOUT_<NAME> in the environment, the nearest fanout.toml (or
``[tool.fanout]`` in pyproject.toml), ~/.config/fanout/config.toml, the defaults below. Users, keys and jump hosts stay
in ~/.ssh/config.
"""

from __future__ import annotations

import contextlib
import math
import re
import shlex
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from fanout.model.errors import UsageError
from fanout.model.number_ranges import BOUNDS, MAX_BYTES, MAX_SECONDS, range_error
from fanout.model.setting_choices import CHOICES


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of a run. Times are in seconds."""

    script: str = "train.sh"
    shell: str = "bash"
    chdir: str = ""  # "": the launcher's own working directory
    venv: str = ""
    venv_sure: bool = False  # the user named the venv, so its absence on a host is an error
    venv_is_conda: bool = False
    setup: str = ""
    env: tuple[tuple[str, str], ...] = ()
    nproc_per_node: int | None = None
    master_addr: str = ""
    master_port: int = 29500
    fanout: int = 64
    connect_timeout: float = 10.0
    start_timeout: float = 120.0
    time_limit: float | None = None
    lease: float = 300.0
    grace: float = 40.0
    last_words: float = 3.0
    on_early_exit: str = "wait"
    on_hangup: str = "stop"
    transport: str = "auto"
    ssh_config: str = ""
    ssh_option: tuple[str, ...] = ()  # KEY=VALUE, as `ssh -o` takes them
    user: str = ""
    accept_new_host_keys: bool = False
    skip_check: bool = False
    force: bool = False
    output: str = "auto"
    color: str = "auto"
    timestamps: bool = False
    show: str = ""  # "": smart, or all if grep is given
    hide: str = ""
    grep: str = ""
    fold: str = "auto"  # similar in the live view, off in a pipe
    prefix: str | None = None
    metric: str = ""
    log_dir: str = ""
    keep: str = ""  # bounds on recorded runs, or "all"; "": the default bounds, or none if log_dir is given
    rank_logs: str = "auto"
    stacks: str = "auto"
    hang_timeout: str = ""  # seconds, or auto; "": hang detection is off
    on_hang: str = "report"
    spool_limit: str = "4G"  # bytes of a run's log on each host's disk
    signatures: str = ""  # a file with the user's own error signatures


#: Only the command line may set these: they describe one run, or fanout computes them.
_NOT_IN_FILES = frozenset({"env", "venv_sure", "venv_is_conda", "force"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings:
    """Settings and, by name, the source of each non-default value."""

    settings: Settings
    origins: Mapping[str, str]


def merge_settings(
    flags: Mapping[str, Any], environ: Mapping[str, str], files: Sequence[tuple[str, Mapping[str, Any]]]
) -> LoadedSettings:
    """Merge all sources. In ``flags``, None means not given; ``files`` are (path, table), nearest first. Raises UsageError."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    known = {field.name: field.type for field in fields(Settings)}
    for path, table in reversed(files):
        for key, raw in table.items():
            name = key.replace("-", "_")
            if name not in known or name in _NOT_IN_FILES:
                raise UsageError(f"{path}: unknown setting {key!r}", hint=_suggest_name(name, known))
            values[name], origins[name] = _check_value(name, raw, f"{path}: {key}"), path
    for name in known:
        raw = environ.get(f"FANOUT_{name.upper()}")
        if raw is not None and name not in _NOT_IN_FILES:
            values[name] = _check_value(name, _parse_text(name, raw), f"FANOUT_{name.upper()}")
            origins[name] = f"FANOUT_{name.upper()}"
    for name, raw in flags.items():
        if raw is not None and name in known:
            values[name], origins[name] = _check_value(name, raw, f"--{name.replace('_', '-')}"), "command line"
    return LoadedSettings(settings=replace(Settings(), **values), origins=origins)


def _suggest_name(name: str, known: Mapping[str, Any]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0].replace('_', '-')}?" if near else "fanout run --help"


def _allowed_types(name: str) -> tuple[type, ...]:
    """Return the types that a setting may have, from the dataclass itself."""
    hint = typing.get_type_hints(Settings)[name]
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    plain = (option for option in options if option is not type(None) and typing.get_origin(option) is None)
    return tuple(plain) or (tuple,)


def _parse_text(name: str, text: str) -> Any:
    kind = _allowed_types(name)[0]
    if kind is tuple:
        with contextlib.suppress(ValueError):  # the text has an open quote, so it is not a list
            return tuple(shlex.split(text))
        return text
    if kind is bool:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}.get(
            text.lower(), text
        )
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        return text


def _check_value(name: str, value: Any, where: str) -> Any:
    kinds = _allowed_types(name)
    if kinds == (tuple,) and isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = tuple(value)
    if name == "hang_timeout" and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = f"{value:g}"
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) <= MAX_BYTES else math.inf
    wrong = not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
    wrong = wrong or (isinstance(value, float) and not math.isfinite(value))
    if wrong:
        raise UsageError(f"{where} must be {_describe_type(kinds[0])}, not {value!r}")
    if name == "hang_timeout":
        _check_hang_timeout(value, where)
    if name == "spool_limit" and parse_size(value) and not MIN_SPOOL_BYTES <= parse_size(value) <= MAX_BYTES:
        raise UsageError(f"{where} must be a size from 32M to 1024T (or 0 for no limit), not {value[:40]!r}")
    if name in CHOICES and value not in CHOICES[name]:
        raise UsageError(f"{where} must be one of {', '.join(CHOICES[name])}, not {value!r}")
    if name in BOUNDS and isinstance(value, (int, float)):
        wrong_range = range_error(name, value)
        if wrong_range:
            raise UsageError(f"{where} {wrong_range}")
    return None if name == "time_limit" and value == 0 else value


def _check_hang_timeout(value: str, where: str) -> None:
    """Accept ``auto``, ``off``, or a number of seconds. Raises UsageError."""
    if value in ("", "off", "auto"):
        return
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if range_error("hang_timeout", seconds):
        raise UsageError(
            f"{where} must be auto, off, or a number of seconds from 1 to {MAX_SECONDS}, not {value[:40]!r}"
        )


MIN_SPOOL_BYTES = 32 << 20
_SIZE = re.compile(r"(\d{1,15}(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\Z", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return ``4G`` in bytes (powers of 1024); -1 if the text is not a size. ``0`` means no limit."""
    found = _SIZE.match(text.strip())
    if found is None:
        return -1
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


def _describe_type(kind: type) -> str:
    return {
        tuple: "a list of texts",
        int: "a whole number",
        float: "a number of seconds",
        bool: "true or false",
        str: "text",
    }.get(kind, "a list")
