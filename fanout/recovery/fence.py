"""Fence: when a host without a connection can have no process of the old attempt any more.

A host that the launcher does not reach may still train and write checkpoints. Its keeper ends the run's processes when the
lease expires. The lease runs from the last heartbeat that the host received, at the latest the last one that was sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FENCE_MARGIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LostHost:
    """What the launcher knows about a host that was lost. Times are seconds of the launcher's clock."""

    name: str
    last_heartbeat_at: float
    answers: bool = False
    left: int | None = None  # processes of the attempt that it reported; None: unknown
    rebooted: bool = False


FenceState = Literal["clean", "rebooted", "expired", "waiting", "unclean", "no-lease"]


def compute_fence_end(host: LostHost, *, lease: float, grace: float) -> float:
    """Return when the keeper of a lost host has ended its part at the latest."""
    return host.last_heartbeat_at + lease + grace + FENCE_MARGIN_SECONDS


def check_fence(host: LostHost, now: float, *, lease: float, grace: float) -> FenceState:
    """Return whether the next attempt may start without this host.

    ``clean``, ``rebooted`` and ``expired`` allow it. ``no-lease``: the host never ends its part by itself.
    """
    if host.rebooted:
        return "rebooted"
    if host.answers and host.left is not None:
        return "clean" if host.left == 0 else "unclean"
    if lease <= 0:
        return "no-lease"
    return "expired" if now >= compute_fence_end(host, lease=lease, grace=grace) else "waiting"
