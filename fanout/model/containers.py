"""Containers: the names that engines accept, and the container of each host. Pure.

fanout enters a running container. It never creates, stops or removes one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from fanout.model.errors import UsageError
from fanout.model.hosts import Host
from fanout.model.settings import Settings

ENGINES = ("docker", "podman")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}\Z")  # of both engines; no shell reads a part of it as syntax


def is_container_name(text: str) -> bool:
    """Return whether an engine accepts ``text`` as the name or id of a container."""
    return bool(_NAME.match(text))


def assign_containers(hosts: Iterable[Host], settings: Settings) -> tuple[Host, ...]:
    """Return the hosts with the container and the engine of the options, where the hostfile has none.

    Raises UsageError.
    """
    name = settings.container
    if name and not is_container_name(name):
        raise UsageError(
            f"--container {name}: not the name of a container",
            hint="write its name or id, as docker ps or podman ps shows it",
        )
    engine = settings.engine if settings.engine != "auto" else None
    hosts = tuple(hosts)
    if engine and not name and not any(host.container for host in hosts):
        raise UsageError(
            f"--engine {engine}: no container is named", hint="--container NAME, or container= in the hostfile"
        )
    return tuple(_assign_container(host, name, engine) for host in hosts)


def _assign_container(host: Host, name: str, engine: str | None) -> Host:
    if not (host.container or name):
        return host
    return replace(host, container=host.container or name, engine=host.engine or engine)


def get_engines(host: Host) -> tuple[str, ...]:
    """Return the engines that may have the host's container, in the order of the search."""
    return (host.engine,) if host.engine else ENGINES
