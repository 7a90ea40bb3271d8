"""Bootstrap handshake: skip login output, wait for READY, send the agent, wait for its hello.

The launcher sends nothing before READY, so no rc file can read bytes of the agent.
"""

from __future__ import annotations

import time

from fanout.agent import bundle
from fanout.model.errors import AgentRefused, Dropped, TransportError, Unreachable
from fanout.model.events import Event
from fanout.model.hosts import Host
from fanout.model.suggested_commands import join_login
from fanout.remote import container_errors, protocol
from fanout.remote.transports.base import Channel, Deadline

OLDEST_PYTHON = (3, 8)


def run_handshake(host: Host, channel: Channel, decoder: protocol.FrameDecoder, deadline: Deadline) -> list[Event]:
    """Wait for READY, send the agent, wait for its hello. Return the events that arrived with it.

    Raises AgentRefused, or Dropped if the connection broke. The channel is closed in both cases.
    """
    events: list[Event] = []
    sent = False
    try:
        while not decoder.hello:
            data = channel.read(deadline.seconds_left)
            if sent and (deadline.has_expired or (data is None and time.monotonic() >= deadline.at)):
                raise _not_through(host, deadline.seconds)
            if deadline.has_expired or (data is None and time.monotonic() >= deadline.at):
                raise AgentRefused(
                    f"logged in, but the login shell did not start the agent within {deadline.seconds:g} s",
                    hint=f"does an rc file on {host.name} wait for something?",
                )
            if data == b"":
                status = channel.exit_status()
                if status is None:  # the connection ended without the exit status of the login
                    printed = decoder.login_output.decode("utf-8", "replace").strip()[-200:]
                    printed_note = f": it printed {printed!r}" if printed else ""
                    raise Dropped(f"the connection broke while the agent started{printed_note}", hint="run it again")
                raise _explain_missing_agent(host, decoder, status, channel.by_hand)
            if data:
                events += decoder.feed_bytes(data)
            if decoder.python and not sent:
                _check_python_version(host, decoder.python)
                channel.separate_stderr()
                channel.write(bundle.pack_agent())
                sent = True
    except protocol.ProtocolError as error:
        channel.close()
        raise AgentRefused(str(error)) from None
    except OSError as error:
        channel.close()
        if decoder.python and deadline.has_expired:
            raise _not_through(host, deadline.seconds) from None
        raise Dropped(f"the connection broke while the agent started: {error}", hint="run it again") from None
    except TransportError:
        channel.close()
        raise
    return events


def _not_through(host: Host, seconds: float) -> Unreachable:
    """Return the error of a host that took small packets and then answered nothing to the agent's source."""
    size = len(bundle.pack_agent()) // 1000
    return Unreachable(
        f"logged in, but no answer came within {seconds:g} s to the {size} kB of the agent: full-size packets are lost on "
        "the way (MTU), or the host hardly runs",
        timed_out=True,
        hint=f"compare the MTU here and on {host.name} with `ip link`; what lies between must let ICMP pass",
    )


def _check_python_version(host: Host, version: str) -> None:
    """Raise AgentRefused if this Python version cannot compile the agent."""
    numbers = tuple(int(part) if part.isdigit() else 0 for part in version.split("."))
    if numbers < OLDEST_PYTHON:
        raise AgentRefused(
            f"its {host.python or 'python3'} is Python {version}; fanout needs 3.8 or later on the hosts",
            hint="name a newer one: python=/path/to/python3 in the hostfile",
        )


def _explain_missing_agent(host: Host, decoder: protocol.FrameDecoder, status: int, login: str) -> AgentRefused:
    """Build the error for a login that ended before the agent started, from its output."""
    if host.container and not decoder.python:
        output = decoder.login_output.decode("utf-8", "replace")
        return container_errors.explain_failed_entry(host, output, status, login)
    lines = decoder.login_output.decode("utf-8", "replace").strip().splitlines()
    last = lines[-1].strip()[:200] if lines else ""
    if decoder.python:
        return AgentRefused(
            f"its python {decoder.python} could not run the agent: {last or 'it printed nothing'}",
            hint="fanout needs Python 3.8 or later there: python=/path/to/python3 in the hostfile",
        )
    if status in (126, 127) or "not found" in last:
        return AgentRefused(
            f"no {host.python or 'python3'} there: {last}" if last else f"no {host.python or 'python3'} there",
            hint="install python3 (3.8 or later) on it, or give its path: python=/path/to/python3 in the hostfile",
        )
    python = host.python or "python3"
    version = f"`{join_login(login, f'{python} -V')}`"
    if any(line.startswith("Unknown option: -I") for line in lines):
        return AgentRefused(
            f"its {python} is older than Python 3.4 (it printed 'Unknown option: -I'); fanout needs 3.8 or later on the hosts",
            hint=f"{version} shows its version; name a newer one: python=/path/to/python3 in the hostfile",
        )
    return AgentRefused(
        f"the login, or its {python}, ended before the agent started (exit status {status})"
        + (f": it printed {last!r}" if last else ""),
        hint=f"`{join_login(login, 'true')}` shows whether the login works, {version} whether {python} does; "
        "name another one with python=/path/to/python3 in the hostfile",
    )
