"""Frame sender: the writing half of one host's connection, with its queue and its loop.

All methods may be called from any thread. ``run`` is the body of the writer's thread, so a full pipe blocks no other
thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from fanout.model.frozen import frozen
from fanout.remote import protocol
from fanout.remote.outbox import FrameQueue
from fanout.remote.transports.base import Channel


@frozen
class ActiveChannel:
    """One connection to a host; ``made_at`` distinguishes it from earlier ones."""

    channel: Channel
    decoder: protocol.FrameDecoder
    made_at: float


class FrameSender:
    """Send frames to one host, over a series of connections."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._outbox = FrameQueue()
        self._connection: ActiveChannel | None = None
        self._over = False

    def put_frame(self, frame: bytes, *, order: bool = False, bound: bool = False) -> None:
        """Queue a frame; it waits for a connection if there is none. An order is sent again on every later one.

        A ``bound`` frame is of the present connection only.
        """
        with self._changed:
            if bound and self._connection is None:
                return
            self._outbox.put_frame(frame, order=order, bound=bound)
            self._changed.notify()

    def put_question(self, number: int, what: str, frame: bytes) -> float | None:
        """Queue a question for the present connection. Return when that was made, None if there is none.

        A later connection has a new relay, which does not know the question.
        """
        with self._changed:
            if self._connection is None:
                return None
            self._connection.decoder.expect_answer(number, what)
            self._outbox.put_frame(frame, bound=True)
            self._changed.notify()
            return self._connection.made_at

    def cancel_question(self, number: int, frame: bytes) -> None:
        """Cancel a question; its answer is dropped from here on."""
        with self._changed:
            if self._connection is not None:
                self._connection.decoder.drop_question(number)
                self._outbox.put_frame(frame, bound=True)
                self._changed.notify()

    def put_last_frame(self, frame: bytes) -> None:
        """Queue the last frame."""
        with self._changed:
            self._outbox.put_last_frame(frame)
            self._changed.notify()

    def repeat_last_frame(self) -> None:
        """Send the last frame again, because the host has reported its end again."""
        with self._changed:
            self._outbox.repeat_last_frame()
            self._changed.notify()

    def switch_to_attach(self) -> None:
        """Attach to the run on each later connection, and do not repeat the orders sent so far."""
        with self._changed:
            self._outbox.attaches = True
            self._outbox.clear_orders()

    def is_idle(self) -> bool:
        """Return whether there is a connection and the queue is empty."""
        with self._changed:
            return self._connection is not None and not self._outbox

    def use_channel(self, connection: ActiveChannel, first: Callable[[], bytes]) -> None:
        """Send over ``connection`` from now on, ``first()`` first. The lock is held, so no order comes between."""
        with self._changed:
            self._connection = connection
            self._outbox.start_connection(first())
            self._changed.notify_all()

    def drop_channel(self) -> None:
        """Forget the present connection: it has ended."""
        with self._changed:
            self._connection = None

    @property
    def channel(self) -> Channel | None:
        with self._changed:
            return self._connection.channel if self._connection is not None else None

    def close(self) -> Channel | None:
        """Send nothing more. Return the channel that is still open, None if there is none."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
            return self._connection.channel if self._connection is not None else None

    def run(self) -> None:
        """Write frames until ``close`` is called."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._over or (self._outbox and self._connection is not None))
                if self._over:
                    return
                connection, frame = self._connection, self._outbox.take_frame()
            assert connection is not None
            try:
                connection.channel.write(frame.data)
            except OSError:
                with self._changed:
                    is_next_up = self._connection not in (None, connection)
                    self._outbox.put_frame_back(frame, behind_first=is_next_up)
                    if self._connection is connection:
                        self._connection = None
                connection.channel.close()
