"""Container entry: the command by which a login enters a container, and how that command ended. Pure.

A container of an image is created first, unless it runs.

The login shell gets one line in single quotes without ``!``, ``'`` or a newline. The command for the container is in it
as base64. So each shell passes both on unchanged: sh, bash, zsh, fish and csh.

The command waits for the engine and then reports the state of the container on stderr. So the launcher can distinguish a
broken connection from a container that has ended.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Sequence
from typing import Literal, TypeAlias

from fanout.model.containers import get_engines
from fanout.model.engines import APPTAINER
from fanout.model.frozen import frozen
from fanout.model.hosts import Host
from fanout.model.instance_creation import INSIDE
from fanout.remote import instance_entry

ContainerState: TypeAlias = Literal["running", "paused", "exited", "created", "missing", "unknown"]
NO_ENGINE = 127
CREATION_TROUBLES = frozenset({"no-image", "no-mount", "no-cdi", "refused"})
STATE_LINE = "fanout-container"  # first word of the line on stderr: then the engine and the state
STATE_TEXTS = {
    "paused": "it is paused",
    "exited": "it is not running",
    "created": "it was never started",
    "missing": "there is no such container",
}

#: Arguments: the container, the engines, the command in base64, "state" if the line on stderr is wanted, the image, and
#: the script that creates the container in base64. The last two may be empty.
_ENTER = (
    'found() { "$1" container inspect "$2" >/dev/null 2>&1 || { [ -n "$3" ] && "$1" image inspect "$3" >/dev/null 2>&1; }; }; '
    "engine=; for each in $2; do command -v $each >/dev/null 2>&1 || continue; "
    'if [ -z "$engine" ]; then engine=$each; '
    'elif found $engine "$1" "$5"; then break; '
    'elif found $each "$1" "$5"; then engine=$each; break; '
    "else $engine ps -q >/dev/null 2>&1 || engine=$each; fi; done; "  # an engine that answers explains more
    f'[ -n "$engine" ] || {{ echo "none of these programs is on the PATH: $2" >&2; exit {NO_ENGINE}; }}; '
    '[ -z "$6" ] || ( eval "$(echo $6 | base64 -d)" ) || exit $?; '
    '$engine exec -i "$1" sh -c "$(echo $3 | base64 -d)"; status=$?; '
    '[ $status = 0 ] || [ -z "$4" ] || '
    f'echo "{STATE_LINE} $engine $($engine container inspect -f {{{{.State.Status}}}} "$1" 2>&1 | tail -n 1)" >&2; '
    "exit $status"
)

#: Arguments: the container and the engines. An engine that does not answer counts only if no other one answers. podman
#: from version 4 on kills at once with ``rm -t 0``, docker with ``rm -f``; an older podman would wait for 10 s.
_REMOVE = (
    "answered= left=; for each in $2; do command -v $each >/dev/null 2>&1 || continue; found=yes; "
    "for try in 1 2 3 4 5 6 7 8 9 10; do "
    '$each rm -f -t 0 "$1" >/dev/null 2>&1 || { $each kill "$1"; $each rm -f "$1"; } >/dev/null 2>&1; '
    'if output=$($each container inspect "$1" 2>&1 >/dev/null); then answered=$each; sleep 0.5; continue; fi; '
    "case $output in *[Nn]o?such*) ;; *) $each ps -q >/dev/null 2>&1 || continue 2;; esac; "
    "answered=$each; found=; break; done; "
    '[ -z "$found" ] || left=$each; done; '
    '[ -n "$answered" ] || { echo "no engine answers: $2" >&2; exit 1; }; '
    '[ -z "$left" ] || { echo "$left still has it" >&2; exit 1; }'
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


def build_agent_entry(host: Host, command: str, creation: str = "") -> str:
    """Return the command line for the login shell that runs ``command``, which starts the agent, in the container.

    ``creation`` is the script that creates the container.
    """
    return _build_entry(host, command, "state", creation)


def build_command_entry(host: Host, command: str, creation: str = "") -> str:
    """Return the command line for the login shell that runs a plain command in a shell of the container.

    At the end of its stdin the command and its children get SIGTERM.
    """
    return _build_entry(host, _FOLLOW.replace("COMMAND", shlex.quote(command)), "", creation)


def _build_entry(host: Host, command: str, state: str, creation: str) -> str:
    assert host.container is not None
    if host.engine == APPTAINER.name:
        text = f"{INSIDE}{command}" if host.image else command
        return _build_instance_line(instance_entry.ENTER, host.container, _encode(text), state, _encode(creation))
    words = [f"'{' '.join(get_engines(host))}'", _encode(command), f"'{state}'", f"'{host.image or ''}'"]
    return f"exec sh -c '{_ENTER}' fanout {host.container} {' '.join(words)} '{_encode(creation)}'"


def _build_instance_line(script: str, name: str, *arguments: str) -> str:
    """Return the command line for the login shell that runs a script of ``instance_entry`` with its arguments."""
    words = " ".join(f"'{word}'" for word in (_encode(script), name, " ".join(APPTAINER.programs), *arguments))
    return f"exec sh -c 'script=$1; shift; eval \"$(echo $script | base64 -d)\"' fanout {words}"


def _encode(script: str) -> str:
    return base64.b64encode(script.encode("utf-8", "surrogateescape")).decode()


def build_removal(name: str, engines: Sequence[str]) -> str:
    """Return the command line for the login shell that removes a container; 0 if afterwards no engine has it."""
    if tuple(engines) == (APPTAINER.name,):
        return _build_instance_line(instance_entry.REMOVE, name)
    return f"exec sh -c '{_REMOVE}' fanout {name} '{' '.join(engines)}'"


@frozen
class EntryEnd:
    """What the engine reported when an entry ended. ``engine`` is "" if the line is missing.

    ``trouble`` is why the container was not created: no-image, refused, no-cdi, or no-mount and the path.
    """

    engine: str
    state: ContainerState
    trouble: str = ""


def parse_entry_end(text: str) -> EntryEnd:
    """Find the line about the container in the output of a login."""
    found = re.search(rf"^{STATE_LINE} (\S+) (.*)$", text, re.MULTILINE)
    if found is None:
        return EntryEnd(engine="", state="unknown")
    text = found[2].strip()
    trouble = text if text.split(" ")[0] in CREATION_TROUBLES else ""
    return EntryEnd(engine=found[1], state="missing" if trouble else _read_state(text), trouble=trouble)


def _read_state(text: str) -> ContainerState:
    if re.search("no such container|no container with", text, re.IGNORECASE):
        return "missing"
    match text:
        case "running" | "paused" | "exited" | "created" | "missing":
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
