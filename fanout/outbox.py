"""Frame queue: the frames that wait for one host, and those that each new connection repeats. No I/O, no locks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes for a host. A ``bound`` frame belongs to one connection and is never sent on another."""

    data: bytes
    bound: bool = False


class Outbox:
    """Frames in the order in which they are sent. An order is sent again on every later connection."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._orders: list[bytes] = []
        self._farewell = b""
        self.attaches = False  # True: each new connection attaches to the run, so the host repeats its end

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, data: bytes, *, order: bool = False, bound: bool = False) -> None:
        """Append a frame. An ``order`` is sent again on the next connection, because it may be lost with this one."""
        if order:
            self._orders.append(data)
        self._frames.append(Frame(data, bound))

    def bid_farewell(self, data: bytes) -> None:
        """Append the last frame for this host."""
        self._farewell = data
        self.put(data)

    def repeat_farewell(self) -> None:
        """Send the last frame again, if there is one, because the host has reported its end again."""
        if self._farewell:
            self.put(self._farewell)

    def forget_orders(self) -> None:
        """Repeat no order sent so far: the host has carried them out."""
        self._orders.clear()

    def reopen(self, first: bytes = b"") -> None:
        """Start a new connection: queue ``first``, all orders, then the waiting frames that are not bound."""
        again = [first] if first else []
        waiting = [frame for frame in self._frames if not self._is_repeated(frame)]
        self._frames = deque([*map(Frame, again + self._orders), *waiting])

    def take(self) -> Frame:
        return self._frames.popleft()

    def put_back(self, frame: Frame, *, behind_first: bool) -> None:
        """Keep a frame that could not be written, unless a new connection repeats it or must not carry it."""
        if not self._is_repeated(frame):
            self._frames.insert(int(behind_first), frame)

    def _is_repeated(self, frame: Frame) -> bool:
        """Return whether to drop this frame with its connection.

        The last frame is dropped too if the run is attached: it must wait until the host has reported its end again.
        """
        farewell = self.attaches and frame.data is self._farewell
        return frame.bound or frame.data in self._orders or farewell
