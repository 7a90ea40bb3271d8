"""Every way that fanout can fail, cut by the question that the caller asks: whose fault, and what now?

An error here is a sentence for a person: what happened, then (``hint``) what to type next. ``exit_code`` is the
process's status if nobody handles it. The base class is never raised itself.
"""

from __future__ import annotations


class FanoutError(Exception):
    """Base of all our errors; ``str(error)`` is one sentence, ``error.hint`` is what to type next ("" if nothing)."""

    exit_code = 125

    def __init__(self, message: str, *, hint: str = "") -> None:
        if type(self) is FanoutError:
            raise TypeError("raise one of the subclasses: the exit code depends on whose fault it is")
        super().__init__(message)
        self.hint = hint


class UsageError(FanoutError):
    """The command line, a file or a setting is wrong; nothing has been touched."""

    exit_code = 2


class HostfileError(UsageError):
    """One or more lines of a hostfile cannot be read; the message holds every one of them."""


class LauncherError(FanoutError):
    """Fanout's own machine cannot do its part (disk full, no permission, too few file descriptors)."""

    exit_code = 125


class TransportError(FanoutError):
    """One host cannot be reached or talked to."""

    exit_code = 255


class Unreachable(TransportError):
    """No connection: name, route, port, banner or time."""


class Dropped(Unreachable):
    """The host hung up before any login, as sshd does beyond MaxStartups: worth another attempt a moment later."""


class AuthRefused(TransportError):
    """The host answers but does not let us in; ``methods`` are those that it takes, as far as it told."""

    methods: tuple[str, ...] = ()


class HostKeyUnknown(TransportError):
    """The host's key is in no known_hosts file."""


class HostKeyChanged(TransportError):
    """The host's key is not the one in known_hosts."""


class AgentRefused(TransportError):
    """Logged in, but the agent cannot start there (no python3, a forced command, an account without a shell)."""
