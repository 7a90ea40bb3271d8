"""Settings: every option with its default, and the source of each value.

Sources, highest priority first: the command line, FANOUT_<NAME> in the environment, the nearest fanout.toml (or
``[tool.fanout]`` in pyproject.toml), ~/.config/fanout/config.toml, the defaults below. Users, keys and jump hosts stay
in ~/.ssh/config.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fanout.model.errors import UsageError
from fanout.model.frozen import frozen
from fanout.model.option_table import SETTINGS, default_of
from fanout.model.option_values import check_option_value, parse_option_text
from fanout.model.save_signals import parse_save_signal
from fanout.text.suggest import suggest_nearest

RESTART_LEASE_SECONDS = 60.0  # the default lease of a run with restarts: a lost host is replaced only after its lease
SAVE_BEFORE_SECONDS = 600.0  # of --save-signal without --save-before


@frozen
class Settings:
    """Options of a run, with the defaults of the option table. Times are in seconds."""

    hosts: str = default_of("hosts")
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
    master_port_given: bool = default_of("master_port_given")
    fanout: int = default_of("fanout")
    connect_timeout: float = default_of("connect_timeout")
    start_timeout: float = default_of("start_timeout")
    time_limit: float | None = default_of("time_limit")
    save_before: float | None = default_of("save_before")
    save_signal: str = default_of("save_signal")
    lease: float = default_of("lease")
    grace: float = default_of("grace")
    last_words: float = default_of("last_words")
    on_early_exit: str = default_of("on_early_exit")
    background: str = default_of("background")
    on_hangup: str = default_of("on_hangup")
    transport: str = default_of("transport")
    ssh_config: str = default_of("ssh_config")
    ssh_option: tuple[str, ...] = default_of("ssh_option")
    user: str = default_of("user")
    container: str = default_of("container")
    image: str = default_of("image")
    engine: str = default_of("engine")
    mount: tuple[str, ...] = default_of("mount")
    container_arg: tuple[str, ...] = default_of("container_arg")
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
    hook: str = default_of("hook")
    notify: str = default_of("notify")
    metrics_file: str = default_of("metrics_file")
    rank_logs: str = default_of("rank_logs")
    stacks: str = default_of("stacks")
    hang_timeout: str = default_of("hang_timeout")
    on_hang: str = default_of("on_hang")
    max_restarts: int = default_of("max_restarts")
    resume_args: str = default_of("resume_args")
    restart_codes: str = default_of("restart_codes")
    restart_rate: str = default_of("restart_rate")
    allow_from_scratch: bool = default_of("allow_from_scratch")
    spool_limit: int = default_of("spool_limit")
    signatures: str = default_of("signatures")


@frozen
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
            values[name], origins[name] = check_option_value(SETTINGS[name], raw, f"{path}: {key}"), path
    for name, setting in SETTINGS.items():
        variable = setting.environment_name
        raw = environ.get(variable) if variable else None
        if raw is not None:
            values[name], origins[name] = parse_option_text(setting, raw, variable), variable
    for name, raw in flags.items():
        if raw is not None and name in SETTINGS:
            where = f"--{name.replace('_', '-')}"
            values[name], origins[name] = check_option_value(SETTINGS[name], raw, where), "command line"
    values["master_port_given"] = "master_port" in values
    if values.get("time_limit") == 0:
        values["time_limit"] = None
    restarts = "max_restarts" if values.get("max_restarts") else "on_hang" if values.get("on_hang") == "restart" else ""
    if restarts and "lease" not in values:
        values["lease"], origins["lease"] = RESTART_LEASE_SECONDS, f"--{restarts.replace('_', '-')}"
    if values.get("save_signal"):
        values["save_signal"] = parse_save_signal(values["save_signal"])
    if values.get("save_signal") and values.get("time_limit") and "save_before" not in values:
        values["save_before"], origins["save_before"] = SAVE_BEFORE_SECONDS, "--save-signal"
    return LoadedSettings(settings=replace(Settings(), **values), origins=origins)


def _suggest_name(name: str) -> str:
    names = [known.replace("_", "-") for known, setting in SETTINGS.items() if setting.in_files]
    return suggest_nearest(name.replace("_", "-"), names, quoted=False) or "fanout run --help"
