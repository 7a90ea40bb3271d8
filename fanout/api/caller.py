"""Caller of the Python API as a process context: no terminal, no output and no signal handler."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

from fanout.model.errors import UsageError
from fanout.run.caller_signals import CallerSignals
from fanout.run.process_context import ProcessContext, find_user_name

MOST_CHARACTERS = 1 << 20  # of messages that are kept
_OWN_PREFIX = "FANOUT_"


class MessageStream:
    """Output stream that keeps the messages of fanout as text, and shows nothing."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def write(self, text: str) -> int:
        if self._size < MOST_CHARACTERS:
            self._parts.append(text)
            self._size += len(text)
        return len(text)

    def flush(self) -> None:
        """Ignore the call: there is no buffer."""

    def isatty(self) -> bool:
        return False


def build_caller_context(messages: MessageStream, environ: Mapping[str, str] | None, cwd: str | None) -> ProcessContext:
    """Return the context of a call. ``messages`` gets what the command line would print.

    Without ``environ``, fanout reads what ssh and Python read too, and none of its own variables. Raises UsageError.
    """
    stream: Any = messages  # it has the methods of a text stream that fanout uses
    if environ is None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_PREFIX)}
    try:
        directory = os.path.abspath(cwd) if cwd is not None else os.getcwd()
    except OSError:
        raise UsageError("the working directory was deleted", hint="pass an absolute path as cwd") from None
    return ProcessContext(
        environ=environ,
        cwd=directory,
        cwd_exists=os.path.isdir(directory),
        stdout=stream,
        stderr=stream,
        stdin=lambda size: b"",
        user=find_user_name(),
        machine=socket.gethostname(),
        prefix=sys.prefix if sys.prefix != sys.base_prefix else "",
        columns=100,
        signals=CallerSignals(),
    )
