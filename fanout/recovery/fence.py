"""Fence: when a host without a connection can have no process of the old attempt any more.

A host that the launcher does not reach may still train and write checkpoints. Its keeper ends the run's processes when the
lease expires. The lease runs from the last heartbeat that the host received, at the latest the last one that was sent.
"""

from __future__ import annotations

from collections.abc import Iterable

from fanout.model.policy import FENCE_MARGIN_SECONDS
from fanout.model.state import HostState


def compute_fence_end(last_heartbeat_at: float, *, lease: float, grace: float) -> float:
    """Return when the keeper of a lost host has ended its part at the latest. Times are seconds of one clock."""
    return last_heartbeat_at + lease + grace + FENCE_MARGIN_SECONDS


def find_last_contact(host: HostState, now: float) -> float:
    """Return the latest time at which a lost host may have received a heartbeat."""
    return max(host.last_message_at or 0.0, host.disconnected_at or 0.0) or now


def plan_wait(ended_at: float, wait_seconds: float, fence_ends: Iterable[float]) -> tuple[float | None, float]:
    """Return the end of the last fence (None: there is none), and when the next attempt may start at the earliest."""
    fence = max(fence_ends, default=0.0)
    return (fence if fence > ended_at else None), max(fence, ended_at + wait_seconds)
