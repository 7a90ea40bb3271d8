"""Container entry: the command by which a login enters a running container, and how that command ended. Pure.

The login shell gets one line in single quotes without ``!``, ``'`` or a newline. The command for the container is in it
as base64. So each shell passes both on unchanged: sh, bash, zsh, fish and csh.

The command waits for the engine and then reports the state of the container on stderr. So the launcher can distinguish a
broken connection from a container that has ended.
"""

from __future__ import annotations

import base64
import re
import shlex
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fanout.model.containers import get_engines
from fanout.model.errors import ContainerGone
from fanout.model.events import HostLost, LossReason
from fanout.model.hosts import Host

ContainerState: TypeAlias = Literal["running", "paused", "exited", "created", "missing", "unknown"]
NO_ENGINE = 127
STATE_LINE = "fanout-container"  # first word of the line on stderr: then the engine and the state
STATE_TEXTS = {
    "paused": "it is paused",
    "exited": "it is not running",
    "created": "it was never started",
    "missing": "there is no such container",
}

#: Arguments: the container, the engines, the command in base64, and "state" if the line on stderr is wanted.
_ENTER = (
    "engine=; for each in $2; do command -v $each >/dev/null 2>&1 || continue; "
    'if [ -z "$engine" ]; then engine=$each; '
    'elif $engine container inspect "$1" >/dev/null 2>&1; then break; '
    'elif $each container inspect "$1" >/dev/null 2>&1; then engine=$each; break; '
    "else $engine ps -q >/dev/null 2>&1 || engine=$each; fi; done; "  # an engine that answers explains more
    f'[ -n "$engine" ] || {{ echo "none of these programs is on the PATH: $2" >&2; exit {NO_ENGINE}; }}; '
    '$engine exec -i "$1" sh -c "$(echo $3 | base64 -d)"; status=$?; '
    '[ $status = 0 ] || [ -z "$4" ] || '
    f'echo "{STATE_LINE} $engine $($engine container inspect -f {{{{.State.Status}}}} "$1" 2>&1 | tail -n 1)" >&2; '
    "exit $status"
)

#: For a plain command: an engine passes no signal on, but it passes the end of stdin on. Then the command gets SIGTERM.
_FOLLOW = """\
exec 3<&0
$(command -v setsid) $(command -v bash || command -v sh) -c COMMAND </dev/null 3<&- &
task=$!
{ while read -r line; do :; done; kill -TERM -$task || kill -TERM $task; } <&3 >/dev/null 2>&1 &
reader=$!
wait $task
status=$?
{ kill $reader; wait $reader; } 2>/dev/null
exit $status
"""


def build_agent_entry(host: Host, command: str) -> str:
    """Return the command line for the login shell that runs ``command``, which starts the agent, in the container."""
    return _build_entry(host, command, "state")


def build_command_entry(host: Host, command: str) -> str:
    """Return the command line for the login shell that runs a plain command in a shell of the container.

    At the end of its stdin the command and its children get SIGTERM.
    """
    return _build_entry(host, _FOLLOW.replace("COMMAND", shlex.quote(command)), "")


def _build_entry(host: Host, command: str, state: str) -> str:
    assert host.container is not None
    encoded = base64.b64encode(command.encode("utf-8", "surrogateescape")).decode()
    engines = " ".join(get_engines(host))
    return f"exec sh -c '{_ENTER}' fanout {host.container} '{engines}' {encoded} '{state}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryEnd:
    """What the engine reported when an entry ended. ``engine`` is "" if the line is missing."""

    engine: str
    state: ContainerState


def parse_entry_end(text: str) -> EntryEnd:
    """Find the line about the container in the output of a login."""
    found = re.search(rf"^{STATE_LINE} (\S+) (.*)$", text, re.MULTILINE)
    if found is None:
        return EntryEnd(engine="", state="unknown")
    return EntryEnd(engine=found[1], state=_read_state(found[2].strip()))


def _read_state(text: str) -> ContainerState:
    if re.search("no such container|no container with", text, re.IGNORECASE):
        return "missing"
    match text:
        case "running" | "paused" | "exited" | "created":
            return text
        case "dead" | "stopped":  # words of docker and of podman for a container without processes
            return "exited"
        case _:
            return "unknown"


def explain_end(host: Host, said: str) -> str:
    """Return why a connection ended, from the last message on stderr: the container has ended, or that message."""
    end = parse_entry_end(said if host.container else "")
    if end.state in ("running", "unknown"):
        return re.sub(rf"^{STATE_LINE} .*$", "", said, flags=re.MULTILINE).strip() or "the connection was closed"
    return f"container {host.container}: {STATE_TEXTS[end.state]}"


def build_container_loss(host: Host, error: ContainerGone, at: float) -> HostLost:
    """Return the loss of a host during a run whose container does not run any more."""
    reason: LossReason = "container-ended" if error.is_empty else "container-missing"
    return HostLost(at=at, host=host.name, why=str(error), reason=reason)
