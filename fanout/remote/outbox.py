"""Frame queue: the frames that wait for one host, and those that each new connection repeats. No I/O, no locks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueuedFrame:
    """Bytes for a host. A ``bound`` frame belongs to one connection and is never sent on another."""

    data: bytes
    bound: bool = False


class FrameQueue:
    """Frames in the order in which they are sent. An order is sent again on every later connection."""

    def __init__(self) -> None:
        self._frames: deque[QueuedFrame] = deque()
        self._orders: list[bytes] = []
        self._last_frame = b""
        self.attaches = False  # True: each new connection attaches to the run, so the host repeats its end

    def __len__(self) -> int:
        return len(self._frames)

    def put_frame(self, data: bytes, *, order: bool = False, bound: bool = False) -> None:
        """Append a frame. An ``order`` is sent again on the next connection, because it may be lost with this one."""
        if order:
            self._orders.append(data)
        self._frames.append(QueuedFrame(data, bound))

    def put_last_frame(self, data: bytes) -> None:
        """Append the last frame for this host."""
        self._last_frame = data
        self.put_frame(data)

    def repeat_last_frame(self) -> None:
        """Send the last frame again, if there is one, because the host has reported its end again."""
        if self._last_frame:
            self.put_frame(self._last_frame)

    def clear_orders(self) -> None:
        """Repeat no order sent so far: the host has carried them out."""
        self._orders.clear()

    def start_connection(self, first: bytes = b"") -> None:
        """Start a new connection: queue ``first``, all orders, then the waiting frames that are not bound."""
        again = [first] if first else []
        waiting = [frame for frame in self._frames if not self._is_dropped(frame)]
        self._frames = deque([*map(QueuedFrame, again + self._orders), *waiting])

    def take_frame(self) -> QueuedFrame:
        return self._frames.popleft()

    def put_frame_back(self, frame: QueuedFrame, *, behind_first: bool) -> None:
        """Keep a frame that could not be written, unless a new connection repeats it or must not carry it."""
        if not self._is_dropped(frame):
            self._frames.insert(int(behind_first), frame)

    def _is_dropped(self, frame: QueuedFrame) -> bool:
        """Return whether to drop this frame with its connection.

        The last frame is dropped too if the run is attached: it must wait until the host has reported its end again.
        """
        is_last = self.attaches and frame.data is self._last_frame
        return frame.bound or frame.data in self._orders or is_last
