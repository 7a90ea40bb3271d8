"""Errors of fanout, classified by who has to act: the user, the launcher's machine, or one host.

The text of an error is one sentence for the user; ``hint`` is a command to type next. ``exit_code`` is the exit status
of the process if no caller handles the error. The base class is never raised itself.
"""

from __future__ import annotations

from fanout.model.exit_status import ExitStatus


class FanoutError(Exception):
    """Base of all errors of fanout. ``str(error)`` is one sentence; ``error.hint`` is a command to type, or ""."""

    exit_code: int = ExitStatus.REFUSED

    def __init__(self, message: str, *, hint: str = "") -> None:
        if type(self) is FanoutError:
            raise TypeError("raise one of the subclasses: the exit code depends on the kind of error")
        super().__init__(message)
        self.hint = hint


class UsageError(FanoutError):
    """Wrong command line, file or setting; no host was contacted."""

    exit_code = ExitStatus.USAGE


class HostfileError(UsageError):
    """Hostfile with lines that cannot be read; the message lists each of them."""


class LauncherError(FanoutError):
    """Failure of the launcher's own machine (disk full, no permission, too few file descriptors)."""

    exit_code = ExitStatus.REFUSED


class TransportError(FanoutError):
    """One host is unreachable, or its answers cannot be used. ``timed_out``: the text gives the time limit."""

    exit_code = ExitStatus.UNREACHABLE

    def __init__(self, message: str, *, hint: str = "", timed_out: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.timed_out = timed_out


class Unreachable(TransportError):
    """Failed connection: name, route, port, banner or timeout."""


class Dropped(Unreachable):
    """Connection closed by the host before any login, as by sshd above MaxStartups; a retry can succeed."""


class AuthRefused(TransportError):
    """Login refused by the host; ``methods`` are the authentication methods that it reported."""

    methods: tuple[str, ...] = ()


class HostKeyUnknown(TransportError):
    """Host key that is in no known_hosts file."""


class HostKeyChanged(TransportError):
    """Host key that differs from the key in known_hosts."""


class AgentRefused(TransportError):
    """Agent that cannot start after the login (no python3, a forced command, an account without a shell)."""


class ContainerGone(AgentRefused):
    """Container that does not run. ``is_empty``: it exists, so no process of it is left. Else it may have another name."""

    def __init__(self, message: str, *, hint: str = "", is_empty: bool) -> None:
        super().__init__(message, hint=hint)
        self.is_empty = is_empty
