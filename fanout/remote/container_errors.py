"""Container errors: why a login did not start the agent in a container, and a command that shows or repairs it. Pure."""

from __future__ import annotations

import re

from fanout.model.containers import get_engines
from fanout.model.errors import AgentRefused, ContainerGone
from fanout.model.hosts import Host
from fanout.remote.container_entry import NO_ENGINE, STATE_LINE, STATE_TEXTS, parse_entry_end

NOT_STARTED = (126, 127)  # of both engines: the program cannot be invoked, or was not found


def explain_failed_entry(host: Host, output: str, status: int) -> AgentRefused:
    """Return the error of a login that did not start the agent in the container, from its output and exit status."""
    end = parse_entry_end(output)
    name, by_hand = host.container, f"{_format_login(host)} {end.engine or 'docker'}"
    lines = [line.strip() for line in output.splitlines() if line.strip() and not line.startswith(STATE_LINE)]
    last = lines[-1][:200] if lines else ""
    if not end.engine and status == NO_ENGINE:
        return AgentRefused(
            f"container {name}: no {' and no '.join(get_engines(host))} on the PATH of the login",
            hint=f"install one on {host.name}, or leave out the container",
        )
    match end.state:
        case "missing":
            return ContainerGone(
                f"container {name}: {end.engine} has no such container",
                hint=f"see its containers:  {by_hand} ps -a",
                is_empty=False,
            )
        case "exited" | "created" as state:
            text = f"container {name}: {STATE_TEXTS[state]}"
            return ContainerGone(text, hint=f"start it:  {by_hand} start {name}", is_empty=True)
        case "paused":
            return AgentRefused(f"container {name}: it is paused", hint=f"continue it:  {by_hand} unpause {name}")
        case _:
            return _explain_engine(host, output, last) or _explain_python(host, by_hand, last, status)


def _format_login(host: Host) -> str:
    """Return the login of the hostfile, because a rootless engine shows each user only the own containers."""
    port = f"-p {host.port} " if host.port else ""
    return f"ssh {port}{host.user}@{host.ssh_name}" if host.user else f"ssh {port}{host.ssh_name}"


def _explain_engine(host: Host, output: str, last: str) -> AgentRefused | None:
    """Return the error of an engine that does not serve this user."""
    if re.search(r"permission denied.*docker|docker.*permission denied", output, re.IGNORECASE):
        return AgentRefused(
            f"container {host.container}: this user may not use docker: {last}",
            hint=f"add the user to the group docker:  {_format_login(host)} 'sudo usermod -aG docker $(id -un)'",
        )
    if re.search("cannot connect to the docker daemon|is the docker daemon running", output, re.IGNORECASE):
        return AgentRefused(
            f"container {host.container}: the docker daemon does not answer: {last}",
            hint=f"start it:  {_format_login(host)} sudo systemctl start docker",
        )
    return None


def _explain_python(host: Host, by_hand: str, last: str, status: int) -> AgentRefused:
    """Return the error of a running container that did not start the agent."""
    python = host.python or "python3"
    test = f"{by_hand} exec {host.container} {python} -V"
    if status in NOT_STARTED:
        return AgentRefused(
            f"container {host.container}: no {python} in it: {last}",
            hint=f"the container needs Python 3.8 or later: see  {test}   or name another: python=/path in the hostfile",
        )
    said = f": it printed {last!r}" if last else ""
    return AgentRefused(
        f"container {host.container}: the agent did not start in it (exit status {status}){said}",
        hint=f"try it:  {test}",
    )
