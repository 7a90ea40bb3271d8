"""Pace of the block below the log: when the live view builds it again, because that costs more than all other steps."""

from __future__ import annotations

from fanout.model.events import Event, Tick

BLOCK_SECONDS = 0.5  # while log lines arrive: building the block more often would cost more than the log itself
HOST_SECONDS = 0.008  # for each host, at most 1 s: a block of many hosts takes long to build


class BlockPace:
    """The state of the last block. Between two events only the seconds in the block change."""

    def __init__(self, hosts: int) -> None:
        self._pause = min(1.0, HOST_SECONDS * hosts)
        self._built_at, self._second = float("-inf"), -1
        self._look: tuple[object, ...] = ()
        self._has_changed = True

    def note_event(self, event: Event) -> None:
        """Note that the next block may differ, unless the event only shows that time has passed."""
        self._has_changed = self._has_changed or not isinstance(event, Tick)

    def begin_if_due(
        self, now: float, run_time: float, look: tuple[object, ...], *, has_lines: bool, is_forced: bool
    ) -> bool:
        """Return whether the block is to be built now; if so, note that it is.

        ``look`` is what changes it at once: the size of the terminal. ``has_lines``: log lines are drawn in this frame.
        """
        pause = max(BLOCK_SECONDS if has_lines else 0.0, self._pause)
        has_changed = self._has_changed or int(run_time) != self._second
        if not is_forced and look == self._look and (now - self._built_at < pause or not has_changed):
            return False
        self._built_at, self._second, self._look, self._has_changed = now, int(run_time), look, False
        return True
