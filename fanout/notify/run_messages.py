"""Run messages: follow the events of a run, and send each message to the hook and the services that the user named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fanout.model import hang_detection
from fanout.model.events import Answered, Event, HostLost
from fanout.model.hosts import fold_names
from fanout.model.outcome import RunOutcome
from fanout.model.state import RunState
from fanout.notify.message import MessageKind, RunMessage
from fanout.text.units import format_duration

Progress = Callable[[], tuple[int | None, float | None]]


class RunMessages:
    """Subscriber of all attempts of a run. ``outputs`` get each message; they must return at once."""

    broken = False

    def __init__(
        self,
        *outputs: Callable[[RunMessage], None],
        run: str,
        name: str,
        task: str,
        began_at: float | None = None,
    ) -> None:
        """``began_at`` is the time of the first event, None if it is still to come."""
        self._outputs = outputs
        self._blank = RunMessage(
            event="started", run=run, name=name, task=task, hosts=(), attempt=0, headline="", seconds=0.0
        )
        self._began_at = began_at
        self._is_started = False
        self._hangs = hang_detection.HangWatch()
        self._progress: Progress = lambda: (None, None)

    def begin_attempt(self, number: int, hosts: Sequence[str], progress: Progress, *, is_started: bool = False) -> None:
        """Begin an attempt. ``progress`` returns its newest step and loss. ``is_started``: its start was reported."""
        self._blank = replace(self._blank, attempt=number, hosts=tuple(hosts))
        self._progress = progress
        self._is_started, self._hangs = is_started, hang_detection.HangWatch()

    def __call__(self, event: Event, state: RunState) -> None:
        if self._began_at is None:
            self._began_at = event.at
        if not self._is_started and all(host.go_at is not None for host in state.all_hosts):
            self._is_started = True
            kind: MessageKind = "restarted" if self._blank.attempt else "started"
            attempt = f"attempt {self._blank.attempt}: " if self._blank.attempt else ""
            self._send(kind, event.at, f"{attempt}train.sh runs on {fold_names(self._blank.hosts)}")
        if isinstance(event, HostLost):
            self._send("host-lost", event.at, f"{event.host}: {event.why}")
        if isinstance(event, Answered) and self._hangs.find_new(state):
            silent = format_duration(state.now - (state.output_at or state.began_at))
            self._send("hang", event.at, f"no output for {silent}, and no rank moved between two samples")

    def finish(self, outcome: RunOutcome, cause: str, at: float) -> None:
        """Send the end of the run. ``cause`` is the diagnosis in one sentence, "" without one."""
        kind: MessageKind = "ended" if outcome.is_success or outcome.origin == "user" else "failed"
        self._send(kind, at, cause or outcome.headline, outcome.exit_code)

    def _send(self, kind: MessageKind, at: float, headline: str, code: int | None = None) -> None:
        step, loss = self._progress()
        verb = "report" if code is not None else "attach"
        message = replace(
            self._blank,
            event=kind,
            headline=headline,
            seconds=max(0.0, at - (self._began_at if self._began_at is not None else at)),
            step=step,
            loss=loss,
            exit_code=code,
            command=f"fanout {verb} {self._blank.run}",
        )
        for output in self._outputs:
            output(message)
