"""Delivery: a thread that calls the hook and the services, one message after the other."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace

from fanout.notify.message import RunMessage

MAX_WAITING = 32
FINISH_SECONDS = 60.0  # for the messages that wait at the end of the run


class Delivery:
    """Queue of messages with one worker. ``targets`` maps a name to a function that returns why it failed, or ""."""

    def __init__(self, **targets: Callable[[RunMessage], str]) -> None:
        self._targets = targets
        self._waiting: deque[RunMessage] = deque()
        self._changed = threading.Condition()
        self._is_closed = self._is_busy = False
        self._calls: Counter[str] = Counter()
        self._failures: dict[str, list[str]] = {name: [] for name in targets}
        self._dropped = 0
        self._worker: threading.Thread | None = None

    def add_message(self, message: RunMessage) -> None:
        """Queue a message. Hosts that are lost while others wait become one message."""
        with self._changed:
            last = self._waiting[-1] if self._waiting else None
            if last is not None and last.event == message.event == "host-lost":
                self._waiting[-1] = replace(message, headline=f"{last.headline}; {message.headline}"[:2000])
            elif len(self._waiting) < MAX_WAITING:
                self._waiting.append(message)
            else:
                self._dropped += 1
            self._changed.notify_all()
            if self._worker is None:
                self._worker = threading.Thread(target=self._deliver, name="delivery", daemon=True)
                self._worker.start()

    def finish(self) -> list[str]:
        """Wait until all messages are delivered, at most ``FINISH_SECONDS``; return one line for each kind of problem."""
        until = time.monotonic() + FINISH_SECONDS
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._is_busy, FINISH_SECONDS)
            self._is_closed = True
            self._dropped += len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        if self._worker is not None:
            self._worker.join(max(0.0, until - time.monotonic()))
        return self._describe_problems()

    def _describe_problems(self) -> list[str]:
        lines = []
        for name, failures in self._failures.items():
            if failures:
                lines.append(f"{name}: {len(failures)} of {self._calls[name]} calls failed: {failures[-1]}")
        if self._dropped:
            lines.append(
                f"{self._dropped} messages were not delivered, because {' and '.join(self._targets)} took too long"
            )
        return lines

    def _deliver(self) -> None:
        while True:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting) or self._is_closed)
                if not self._waiting:
                    return
                message = self._waiting.popleft()
                self._is_busy = True
            for name, call in self._targets.items():
                why = call(message)
                self._calls[name] += 1
                if why:
                    self._failures[name].append(why)
