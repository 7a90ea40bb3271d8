"""Error translation: exceptions of the ssh libraries become a TransportError that names the failed machine.

Each login on the way through jump hosts is translated by itself, so the error names the jump host or the target.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import paramiko

from fanout.model.errors import AuthRefused, Dropped, TransportError, Unreachable
from fanout.remote.transports.base import Deadline
from fanout.remote.transports.dialing import ProxyCommand
from fanout.remote.transports.ssh_options import SshOptions


@dataclass(slots=True, kw_only=True)
class LoginStep:
    """One login on the way to a host, with the jump host before it (None: none) and its ProxyCommand."""

    options: SshOptions
    before: SshOptions | None
    target: bool  # False: a jump host
    deadline: Deadline
    proxy: ProxyCommand | None = None

    @property
    def subject(self) -> str:
        """Return the prefix of an error: the jump host's name, "" for the target."""
        return "" if self.target else f"jump host {self.options.name}: "


@contextlib.contextmanager
def translate_errors(step: LoginStep) -> Iterator[None]:
    """Translate exceptions of the libraries inside the ``with`` block into a TransportError."""
    try:
        yield
    except TransportError as error:
        if step.target or str(error).startswith(step.subject):
            raise
        named = type(error)(f"{step.subject}{error}", hint=error.hint)
        if isinstance(error, AuthRefused) and isinstance(named, AuthRefused):
            named.methods = error.methods
        raise named from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        translated = _translate_error(step, error)
        raise type(translated)(f"{step.subject}{translated}", hint=translated.hint) from error


def _translate_error(step: LoginStep, error: Exception) -> TransportError:
    """Return the TransportError for one exception."""
    where, by_hand = step.options.connect_address, step.options.by_hand
    if step.proxy is not None and not isinstance(error, paramiko.AuthenticationException):
        failure = step.proxy.describe_failure()
        if failure:
            return Unreachable(failure, hint=by_hand)
    match error:
        case socket.gaierror():
            return Unreachable(
                f"the name {step.options.hostname} does not resolve ({error.strerror or error})",
                hint=f"check the spelling, or add `Host {step.options.name}` with a HostName to "
                f"{step.options.config_file or '~/.ssh/config'}",
            )
        case ConnectionRefusedError():
            hint = f"is sshd running there, on that port?  {by_hand}"
            return Unreachable(f"{where} refused the connection", hint=hint)
        case TimeoutError():
            return Unreachable(
                f"no answer from {where} within {step.deadline.seconds:g} s",
                hint=f"is it up, and the address right? firewall, VPN?  {by_hand}",
                timed_out=True,
            )
        case paramiko.ChannelException() if step.before is not None:
            return Unreachable(
                f"the jump host {step.before.name} ({step.before.connect_address}) cannot connect to {where}: {error.text}",
                hint=by_hand,
            )
    return _translate_other(step, error, where, by_hand)


def _translate_other(step: LoginStep, error: Exception, where: str, by_hand: str) -> TransportError:
    text = str(error) or type(error).__name__
    silent = "banner" in text or "No existing session" in text  # paramiko's text if no host key arrived in time
    if silent or isinstance(error, (EOFError, ConnectionResetError)):
        return Dropped(
            f"{where} closed the connection, or sent nothing, before any login",
            hint=f"is that an ssh server?  {by_hand}",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return Unreachable(f"{where}: {error.strerror or text}", hint=by_hand)
    if "Timeout" in text or "timed out" in text:
        return Unreachable(f"{where} answers, but the login did not finish in time", hint=by_hand)
    return Unreachable(f"{where}: {text}", hint=by_hand)
