"""Container errors: why a login did not start the agent in a container, and a command that shows or repairs it. Pure.

A container of an image may not have been created; then the error names the image.
"""

from __future__ import annotations

import re
import shlex

from fanout.model.containers import get_engines
from fanout.model.engines import APPTAINER, get_engine
from fanout.model.errors import AgentRefused, ContainerGone
from fanout.model.hosts import Host
from fanout.model.suggested_commands import join_login
from fanout.remote.container_entry import NO_ENGINE, STATE_LINE, STATE_TEXTS, EntryEnd, parse_entry_end
from fanout.remote.instance_errors import explain_failed_instance

LONGEST_ERROR = 200  # characters
#: What the engines put before the cause: each of their parts adds its own words.
_WRAPPERS = re.compile(
    r"^(?:(?:docker: )?Error response from daemon: |Error: |failed to create (?:shim )?task(?: for container)?: "
    r"|OCI runtime (?:create|exec|start) failed: |runc (?:create|exec|start) failed: |unable to start container process: "
    r"|error during container init: |starting container process caused: )+"
)
_HELP = re.compile(r"(?:See|Run) '(?:docker|podman) .*--help'")  # docker's last line after an error
_LOG_LINE = re.compile(r'time="[^"]*" level=\w+ msg="(.*)"\Z')  # of podman and of docker's client
NOT_STARTED = (126, 127)  # of both engines: the program cannot be invoked, or was not found


def explain_failed_entry(host: Host, output: str, status: int, login: str) -> AgentRefused:
    """Return the error of a login that did not start the agent in the container, from its output and exit status.

    ``login`` is the command that makes the same login in a terminal, "" for this machine.
    """
    end = parse_entry_end(output)
    if host.engine == APPTAINER.name:
        program = end.engine or ("" if status == NO_ENGINE else APPTAINER.name)
        return explain_failed_instance(
            host, output, status, login, program=program, state=end.state, trouble=end.trouble
        )
    engine = get_engine(end.engine)
    name, by_hand = host.container, f"{login} {end.engine or 'docker'}".lstrip()
    last = _find_error(output)
    if not end.engine and status == NO_ENGINE:
        return AgentRefused(
            f"container {name}: no {' and no '.join(get_engines(host))} on the PATH of the login",
            hint=f"install one on {host.name}, or leave out the container",
        )
    if end.trouble:
        return _explain_engine(host, output, last, login) or _explain_creation(host, end, login, by_hand, last)
    match end.state:
        case "missing" if host.image:
            text = f"container {name}: it has ended, and fanout creates none during a run"
            return ContainerGone(text, hint=f"see its containers:  {by_hand} {engine.list_words}", is_empty=True)
        case "missing":
            return ContainerGone(
                f"container {name}: {end.engine} has no such container",
                hint=f"see its containers:  {by_hand} {engine.list_words}",
                is_empty=False,
            )
        case "exited" | "created" as state:
            text = f"container {name}: {STATE_TEXTS[state]}"
            return ContainerGone(
                text, hint=f"start it:  {by_hand} {engine.start_words.format(container=name)}", is_empty=True
            )
        case "paused":
            return AgentRefused(f"container {name}: it is paused", hint=f"continue it:  {by_hand} unpause {name}")
        case _:
            return _explain_engine(host, output, last, login) or _explain_entry(host, end, by_hand, last, status)


def _find_error(output: str) -> str:
    """Return the last line of the engine or of the program in the container, without the words around its cause."""
    lines = [line.strip() for line in output.splitlines() if not line.startswith(STATE_LINE)]
    texts = [found[1].replace('\\"', '"') if (found := _LOG_LINE.match(line)) else line for line in lines]
    errors = [_WRAPPERS.sub("", line) for line in texts if line and not _HELP.match(line)]
    return errors[-1][:LONGEST_ERROR] if errors else ""


def _explain_engine(host: Host, output: str, last: str, login: str) -> AgentRefused | None:
    """Return the error of an engine that does not serve this user."""
    if re.search(r"permission denied.*docker|docker.*permission denied", output, re.IGNORECASE):
        return AgentRefused(
            f"container {host.container}: this user may not use docker: {last}",
            hint=f"add the user to the group docker:  {join_login(login, 'sudo usermod -aG docker $(id -un)')}",
        )
    if re.search("cannot connect to the docker daemon|is the docker daemon running", output, re.IGNORECASE):
        return AgentRefused(
            f"container {host.container}: the docker daemon does not answer: {last}",
            hint=f"start it:  {join_login(login, 'sudo systemctl start docker')}",
        )
    return None


def _explain_creation(host: Host, end: EntryEnd, login: str, by_hand: str, last: str) -> AgentRefused:
    """Return the error of a container that was not created."""
    trouble, _, path = end.trouble.partition(" ")
    match trouble:
        case "no-image":
            return AgentRefused(
                f"image {host.image}: {end.engine} does not have it on this host",
                hint=f"pull it:  {by_hand} {get_engine(end.engine).pull_words.format(image=host.image)}",
            )
        case "no-mount":
            return AgentRefused(
                f"image {host.image}: nothing to mount at {path} on this host",
                hint=f"see it:  {join_login(login, f'ls -ld {shlex.quote(path)}')}",
            )
        case "no-cdi":
            return AgentRefused(
                f"image {host.image}: podman has no CDI specification of the NVIDIA GPUs",
                hint=f"write it:  {join_login(login, 'sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml')}",
            )
        case _ if re.search(r"executable file|no such file or directory", last) and "python" in last:
            return AgentRefused(
                f"image {host.image}: no {host.python or 'python3'} in it: {last}",
                hint="the image needs Python 3.8 or later; name another one with python=/path in the hostfile",
            )
        case _:
            return AgentRefused(
                f"image {host.image}: {end.engine} could not create a container: {last}",
                hint=f"create one by hand:  {by_hand} run --rm --pull never --entrypoint {host.python or 'python3'} {host.image} -V",
            )


def _explain_entry(host: Host, end: EntryEnd, by_hand: str, last: str, status: int) -> AgentRefused:
    """Return the error of an engine that fails, or of a running container that did not start the agent."""
    python = host.python or "python3"
    test = f"{by_hand} exec {host.container} {python} -V"
    if end.engine and end.state == "unknown":
        return AgentRefused(
            f"container {host.container}: {end.engine} cannot enter it (exit status {status}): {last or 'it printed nothing'}",
            hint=f"enter it by hand:  {test}",
        )
    if status in NOT_STARTED:
        return AgentRefused(
            f"container {host.container}: no {python} in it: {last}",
            hint=f"the container needs Python 3.8 or later: see  {test}   or name another: python=/path in the hostfile",
        )
    said = f": it printed {last!r}" if last else ""
    return AgentRefused(
        f"container {host.container}: the agent did not start in it (exit status {status}){said}",
        hint=f"enter it by hand:  {test}",
    )
