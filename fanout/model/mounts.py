"""Mounts and arguments of a container that fanout creates: how the user writes them, and what is refused. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from fanout.model.engines import Engine
from fanout.model.errors import UsageError
from fanout.model.frozen import frozen

#: Arguments that fanout gives itself, or that would make its statements about the end of the container wrong.
_OWN = {
    "--name": "fanout names the container",
    "--rm": "fanout gives it",
    "--restart": "the container ends with its run",
    "--pull": "fanout never pulls an image",
    "--entrypoint": "fanout gives it",
    "--detach": "fanout gives it",
    "-d": "fanout gives it",
    "--interactive": "no terminal reaches the task",
    "-i": "no terminal reaches the task",
    "--tty": "no terminal reaches the task",
    "-t": "no terminal reaches the task",
    "-it": "no terminal reaches the task",
    "--pid": "all processes of a container must end with it",
    "--label": "fanout finds its containers by label",
    "-l": "fanout finds its containers by label",
    "--env": "`inspect` shows it; use -E NAME=VALUE",
    "-e": "`inspect` shows it; use -E NAME=VALUE",
    "--env-file": "`inspect` shows it; use --env-file FILE of fanout",
}

#: The same for apptainer, and flags of docker that it lacks.
_OWN_OF_APPTAINER = {
    "--env": "use -E NAME=VALUE",
    "--env-file": "use --env-file FILE of fanout",
    "--home": "fanout mounts no home; use --mount",
    "-H": "fanout mounts no home; use --mount",
    "--pwd": "fanout gives it",
    "--cwd": "fanout gives it",
    "--boot": "fanout starts no services",
    "--sharens": "all processes of a container must end with it",
    "--no-pid": "all processes of a container must end with it",
    "--no-init": "its first process reaps ended processes",
    "--ipc": "apptainer shares the /dev/shm of the host",
    "--shm-size": "apptainer shares the /dev/shm of the host",
    "--net": "the hosts must reach each other",
    "--network": "apptainer uses the network of the host",
    "--gpus": "fanout gives --nv if the host has NVIDIA GPUs",
    "--ulimit": "apptainer has the limits of the login",
    "--user": "apptainer runs as the user of the login",
    "--volume": "use --mount SRC[:DST] of fanout",
    "-v": "use --mount SRC[:DST] of fanout",
}


@frozen
class Mount:
    """A directory or file of the host, and its path in the container."""

    source: str
    target: str


def parse_mounts(texts: Iterable[str]) -> tuple[Mount, ...]:
    """Parse the values of --mount: SRC or SRC:DST. Raises UsageError."""
    mounts = tuple(_parse_mount(text) for text in texts)
    targets = [mount.target for mount in mounts]
    for target in targets:
        if targets.count(target) > 1:
            raise UsageError(f"--mount: two mounts have the same path {target} in the container", hint="leave one out")
    return mounts


def _parse_mount(text: str) -> Mount:
    source, colon, target = text.partition(":")
    for path in (source, target) if colon else (source,):
        check_mount_path(path, f"--mount {text}")
    return Mount(source=posixpath.normpath(source), target=posixpath.normpath(target if colon else source))


def check_mount_path(path: str, name: str) -> None:
    """Raise UsageError unless both engines accept the path; ``name`` is what the user wrote."""
    hint = "write --mount /path or --mount /path/on/host:/path/in/container"
    if not path.startswith("/"):
        raise UsageError(f"{name}: {path!r} is not an absolute path", hint=hint)
    if any(sign in path for sign in ',":\n\r\0'):
        raise UsageError(f"{name}: an engine reads the character {_find_sign(path)!r} otherwise", hint=hint)
    if posixpath.normpath(path) in ("/", "//"):
        raise UsageError(f"{name}: the root of the file system cannot be mounted", hint=hint)


def _find_sign(path: str) -> str:
    return next(letter for letter in path if letter in ',":\n\r\0')


def check_container_arguments(arguments: Iterable[str], engines: Iterable[Engine] = ()) -> None:
    """Raise UsageError for an argument that is no option, or that fanout gives itself to one of these engines."""
    named = tuple(engines)
    for argument in arguments:
        flag = argument.split("=")[0]
        if not argument.startswith("-") or argument.strip("-") == "" or "\0" in argument:
            raise UsageError(
                f"--container-arg {argument}: not an option of an engine",
                hint="write option and value in one word: --container-arg=--shm-size=32g",
            )
        if any(engine.has_image_paths for engine in named) and flag in _OWN_OF_APPTAINER:
            raise UsageError(
                f"--container-arg={argument}: with apptainer: {_OWN_OF_APPTAINER[flag]}", hint="leave it out"
            )
        if named and all(engine.has_image_paths for engine in named):
            continue
        if flag in _OWN or any(flag.startswith(short) for short in ("-e", "-l") if not flag.startswith("--")):
            raise UsageError(f"--container-arg={argument}: {_OWN.get(flag) or _OWN[flag[:2]]}", hint="leave it out")
