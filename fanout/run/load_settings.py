"""Load the settings of a command: flags, environment, env files, and the nearest fanout.toml."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from typing import Any

from fanout.model.errors import UsageError
from fanout.model.request import Request
from fanout.model.settings import LoadedSettings, merge_settings
from fanout.run.env_file import read_env_file
from fanout.run.process_context import ProcessContext


def load_settings(request: Request, process: ProcessContext) -> LoadedSettings:
    """Load all settings, checked, with the source of each. Raises UsageError."""
    flags = dict(request.flags)
    pairs = [
        _parse_env_flag(text, process.environ) for text in request.given.get("env") or flags.pop("env", None) or ()
    ]
    for path in request.given.get("env_file") or ():
        file = read_env_file(path)
        pairs = [*file.pairs, *pairs]  # the command line has priority
        for warning in file.warnings:
            process.print_message(warning)
    flags.pop("env", None)
    flags["env"] = tuple(pairs)
    flags.update(_choose_venv(flags.get("venv") or process.environ.get("FANOUT_VENV"), process))
    loaded = merge_settings(flags, process.environ, _find_config_files(process))
    loaded = _locate_hostfile(loaded)
    settings = loaded.settings
    absolute: dict[str, Any] = {  # the guardian, `stop` and `attach` may run in another directory
        name: os.path.abspath(os.path.join(_find_base(loaded, name, process.cwd), os.path.expanduser(path)))
        for name in ("ssh_config", "metrics_file")
        if (path := getattr(settings, name)) not in ("", "none")
    }
    return dataclasses.replace(loaded, settings=dataclasses.replace(settings, **absolute)) if absolute else loaded


def _find_base(loaded: LoadedSettings, name: str, cwd: str) -> str:
    """Return the directory that the path of a setting is relative to: that of the file with the setting, or ``cwd``."""
    origin = loaded.origins.get(name, "")
    return os.path.dirname(origin) if os.path.isabs(origin) else cwd


def _locate_hostfile(loaded: LoadedSettings) -> LoadedSettings:
    """Return the settings with ``hosts`` of a fanout.toml as a path that is valid here: it is relative to that file."""
    hosts, origin = loaded.settings.hosts, loaded.origins.get("hosts", "")
    path = os.path.join(os.path.dirname(origin), os.path.expanduser(hosts))
    if not hosts or os.path.sep not in origin or not os.path.exists(path):
        return loaded  # a list of hosts, or a path from the environment
    path = os.path.relpath(path)
    return dataclasses.replace(loaded, settings=dataclasses.replace(loaded.settings, hosts=path))


def _parse_env_flag(text: str, environ: Mapping[str, str]) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    if name not in environ:
        raise UsageError(f"--env {name}: this variable is not set in this shell", hint=f"--env {name}=VALUE")
    return name, environ[name]


def _choose_venv(given: str | None, process: ProcessContext) -> dict[str, Any]:
    """Return the settings for the environment on PATH. ``auto`` is the one active here, if a host has it too."""
    if given == "none":
        return {"venv": ""}
    if given not in (None, "", "auto"):
        return {"venv": os.path.abspath(os.path.join(process.cwd, os.path.expanduser(given))), "venv_sure": True}
    active = process.environ.get("VIRTUAL_ENV") or ""
    conda = "" if active else process.environ.get("CONDA_PREFIX", "")
    own = process.prefix if process.prefix and os.path.exists(os.path.join(process.prefix, "bin", "torchrun")) else ""
    return {"venv": active or conda or own, "venv_sure": False, "venv_is_conda": bool(conda)}


def _find_config_files(process: ProcessContext) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the nearest fanout.toml (or [tool.fanout]) at or above the working directory, then the user's own."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    directory = process.cwd
    while not found:
        for name in ("fanout.toml", "pyproject.toml"):
            path = os.path.join(directory, name)
            table = _read_toml(path)
            table = table.get("tool", {}).get("fanout") if table is not None and name == "pyproject.toml" else table
            if table is not None and not found:
                found.append((path, table))
        if directory == os.path.dirname(directory):
            break
        directory = os.path.dirname(directory)
    config = process.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    path = os.path.join(config, "fanout", "config.toml")
    table = _read_toml(path) if os.path.isabs(path) else None
    return found + ([(path, table)] if table is not None else [])


def _read_toml(path: str) -> Mapping[str, Any] | None:
    """Return the table of a TOML file, or None without one. Ignore a pyproject.toml without [tool.fanout]."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return None
    if path.endswith("pyproject.toml") and b"[tool.fanout]" not in data:
        return None
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table: Mapping[str, Any] = tomllib.loads(data.decode())
        return table
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text") from None
    except ValueError as error:  # from tomllib, or from a number with thousands of digits
        raise UsageError(f"{path}: {error}") from None
