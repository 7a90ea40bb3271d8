"""Boot ids: what two of them show about one host. Pure.

A boot id is that of the kernel (``/proc/sys/kernel/random/boot_id``, kernel ``random.c``). Inside a container the agent adds
the start of the container's first process (``fanout.agent.processes.read_boot_id``).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Restart: TypeAlias = Literal["host", "container"]


def find_restart(before: str, now: str) -> Restart | None:
    """Return what was restarted between two boot ids of one host; None if nothing was, or one is unknown."""
    if not before or not now or before == now:
        return None
    return "container" if before.split(" ")[0] == now.split(" ")[0] else "host"
