"""The sending half of one host's link: what waits, the present connection, and the loop that writes to it.

All methods may be called from any thread; ``run`` is the body of the writer's thread, so that a full pipe holds up
nobody else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from fanout import wire
from fanout.outbox import Outbox
from fanout.transports.base import Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One connection to a host: ``made_at`` tells it from earlier ones."""

    channel: Channel
    decoder: wire.Decoder
    made_at: float


class Sender:
    """Frames to one host, over one connection after the other."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._outbox = Outbox()
        self._connection: Connection | None = None
        self._over = False

    def put(self, frame: bytes, *, order: bool = False) -> None:
        """Queue a frame; it waits for a connection if there is none. An order is sent again on every later one."""
        with self._news:
            self._outbox.put(frame, order=order)
            self._news.notify()

    def ask(self, number: int, what: str, frame: bytes) -> float | None:
        """Queue a question for the present connection; when that one was made, None where there is none.

        A later connection leads to another relay, which knows nothing of the question.
        """
        with self._news:
            if self._connection is None:
                return None
            self._connection.decoder.expect(number, what)
            self._outbox.put(frame, bound=True)
            self._news.notify()
            return self._connection.made_at

    def cancel(self, number: int, frame: bytes) -> None:
        """End a question; its answer is dropped from here on."""
        with self._news:
            if self._connection is not None:
                self._connection.decoder.forget(number)
                self._outbox.put(frame, bound=True)
                self._news.notify()

    def bid_farewell(self, frame: bytes) -> None:
        """Queue the last frame."""
        with self._news:
            self._outbox.bid_farewell(frame)
            self._news.notify()

    def repeat_farewell(self) -> None:
        """The host has told its end once more."""
        with self._news:
            self._outbox.repeat_farewell()
            self._news.notify()

    def attach_from_now_on(self) -> None:
        """Each later connection takes the run up again; what was ordered so far is not repeated."""
        with self._news:
            self._outbox.attaches = True
            self._outbox.forget_orders()

    def is_idle(self) -> bool:
        """Is there a connection, and nothing that waits to be sent?"""
        with self._news:
            return self._connection is not None and not self._outbox

    def connect(self, connection: Connection, first: Callable[[], bytes]) -> None:
        """Send over ``connection`` from now on, beginning with ``first()``; nothing is ordered meanwhile."""
        with self._news:
            self._connection = connection
            self._outbox.reopen(first())
            self._news.notify_all()

    def disconnect(self) -> None:
        """The present connection has ended."""
        with self._news:
            self._connection = None

    @property
    def channel(self) -> Channel | None:
        with self._news:
            return self._connection.channel if self._connection is not None else None

    def close(self) -> Channel | None:
        """Send nothing more; the channel that is still open."""
        with self._news:
            self._over = True
            self._news.notify_all()
            return self._connection.channel if self._connection is not None else None

    def run(self) -> None:
        """Write until ``close``."""
        while True:
            with self._news:
                self._news.wait_for(lambda: self._over or (self._outbox and self._connection is not None))
                if self._over:
                    return
                connection, frame = self._connection, self._outbox.take()
            assert connection is not None
            try:
                connection.channel.write(frame.data)
            except OSError:
                with self._news:
                    is_next_up = self._connection not in (None, connection)
                    self._outbox.put_back(frame, behind_first=is_next_up)
                    if self._connection is connection:
                        self._connection = None
                connection.channel.close()
