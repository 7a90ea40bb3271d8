"""Login errors of the ``ssh`` program: derive a TransportError from its log and its stderr. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fanout.model.errors import AuthRefused, Dropped, HostKeyChanged, HostKeyUnknown, TransportError, Unreachable
from fanout.remote.transports.openssh_log import SshLog

#: sshconnect.c, packet.c and dispatch.c: each reports a connection that ended while the login went on.
_DROPPED = re.compile(
    r"kex_exchange_identification|ssh_dispatch_run_fatal: Connection (to|from) .*(Broken pipe|reset|closed|timed out|abort)|"
    r"packet_write_(wait|poll): Connection to|client_loop: send disconnect|Read from remote host .*: Connection |"
    r"ssh_exchange_identification|^Connection (closed|reset) by \S+ port|"
    r"Connection (closed|reset) by (remote host|peer)|Not allowed at this time|Exceeded MaxStartups"
)
_NAME = re.compile(r"Could not resolve hostname ([^:\s]+): (.+)")
_CONNECT = re.compile(r"connect to host (\S+) port (\d+): (.+)")
_OFFENDING = re.compile(r"Offending .*key in (\S+?):(\d+)")
_CHANGED = "REMOTE HOST IDENTIFICATION HAS CHANGED"
_UNKNOWN = re.compile(r"No \S+ host key is known for|is not known by any other names|authenticity of host")


def explain_refusal(log: SshLog, words: Sequence[str], *, by_hand: str, accept_new: bool) -> TransportError:
    """Return the error of a failed login. ``words`` are lines of stderr, printed by a jump host's ssh or a ProxyCommand."""
    own = [line for line in log.messages if not line.startswith("@@@")]
    lines = [*words, *own]
    return (
        _host_key_error(log, lines, by_hand, accept_new)
        or _second_factor_error(log, by_hand)
        or _permission_error(log, lines, by_hand)
        or _connection_error(words, own, by_hand)
    )


def explain_timeout(log: SshLog, words: Sequence[str], address: str, seconds: float, *, by_hand: str) -> Unreachable:
    """Return the error of a login that timed out, from the step that it had reached."""
    if log.address and not log.connected:
        hint = f"is it up, and the address right? firewall, VPN?  {by_hand}"
        return Unreachable(f"no answer from {address} within {seconds:g} s", hint=hint, timed_out=True)
    reason = f" ({words[-1]})" if words else ""
    return Unreachable(
        f"the login to {address} did not finish within {seconds:g} s{reason}", hint=by_hand, timed_out=True
    )


def _host_key_error(log: SshLog, lines: Sequence[str], by_hand: str, accept_new: bool) -> TransportError | None:
    text = "\n".join(lines)
    if _CHANGED in text:
        where = _OFFENDING.search(text)
        known = f"{where[1]} line {where[2]} has another" if where else "known_hosts has another"
        return HostKeyChanged(
            f"its host key has CHANGED: it now shows {log.host_key or 'another one'}; {known}",
            hint=f"if the host was reinstalled:  {_removal_command(text, where)}   and log in once by hand:  {by_hand}",
        )
    if "REVOKED HOST KEY" in text or "marked as revoked" in text:
        return HostKeyChanged(
            f"its host key is marked @revoked: {log.host_key}", hint="ask the machine's administrator"
        )
    if _UNKNOWN.search(text) or "Host key verification failed" in text:
        how = "" if accept_new else "   (or add --accept-new-host-keys)"
        return HostKeyUnknown(
            f"its host key is not known: {log.host_key or lines[-1]}",
            hint=f"log in once by hand and compare the fingerprint:  {by_hand}{how}",
        )
    return None


def _removal_command(text: str, where: re.Match[str] | None) -> str:
    """Return the command that removes the old key. ssh prints it since version 8."""
    printed = re.search(r"ssh-keygen -f \S+ -R \S+", text)
    return printed[0] if printed else f"ssh-keygen -R HOST{f' -f {where[1]}' if where else ''}"


def _second_factor_error(log: SshLog, by_hand: str) -> AuthRefused | None:
    if not log.partial:
        return None
    return AuthRefused(
        f"the key was accepted, and the host wants a second factor: {', '.join(log.can_continue) or 'not named'}",
        hint=second_factor_hint(by_hand),
    )


def second_factor_hint(by_hand: str) -> str:
    """Return the hint for a host that requires a second factor: log in once, and let fanout share that connection."""
    command = by_hand.removeprefix("ssh ")
    path = "~/.ssh/fanout-%C"
    return (
        f"log in once and keep that connection open:  ssh -M -N -f -o ControlPath={path} {command}   "
        f"and add `ControlPath {path}` for this host to ~/.ssh/config; then run it again with --transport openssh"
    )


def _permission_error(log: SshLog, lines: Sequence[str], by_hand: str) -> AuthRefused | None:
    text = "\n".join(lines)
    if "Too many authentication failures" in text:
        return AuthRefused(
            f"the host ended the login after {len(log.offered)} keys (its MaxAuthTries)",
            hint="name the right key for this host in ~/.ssh/config: IdentityFile and `IdentitiesOnly yes`",
        )
    found = re.search(r"(\S+@\S+): Permission denied \(([^)]*)\)", text)
    if found is None:
        return None
    tried = ", ".join(dict.fromkeys(log.offered)) or "no key"
    if "publickey" not in found[2]:
        return AuthRefused(
            f"permission denied for {found[1]}: the host accepts only {found[2]}, and fanout cannot type a password",
            hint=second_factor_hint(by_hand),
        )
    return AuthRefused(f"permission denied for {found[1]} (tried {tried})", hint=f"does this log in?  {by_hand}")


def _connection_error(words: Sequence[str], own: Sequence[str], by_hand: str) -> TransportError:
    """Return the error of a failed connection. Messages of a jump host's ssh come first, because it failed earlier."""
    for line in (*words, *own):
        if found := _NAME.search(line):
            return Unreachable(
                f"the name {found[1]} does not resolve ({found[2]})",
                hint=f"check the spelling, or give that name a `Host` with a HostName in ssh's configuration  {by_hand}",
            )
        if found := _CONNECT.search(line):
            return _no_connection_error(f"{found[1]}:{found[2]}", found[3], by_hand)
    if any("during banner exchange" in line for line in own):
        return Dropped("the host was silent before any login", hint=f"is that an ssh server?  {by_hand}")
    if any("Permission denied" in line for line in words):
        return AuthRefused(f"a jump host refused the login: {words[-1]}", hint=by_hand)
    last = next((line for line in reversed([*own, *words]) if line), "ssh ended without a message")
    if any(_DROPPED.search(line) for line in own) and not words:
        return Dropped(f"the host closed the connection before any login: {last}", hint=by_hand)
    reason = "; ".join([*words, last]) if words and last not in words else last
    return Unreachable(reason, hint=by_hand)


def _no_connection_error(where: str, why: str, by_hand: str) -> Unreachable:
    if "refused" in why:
        return Unreachable(f"{where} refused the connection", hint=f"is sshd running there, on that port?  {by_hand}")
    if "timed out" in why:
        hint = f"is it up, and the address right? firewall, VPN?  {by_hand}"
        return Unreachable(f"no answer from {where}", hint=hint)
    return Unreachable(f"{where}: {why}", hint=by_hand)
