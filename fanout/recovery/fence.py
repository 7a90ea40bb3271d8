"""Fence: when a host without a connection can have no process of the old attempt any more.

A host that the launcher does not reach may still train and write checkpoints. Its keeper ends the run's processes when the
lease expires. The lease runs from the last heartbeat that the host received, at the latest the last one that was sent.
"""

from __future__ import annotations

from fanout.model.policy import FENCE_MARGIN_SECONDS


def compute_fence_end(last_heartbeat_at: float, *, lease: float, grace: float) -> float:
    """Return when the keeper of a lost host has ended its part at the latest. Times are seconds of one clock."""
    return last_heartbeat_at + lease + grace + FENCE_MARGIN_SECONDS
