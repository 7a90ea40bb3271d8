"""Active run of a caller: its launcher is a thread, and the caller reads events, stops the run and waits for its end."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Iterator
from types import TracebackType

from fanout.api.caller import MessageStream
from fanout.api.recorded_run import RunRecord
from fanout.diagnose.verdict import Verdict
from fanout.model.events import Chunk, Event, Tick
from fanout.model.frozen import frozen
from fanout.model.outcome import RunOutcome
from fanout.model.state import RunState
from fanout.record.index import list_attempt_paths, split_attempt_path
from fanout.run.attempts import AttemptLoop
from fanout.run.caller_signals import CallerSignals

MOST_EVENTS = 10_000  # that wait for the caller; older ones are dropped, and the record has them


@frozen
class FinishedRun:
    """The end of a run: what ``fanout run`` prints and returns.

    ``verdict`` is the diagnosis of a failure. ``messages`` is what the command would have printed beside the report.
    """

    run_id: str
    outcome: RunOutcome
    verdict: Verdict | None
    record: RunRecord
    messages: str

    @property
    def exit_code(self) -> int:
        """Return the exit status that ``fanout run`` would have."""
        return self.outcome.exit_code

    @property
    def ok(self) -> bool:
        """Return whether train.sh succeeded on all hosts."""
        return self.outcome.is_success

    @property
    def headline(self) -> str:
        """Return the first cause of a failure, or else how the run ended."""
        found = self.verdict is not None and self.verdict.cause is not None
        return self.verdict.sentence if found and self.verdict is not None else self.outcome.headline


class EventQueue:
    """Subscriber that keeps the events for a caller in another thread. Chunks of the log are only in the record."""

    broken = False

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque(maxlen=MOST_EVENTS)
        self._changed = threading.Condition()
        self._is_closed = False

    def __call__(self, event: Event, state: RunState) -> None:
        if isinstance(event, (Chunk, Tick)):
            return
        with self._changed:
            self._waiting.append(event)
            self._changed.notify_all()

    def close(self) -> None:
        """End the iteration after the events that wait."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Event]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                event = self._waiting.popleft()
            yield event


class ActiveRun:
    """A run that was started. Use it in a ``with``: to leave the block early stops the run, as Ctrl-C does."""

    def __init__(self, loop: AttemptLoop, queue: EventQueue, signals: CallerSignals, messages: MessageStream) -> None:
        """Start the thread of the launcher. ``loop`` is prepared, and has ``queue`` as an observer."""
        self._loop, self._queue, self._signals, self._messages = loop, queue, signals, messages
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self.run_id = loop.run_id
        self._thread = threading.Thread(target=self._launch, name=f"fanout {loop.run_id}", daemon=True)
        self._thread.start()

    def _launch(self) -> None:
        try:
            self._loop.run()
        except BaseException as error:  # noqa: BLE001 the caller's thread raises it
            self._error = error
        finally:
            self._queue.close()
            self._ended.set()

    @property
    def is_active(self) -> bool:
        """Return whether the run has not ended yet."""
        return not self._ended.is_set()

    @property
    def record(self) -> RunRecord:
        """Return the record of the run, which grows while the run is active."""
        root = split_attempt_path(self._loop.first.directory)[0]
        return RunRecord(directories=tuple(list_attempt_paths(root)))

    @property
    def step(self) -> int | None:
        """Return the highest training step in the log of the current attempt, None without one."""
        return self._loop.current.steps.last

    @property
    def loss(self) -> float | None:
        """Return the newest loss in the log of the current attempt, None without one."""
        return self._loop.current.steps.loss

    @property
    def speed(self) -> float | None:
        """Return the newest speed in the log in tokens per second, None without one."""
        return self._loop.current.steps.speed

    def __iter__(self) -> Iterator[Event]:
        """Yield the events of all attempts until the run has ended. Several iterations share the events."""
        yield from self._queue
        self._raise_error()

    def stop(self) -> None:
        """Stop the run as Ctrl-C does: SIGTERM, then SIGKILL after the grace. A second call kills it at once."""
        self._signals.send_signal(signal.SIGINT)

    def wait(self) -> FinishedRun:
        """Wait until the run has ended, and return its end. Raises the error that prevented the launch."""
        self._ended.wait()
        self._raise_error()
        reported = self._loop.current
        return FinishedRun(
            run_id=self._loop.run_id,
            outcome=reported.outcome,
            verdict=reported.verdict,
            record=self.record,
            messages=self._messages.text,
        )

    def _raise_error(self) -> None:
        if self._ended.is_set() and self._error is not None:
            raise self._error

    def __enter__(self) -> ActiveRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the run if it is active, and wait for its end. Ctrl-C meanwhile kills it at once."""
        if self.is_active:
            self.stop()
        interrupt: KeyboardInterrupt | None = None
        while self.is_active:
            try:
                self._ended.wait()
            except KeyboardInterrupt as again:
                interrupt = again
                self.stop()
        self._thread.join()
        if interrupt is not None and error is None:
            raise interrupt
        if error is None:
            self._raise_error()
