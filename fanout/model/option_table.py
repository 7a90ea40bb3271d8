"""Option table: every option in one place. It feeds argparse, Settings, the environment, fanout.toml and docs/options.md.

Each value (default, range, choices, help) stands in one row. Pure.
"""

from __future__ import annotations

from fanout.model.command_options import COMMAND_OPTIONS
from fanout.model.option import Option, Setting
from fanout.model.shared_options import SHARED_OPTIONS

TYPE_CHECKING = False  # --help pays for argparse and for nothing else: typing and dataclasses cost as much again
if TYPE_CHECKING:
    from typing import Any

OPTIONS: tuple[Option, ...] = (*COMMAND_OPTIONS, *SHARED_OPTIONS)

#: Options that are fields of Settings, by name.
SETTINGS: dict[str, Setting] = {row.name: row for row in OPTIONS if isinstance(row, Setting)}

#: Names of the settings that the agent gets for each run.
HOST_SETTINGS: tuple[str, ...] = tuple(name for name, row in SETTINGS.items() if row.on_hosts)

#: Options with a least and a greatest value. Keys are names of settings; for other options, names of their values.
BOUNDED: dict[str, Option] = {row.name: row for row in OPTIONS if row.bounds}


def default_of(name: str) -> Any:
    """Return the default of a setting, for the fields of dataclasses. Raises KeyError."""
    return SETTINGS[name].default


def options_of(command: str, group: str = "") -> list[Option]:
    """Return the options of a command in one of its groups, or those outside of a group.

    A flag of the command itself takes precedence over the same flag of a group, which keeps its other flag.
    """
    own = [row for row in OPTIONS if command in row.commands]
    if not group:
        return own
    taken = frozenset(flag for row in own for flag in row.flags)
    return [row.without_flags(taken) for row in OPTIONS if row.is_in_group(group, command) and row not in own]
