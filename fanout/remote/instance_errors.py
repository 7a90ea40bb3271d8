"""Instance errors: why a login did not start the agent in an instance of apptainer, and a next command. Pure.

The messages are those of apptainer 1.x (cmd/starter/c/starter.c, internal/pkg/runtime/engine/apptainer).
"""

from __future__ import annotations

import re
import shlex

from fanout.model.engines import APPTAINER
from fanout.model.errors import AgentRefused, ContainerGone
from fanout.model.hosts import Host
from fanout.model.suggested_commands import join_login

LONGEST_ERROR = 200  # characters
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MESSAGE = re.compile(r'^(?:(?:FATAL|ERROR): +|Error for command "[^"]*": )(.*)$')
#: The last message of a start that failed: the cause is in a message before it.
_FOLLOWS = re.compile(r"failed to start instance: |container cleanup failed")
_WRAPPERS = re.compile(
    r"^(?:container creation failed: |mount hook function failure: |mount \S+->\S+ error: |while mounting \S+: )+"
)
#: Message -> cause, and the command that repairs it. ``{0}`` is what the pattern found in parentheses.
_CAUSES = (
    (
        r"requires to set (/proc/sys/kernel/unprivileged_userns_clone)",
        "this user may not create a user namespace",
        "allow it",
        "sudo sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        r"maximum number of user namespaces exceeded|user namespace disabled",
        "no further user namespace is allowed",
        "allow more",
        "sudo sysctl -w user.max_user_namespaces=65536",
    ),
    (
        r"not allowed to create user namespace|[Uu]ser namespace (?:needed|required) but not allowed",
        "this user may not create a user namespace",
        "install the package apptainer-suid, or see what forbids it",
        "sysctl -a --pattern userns",
    ),
    (
        r"hidepid option set on /proc",
        "apptainer starts no instance while /proc is mounted with hidepid",
        "change it",
        "sudo mount -o remount,hidepid=0 /proc",
    ),
    (r"mount source (\S+) doesn't exist", "nothing to mount at {0} on this host", "see it", "ls -ld {0}"),
    (
        r"destination (\S+) doesn't exist in container",
        "the image has no path {0}, and the configuration of apptainer forbids adding one",
        "see the lines that must say yes",
        "grep -E '^enable (overlay|underlay)' /etc/apptainer/apptainer.conf",
    ),
    (
        r"image format not recognized|unknown image format",
        "it is no image that apptainer can read",
        "see what it is",
        "file {image}",
    ),
)


def explain_failed_instance(
    host: Host, output: str, status: int, login: str, *, program: str, state: str, trouble: str
) -> AgentRefused:
    """Return the error of a login that did not start the agent in an instance.

    ``program`` is the one that the login found, "" for none. ``trouble`` is why the instance was not created.
    """
    by_hand = f"{login} {program}".lstrip()
    last = _find_error(output)
    what = f"image {host.image}" if host.image else f"instance {host.container}"
    if not program:
        return AgentRefused(
            f"{what}: no {' and no '.join(APPTAINER.programs)} on the PATH of the login",
            hint=f"install apptainer on {host.name}, or leave out the container",
        )
    name, _, path = trouble.partition(" ")
    if name == "no-image":
        folder = (host.image or "").rpartition("/")[0] or "/"
        return AgentRefused(
            f"image {host.image}: there is no such file or directory on this host",
            hint=f"copy it there, or name its path there with image= in the hostfile:  {join_login(login, f'ls -l {folder}')}",
        )
    if name == "no-mount":
        return AgentRefused(
            f"{what}: nothing to mount at {path} on this host",
            hint=f"see it:  {join_login(login, f'ls -ld {shlex.quote(path)}')}",
        )
    if not trouble and state == "missing":
        return _explain_missing(host, by_hand, program)
    return _explain_known(host, what, last, login) or _explain_other(host, what, last, by_hand, status, trouble)


def _find_error(output: str) -> str:
    """Return the message of apptainer that names the cause, else the last line."""
    lines = [_COLOUR.sub("", line).strip() for line in output.splitlines()]
    lines = [line for line in lines if line and not line.startswith("fanout-container")]
    errors = [found[1] for line in lines if (found := _MESSAGE.match(line))]
    causes = [error for error in errors if not _FOLLOWS.match(error)]
    last = (causes or errors or lines or [""])[-1]
    return _WRAPPERS.sub("", last)[:LONGEST_ERROR]


def _explain_missing(host: Host, by_hand: str, program: str) -> ContainerGone:
    hint = f"see the instances of this user:  {by_hand} {APPTAINER.list_words}"
    if host.image:
        text = f"container {host.container}: it has ended, and fanout creates none during a run"
        return ContainerGone(text, hint=hint, is_empty=True)
    text = f"instance {host.container}: {program} has no such instance of this user"
    return ContainerGone(text, hint=hint, is_empty=False)


def _explain_known(host: Host, what: str, last: str, login: str) -> AgentRefused | None:
    """Return the error for a message whose cause is known."""
    for pattern, cause, advice, command in _CAUSES:
        found = re.search(pattern, last)
        if found:
            place = found[1] if found.groups() else ""
            text = command.format(shlex.quote(place), image=host.image or "")
            return AgentRefused(f"{what}: {cause.format(place)}: {last}", hint=f"{advice}:  {join_login(login, text)}")
    return None


def _explain_other(host: Host, what: str, last: str, by_hand: str, status: int, trouble: str) -> AgentRefused:
    """Return the error for a missing Python, or for a message that is not known."""
    python = host.python or "python3"
    target = APPTAINER.image_words.format(image=host.image) if host.image else APPTAINER.enter_words
    test = f"{by_hand} {target.format(container=host.container)} {python} -V"
    if python in last and re.search("executable file not found|no such file|not found", last, re.IGNORECASE):
        return AgentRefused(
            f"{what}: no {python} in it: {last}",
            hint=f"the image needs Python 3.8 or later: see  {test}   or name another: python=/path in the hostfile",
        )
    said = f": {last}" if last else ""
    if trouble:
        return AgentRefused(f"{what}: apptainer could not start an instance{said}", hint=f"try it:  {test}")
    return AgentRefused(
        f"{what}: the agent did not start in it (exit status {status}){said}",
        hint=f"try it:  {test}",
    )
