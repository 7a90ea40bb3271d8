"""Names of processes: a pid with the container to whose namespace it belongs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fanout.model.containers import is_container_name


def get_container(hello: Mapping[str, Any]) -> str:
    """Return the container in which the agent of a connection is, "" if it is in none. The launcher has set it."""
    name = hello.get("container")
    return name if isinstance(name, str) and is_container_name(name) else ""


def name_process(pid: int | str, container: str) -> str:
    """Return ``pid 71``, or ``pid 71 in container work``."""
    return f"pid {pid} in container {container}" if container else f"pid {pid}"
