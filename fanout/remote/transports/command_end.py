"""End of a command on a host: a signal request of SSH, and a second command on the same connection that sends the signal.

OpenSSH before 7.9, and the servers of ``fanout demo``, ignore signal requests. OpenSSH refuses them in a login of root,
because no process of it runs as another user than root. A signal also reaches only the process group of the command. The
second command finds the processes of the first: sshd gives both the same SSH_CONNECTION, which no other connection has.
A host with MaxSessions 1 refuses it; there the signal request remains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanout.remote.transports.lazy_imports import RARELY_REACHED, lazy_imports

with lazy_imports(*RARELY_REACHED):
    import paramiko

if TYPE_CHECKING:
    from paramiko.transport import Transport

OPEN_SECONDS = 3.0  # for the session of the second command
END_SECONDS = 1.0  # for the end of the second command, before the connection is closed

#: One line without "!" and newlines, so that every login shell, also csh and fish, passes it on unchanged.
SEND_TERM = (
    "exec sh -c '"
    '[ -n "$SSH_CONNECTION" ] || exit 1; read -r own < /proc/$$/stat; set -- ${own##*) }; session=$4; '
    'for place in $(grep -lzxF "SSH_CONNECTION=$SSH_CONNECTION" /proc/[0-9]*/environ 2>/dev/null); do '
    "place=${place%/environ}; read -r line < $place/stat || continue; set -- ${line##*) }; "
    '[ "$4" = "$session" ] || kill -TERM ${place#/proc/}; '
    "done 2>/dev/null'"
)


def request_end(transport: Transport, channel: paramiko.Channel) -> paramiko.Channel:
    """Ask the host to send SIGTERM to the processes of the channel's command. Raises SSHException, EOFError.

    Return the channel of the second command. Keep it: paramiko closes a channel that nothing refers to.
    """
    transport._send_user_message(_build_request(channel, "signal", "TERM", reply=False))  # type: ignore[attr-defined]
    try:
        second = transport.open_session(timeout=OPEN_SECONDS)
    except paramiko.ChannelException:
        return channel
    transport._send_user_message(_build_request(second, "exec", SEND_TERM, reply=True))  # type: ignore[attr-defined]
    return second


def _build_request(channel: paramiko.Channel, kind: str, value: str, *, reply: bool) -> paramiko.Message:
    """Return a request that waits for no answer, for which paramiko has no call (RFC 4254, 6.5 and 6.9).

    A signal has no reply. The servers of ``fanout demo`` start a command when they send its reply.
    """
    message = paramiko.Message()
    message.add_byte(paramiko.common.cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string(kind)
    message.add_boolean(reply)
    message.add_string(value)
    return message
