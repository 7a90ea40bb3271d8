"""Context of this process as one value: environment, directory, streams, user and terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TextIO

from fanout.model.frozen import frozen
from fanout.run.caller_signals import CallerSignals
from fanout.text.wrap import wrap_message


@frozen
class ProcessContext:
    """Context of this process, as main.py found it: environment, directory, streams, user, terminal."""

    environ: Mapping[str, str]
    cwd: str
    cwd_exists: bool = True  # it may have been deleted
    stdout: TextIO
    stderr: TextIO
    stdin: Callable[[int], bytes]  # at most so many bytes, as from a file; b"" at the end
    user: str
    machine: str
    prefix: str  # the virtual environment that fanout itself runs in, "" if none
    columns: int
    line: Callable[[], str] = str  # reads one line of stdin, the answer to a question; by default an empty line
    keyboard: int | None = None  # the descriptor of stdin, if it is a terminal
    signals: CallerSignals | None = None  # from a caller of the Python API; None: the signals of this process

    @property
    def login(self) -> str:
        """Return the user and the machine, for messages on other machines."""
        return f"{self.user}@{self.machine}"

    @property
    def has_ssh_agent(self) -> bool:
        return "SSH_AUTH_SOCK" in self.environ

    def print_message(self, text: str) -> None:
        """Print one message of fanout on stderr, wrapped to the terminal."""
        self.stderr.write(wrap_message(text, self.columns if self.stderr.isatty() else None) + "\n")
        self.stderr.flush()


def find_user_name() -> str:
    """Return the user's name. In a container, the user id may have no name."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
