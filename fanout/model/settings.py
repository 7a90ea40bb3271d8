"""Settings: every option with its default, and the source of each value.

Sources, highest priority first: the command line, FANOUT_<NAME> in the environment, the nearest fanout.toml (or
``[tool.fanout]`` in pyproject.toml), ~/.config/fanout/config.toml, the defaults below. Users, keys and jump hosts stay
in ~/.ssh/config.
"""

from __future__ import annotations

import contextlib
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fanout.model.errors import UsageError
from fanout.model.number_ranges import range_error
from fanout.model.option import MAX_BYTES, MAX_SECONDS
from fanout.model.option_table import BOUNDS, CHOICES, SETTINGS, default_of
from fanout.text.parse_units import parse_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of a run, with the defaults of the option table. Times are in seconds."""

    script: str = default_of("script")
    shell: str = default_of("shell")
    chdir: str = default_of("chdir")
    venv: str = default_of("venv")
    venv_sure: bool = default_of("venv_sure")
    venv_is_conda: bool = default_of("venv_is_conda")
    setup: str = default_of("setup")
    env: tuple[tuple[str, str], ...] = default_of("env")
    nproc_per_node: int | None = default_of("nproc_per_node")
    master_addr: str = default_of("master_addr")
    master_port: int = default_of("master_port")
    fanout: int = default_of("fanout")
    connect_timeout: float = default_of("connect_timeout")
    start_timeout: float = default_of("start_timeout")
    time_limit: float | None = default_of("time_limit")
    lease: float = default_of("lease")
    grace: float = default_of("grace")
    last_words: float = default_of("last_words")
    on_early_exit: str = default_of("on_early_exit")
    on_hangup: str = default_of("on_hangup")
    transport: str = default_of("transport")
    ssh_config: str = default_of("ssh_config")
    ssh_option: tuple[str, ...] = default_of("ssh_option")
    user: str = default_of("user")
    accept_new_host_keys: bool = default_of("accept_new_host_keys")
    skip_check: bool = default_of("skip_check")
    force: bool = default_of("force")
    output: str = default_of("output")
    color: str = default_of("color")
    timestamps: bool = default_of("timestamps")
    show: str = default_of("show")
    hide: str = default_of("hide")
    grep: str = default_of("grep")
    fold: str = default_of("fold")
    prefix: str | None = default_of("prefix")
    metric: str = default_of("metric")
    log_dir: str = default_of("log_dir")
    keep: str = default_of("keep")
    rank_logs: str = default_of("rank_logs")
    stacks: str = default_of("stacks")
    hang_timeout: str = default_of("hang_timeout")
    on_hang: str = default_of("on_hang")
    spool_limit: str = default_of("spool_limit")
    signatures: str = default_of("signatures")


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
    for path, table in reversed(files):
        for key, raw in table.items():
            name = key.replace("-", "_")
            if name not in SETTINGS or not SETTINGS[name].in_files:
                raise UsageError(f"{path}: unknown setting {key!r}", hint=_suggest_name(name))
            values[name], origins[name] = _check_value(name, raw, f"{path}: {key}"), path
    for name, setting in SETTINGS.items():
        variable = setting.environment_name
        raw = environ.get(variable) if variable else None
        if raw is not None:
            values[name], origins[name] = _check_value(name, _parse_text(setting.kind, raw), variable), variable
    for name, raw in flags.items():
        if raw is not None and name in SETTINGS:
            values[name], origins[name] = _check_value(name, raw, f"--{name.replace('_', '-')}"), "command line"
    return LoadedSettings(settings=replace(Settings(), **values), origins=origins)


def _suggest_name(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, [known for known, setting in SETTINGS.items() if setting.in_files], n=1)
    return f"did you mean {near[0].replace('_', '-')}?" if near else "fanout run --help"


def _parse_text(kind: type, text: str) -> Any:
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
    kind = SETTINGS[name].kind
    if kind is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = tuple(value)
    if name == "hang_timeout" and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = f"{value:g}"
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) <= MAX_BYTES else math.inf
    wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
    wrong = wrong or (isinstance(value, float) and not math.isfinite(value))
    if wrong:
        raise UsageError(f"{where} must be {_describe_type(kind)}, not {value!r}")
    if name == "hang_timeout":
        _check_hang_timeout(value, where)
    if name == "spool_limit":
        size = parse_size(value)
        if size is None or (size and not MIN_SPOOL_BYTES <= size <= MAX_SPOOL_BYTES):
            raise UsageError(f"{where} must be a size from 32MB to 1000TB (or 0 for no limit), not {value[:40]!r}")
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


MIN_SPOOL_BYTES = 32 * 10**6
MAX_SPOOL_BYTES = 10**15


def _describe_type(kind: type) -> str:
    return {
        tuple: "a list of texts",
        int: "a whole number",
        float: "a number of seconds",
        bool: "true or false",
        str: "text",
    }.get(kind, "a list")
