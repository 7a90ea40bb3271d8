"""Option: one row of the option table. A plain class, because ``--help`` must not pay for dataclasses or typing. Pure."""

from __future__ import annotations

from fanout.text.parse_units import write_duration, write_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MAX_SECONDS = 23 * 86400  # poll() takes at most 2**31 - 1 milliseconds, and some waits add a margin

LAUNCH = "launch"
TIMEOUTS = "timeouts and stop"
RECOVERY = "restarts"
SELECTION = "host selection"
CONNECTION = "connection (in addition to ~/.ssh/config)"
OUTPUT = "output"
RECORD = "record and messages"


class Duration(float):
    """Kind of an option: a number of seconds, which the user writes as ``90``, ``90s``, ``10m``, ``2h`` or ``1d``."""


class ByteSize(int):
    """Kind of an option: a number of bytes, which the user writes as ``512MB``, ``4GB`` or ``4GiB``."""


class Option:
    """One option of the command line. Its value describes one call, so no file and no environment variable sets it.

    ``group``: every command with this group has the option; with ``only``, just these commands.
    ``commands``: these commands have the option outside of a group.
    ``help_of``: the help text for one command, where it differs. ``{default}`` in a help text is the default.
    ``text`` is the help text. ``bounds``: the least and the greatest value. ``words``: values that are not numbers;
    the value of such an option is a text. ``zero``: 0 is allowed below the bounds, and means no limit.
    ``implied``: the value of the flag if no duration follows it.
    """

    is_setting = False
    in_files = False

    def __init__(
        self,
        flags: str,
        text: str = "",
        *,
        name: str = "",
        kind: type = str,
        default: Any = "",
        metavar: str = "",
        choices: tuple[str, ...] = (),
        bounds: tuple[float, float] | None = None,
        words: tuple[str, ...] = (),
        zero: bool = False,
        group: str = "",
        only: str = "",
        commands: tuple[str, ...] = (),
        help_of: Mapping[str, str] | None = None,
        const: str = "",
        implied: str = "",
    ) -> None:
        self.flags = tuple(flags.split())
        self.long_flag = next((flag for flag in self.flags if flag.startswith("--")), flags)
        self.name = name or self.long_flag[2:].replace("-", "_")
        self.help = text
        self.kind = kind
        self.default = default
        self.metavar = metavar
        self.choices = choices
        self.bounds = bounds
        self.words = words
        self.zero = zero
        self.group = group
        self.only = only
        self.commands = commands
        self.help_of = help_of or {}
        self.const = const
        self.implied = implied

    def format_help(self, command: str = "") -> str:
        """Return the help text of the option for one command, with its default."""
        return self.help_of.get(command, self.help).replace("{default}", self.format_value(self.default))

    def format_value(self, value: Any) -> str:
        """Return a value as the user types it: ``40s`` for 40.0, ``4GB`` for 4 * 1000**3."""
        if self.kind is Duration and isinstance(value, (int, float)):
            return write_duration(value)
        if self.kind is ByteSize:
            return write_size(value)
        return f"{value:.15g}" if isinstance(value, float) else str(value)

    def without_flags(self, taken: frozenset[str]) -> Option:
        """Return the option without flags that another option of the command has. One flag always stays."""
        if taken.isdisjoint(self.flags):
            return self
        other = object.__new__(type(self))  # copy.copy costs an import
        other.__dict__.update(self.__dict__)
        other.flags = tuple(flag for flag in self.flags if flag not in taken)
        other.long_flag = other.flags[0]
        return other

    def is_in_group(self, group: str, command: str) -> bool:
        """Return whether the command shows this option in the group."""
        return self.group == group and (not self.only or command in self.only.split())


class Setting(Option):
    """Option that is a field of Settings.

    With ``in_files``, fanout.toml and FANOUT_<NAME> set it too. With ``on_hosts``, the agent gets its value for each run.
    """

    is_setting = True

    def __init__(
        self, flags: str, text: str = "", *, in_files: bool = True, on_hosts: bool = False, **row: Any
    ) -> None:
        super().__init__(flags, text, **row)
        self.in_files = in_files
        self.on_hosts = on_hosts

    @property
    def environment_name(self) -> str:
        """Return FANOUT_<NAME>, or "" if no environment variable sets it."""
        return f"FANOUT_{self.name.upper()}" if self.in_files else ""
