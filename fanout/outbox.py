"""What one host is still to be sent, and what each new connection must hear again. No I/O and no locks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes for a host. A ``bound`` frame belongs to one connection: no other connection carries it."""

    data: bytes
    bound: bool = False


class Outbox:
    """Frames in the order in which they are sent. An order is sent again on every later connection."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._orders: list[bytes] = []
        self._farewell = b""
        self.attaches = False  # each new connection takes the run up again, so the host repeats how it ended

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, data: bytes, *, order: bool = False, bound: bool = False) -> None:
        """Append a frame. An ``order`` may be lost with its connection and is sent again on the next."""
        if order:
            self._orders.append(data)
        self._frames.append(Frame(data, bound))

    def bid_farewell(self, data: bytes) -> None:
        """Append the last frame for this host."""
        self._farewell = data
        self.put(data)

    def repeat_farewell(self) -> None:
        """Send the last frame again, if there is one: the host has told its end once more."""
        if self._farewell:
            self.put(self._farewell)

    def forget_orders(self) -> None:
        """What was ordered so far has been carried out."""
        self._orders.clear()

    def reopen(self, first: bytes = b"") -> None:
        """Begin a new connection: ``first``, all orders, then what still waits and is not bound to an earlier one."""
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
        """Drop this frame with its connection? A farewell must wait until the host has told its end again."""
        farewell = self.attaches and frame.data is self._farewell
        return frame.bound or frame.data in self._orders or farewell
