"""Command record: the command line of a run, without the values of --env, so that ``fanout rerun`` can repeat it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from fanout.model import schema
from fanout.model.credentials import is_secret
from fanout.model.errors import UsageError
from fanout.model.frozen import frozen
from fanout.model.option import Setting
from fanout.model.option_table import OPTIONS
from fanout.model.request import Request
from fanout.model.schema import ListOf, MapOf, Text

COMMAND_FILE = "command.json"
_ENV_FLAGS = next(row.flags for row in OPTIONS if row.name == "env")
_TEXTS = ListOf(Text())
_SCHEMA: dict[str, Any] = {
    "hosts": Text(), "task": _TEXTS, "flags": _TEXTS, "cwd": Text(), "withheld": _TEXTS, "variables": MapOf(Text()),
}  # fmt: skip
_ENVIRONMENTS = ("VIRTUAL_ENV", "CONDA_PREFIX")  # --venv auto takes the environment that is active


@frozen
class CommandRecord:
    """Command line of a run. ``flags`` are fanout's; ``withheld`` are variables of --env whose values are not recorded.

    ``variables`` are the environment variables that set options of the run.
    """

    hosts: str
    task: tuple[str, ...]
    flags: tuple[str, ...]
    cwd: str
    withheld: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        names = ("hosts", "task", "flags", "cwd", "withheld", "variables")
        return json.dumps({"v": 1} | {name: getattr(self, name) for name in names}, indent=2) + "\n"

    def build_arguments(self, more: Sequence[str] = ()) -> list[str]:
        """Return the words of the command line after ``fanout``. ``more`` are flags that take precedence."""
        return ["run", *self.flags, *more, self.hosts, "--", *self.task]


def build_command_record(request: Request, environ: Mapping[str, str], cwd: str) -> CommandRecord:
    """Return the record of a request, without the values that --env sets. Pure."""
    pairs = [text for text in request.given.get("env") or request.flags.get("env") or () if "=" in text]
    settable = {row.environment_name for row in OPTIONS if isinstance(row, Setting)} - {"", "FANOUT_ENV"}
    used = {name: environ[name] for name in sorted(settable | {*_ENVIRONMENTS}) if environ.get(name)}
    return CommandRecord(
        hosts=request.hosts,
        task=request.task,
        flags=_withhold_values(request.head, pairs),
        cwd=cwd,
        withheld=tuple(dict.fromkeys(text.partition("=")[0] for text in pairs)),
        variables={name: value for name, value in used.items() if not is_secret(name, value)},
    )


def _withhold_values(words: Sequence[str], pairs: Sequence[str]) -> tuple[str, ...]:
    """Return the flags without each of ``pairs``, the NAME=VALUE of --env, in every spelling of the flag."""
    kept: list[str] = []
    for word in words:
        pair = next((text for text in pairs if word.endswith(text)), "")
        flag = word.removesuffix(pair) if pair else ""
        if pair and not flag and kept and _ends_with_env(kept[-1]):
            flag = kept.pop()  # the value is a word of its own
        if not pair or not _ends_with_env(flag):
            kept.append(word)
        elif not flag.startswith("--") and len(flag) > 2:
            kept.append(flag[:-1])  # of -dE, -d stays
    return tuple(kept)


def _ends_with_env(flag: str) -> bool:
    if flag.startswith("--"):
        return flag.removesuffix("=") in _ENV_FLAGS
    return flag.startswith("-") and f"-{flag[-1]}" in _ENV_FLAGS


def read_command_record(directory: str, run: str) -> CommandRecord:
    """Return the recorded command line of a run. Raises UsageError."""
    path = os.path.join(directory, COMMAND_FILE)
    try:
        with open(path, "rb") as file:
            entry = schema.parse_json(file.read(), _SCHEMA)
    except FileNotFoundError:
        raise UsageError(f"run {run}: its record has no {COMMAND_FILE}: it is not a run of `fanout run`") from None
    except (OSError, schema.InvalidValue) as error:
        raise UsageError(f"{path}: cannot read it: {error}") from None
    return CommandRecord(
        hosts=entry["hosts"],
        task=tuple(entry["task"]),
        flags=tuple(entry["flags"]),
        cwd=entry["cwd"],
        withheld=tuple(entry["withheld"]),
        variables=dict(entry["variables"]),
    )
