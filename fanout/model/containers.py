"""Containers: the names that engines accept, and the container or the image of each host. Pure.

fanout enters a running container that the user made, and never creates, stops or removes it. From an image it creates
a container for the run, and removes it (``container_creation``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from fanout.model.engines import APPTAINER, ENGINES, get_engine
from fanout.model.errors import UsageError
from fanout.model.hosts import Host
from fanout.model.mounts import check_container_arguments, parse_mounts
from fanout.model.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}\Z")  # of both engines; no shell reads a part of it as syntax
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,400}\Z")  # with its registry, tag or digest
_IMAGE_PATH = re.compile(r"/[A-Za-z0-9_./@+=%~-]{1,400}\Z")  # of a .sif file or an image directory, for apptainer


IMAGE_HINT = "write it as `docker images` shows it, or the absolute path of an image of apptainer"


def is_container_name(text: str) -> bool:
    """Return whether an engine accepts ``text`` as the name or id of a container."""
    return bool(_NAME.match(text))


def is_image_name(text: str) -> bool:
    """Return whether an engine accepts ``text`` as the name or id of an image."""
    return bool(_IMAGE.match(text))


def is_image_path(text: str) -> bool:
    """Return whether ``text`` is the absolute path of an image."""
    return bool(_IMAGE_PATH.match(text))


def assign_containers(hosts: Iterable[Host], settings: Settings) -> tuple[Host, ...]:
    """Return the hosts with the container or image and the engine of the options, where the hostfile has none.

    Raises UsageError.
    """
    name, image = settings.container, settings.image
    if name and not is_container_name(name):
        raise UsageError(
            f"--container {name}: not the name of a container",
            hint="write its name or id, as docker ps or podman ps shows it",
        )
    if image and not (is_image_name(image) or is_image_path(image)):
        raise UsageError(f"--image {image}: not the name of an image", hint=IMAGE_HINT)
    if name and image:
        raise UsageError(
            "--container enters a container and --image creates one: both are given", hint="leave one of them out"
        )
    engine = settings.engine if settings.engine != "auto" else None
    found = tuple(_assign_container(host, settings, engine) for host in hosts)
    if engine and not any(host.container or host.image for host in found):
        raise UsageError(
            f"--engine {engine}: no container is named",
            hint="--container NAME, --image IMAGE, or container= or image= in the hostfile",
        )
    return found


def check_image_options(hosts: Iterable[Host], settings: Settings, *, picks: bool) -> None:
    """Check the options of a command that creates containers. ``picks``: it chooses its hosts. Raises UsageError."""
    parse_mounts(settings.mount)
    engines = {get_engine(host.engine) for host in hosts if host.image}
    check_container_arguments(settings.container_arg, engines)
    has_image = bool(engines)
    if (settings.mount or settings.container_arg) and not has_image:
        option = "--mount" if settings.mount else "--container-arg"
        raise UsageError(f"{option}: no image is named", hint="--image IMAGE, or image= in the hostfile")
    if picks and has_image:
        raise UsageError(
            "--pick free checks hosts before it chooses, and an image has no container then",
            hint="find free hosts with `fanout top HOSTS`, and select them with -w",
        )


def _assign_container(host: Host, settings: Settings, engine: str | None) -> Host:
    container, image = host.container or settings.container, host.image or settings.image
    if not (container or image):
        return host
    if container and image:
        raise UsageError(
            f"{host.origin}: host {host.name} has container {container} and image {image}",
            hint="leave out the one or the other: --container and container= enter, --image and image= create",
        )
    engine = host.engine or engine or (APPTAINER.name if _names_file(image) else None)
    if image:
        _check_image(host, image, engine)
    return replace(host, container=container or None, image=image or None, engine=engine)


def _names_file(image: str | None) -> bool:
    """Return whether the name of an image shows that it is a file or a directory."""
    return bool(image) and (is_image_path(image or "") or (image or "").endswith(".sif"))


def _check_image(host: Host, image: str, engine: str | None) -> None:
    """Raise UsageError if the engine takes no image of this form."""
    if get_engine(engine).has_image_paths and not is_image_path(image):
        raise UsageError(
            f"{host.name}: image {image}: {engine} takes the absolute path of a .sif file or of an image directory",
            hint="write --image /images/train.sif, or image=/images/train.sif in the hostfile",
        )
    if is_image_path(image) and not get_engine(engine).has_image_paths:
        raise UsageError(
            f"{host.name}: image {image}: {engine} takes the name of an image, and not a path",
            hint=f"for a .sif file or an image directory:  --engine {APPTAINER.name}",
        )


def get_engines(host: Host) -> tuple[str, ...]:
    """Return the engines that may have the host's container, in the order of the search.

    An instance of apptainer is not searched for: it belongs to one user, and the user names its engine.
    """
    return (host.engine,) if host.engine else tuple(name for name in ENGINES if not ENGINES[name].has_image_paths)


def note_engine(host: Host, hello: Mapping[str, Any]) -> Host:
    """Return the host with the engine that its agent reports, unless the user names one.

    A later login must not ask another engine: that one has no such container, although the container may run.
    """
    engine = hello.get("engine")
    if not host.container or host.engine or engine not in get_engines(host):
        return host
    return replace(host, engine=engine)
