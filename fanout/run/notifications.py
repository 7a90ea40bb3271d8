"""Notifications of a run: its hook, its services and its metrics file, as the user named them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from fanout.diagnose.verdict import Verdict
from fanout.model.attempt_plan import split_attempt_id
from fanout.model.errors import FanoutError, UsageError
from fanout.model.events import Event
from fanout.model.outcome import RunOutcome
from fanout.model.run_info import RunInfo
from fanout.model.settings import Settings
from fanout.model.state import RunState
from fanout.notify.chat_services import is_worth_sending, read_addresses, send_to_services
from fanout.notify.delivery import Delivery
from fanout.notify.hook import HOOK_LOG, call_hook
from fanout.notify.message import RunMessage
from fanout.notify.metrics_file import Metrics, MetricsFile, check_metrics_path
from fanout.notify.run_messages import RunMessages
from fanout.record.index import split_attempt_path
from fanout.record.run_handle import RunHandle
from fanout.record.run_reader import RunReader
from fanout.run.step_progress import StepProgress


class Notifications:
    """Subscriber of all attempts of a run. Without --hook, --notify and --metrics-file it does nothing."""

    broken = False

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        """Check the names. Raises UsageError."""
        self._settings, self._environ = settings, environ
        self._addresses = read_addresses(settings.notify, environ) if settings.notify else ()
        if settings.metrics_file:
            check_metrics_path(settings.metrics_file)
        self._messages: RunMessages | None = None
        self._delivery: Delivery | None = None
        self._file: MetricsFile | None = None
        self._steps = StepProgress()
        self._attempt = 0
        self._now = 0.0

    def begin(self, heading: RunInfo, directory: str, *, began_at: float | None = None) -> None:
        """Begin with a run, whose record is in ``directory``. ``began_at``: it began then, under another launcher."""
        run, self._attempt = split_attempt_id(heading.run_id)
        self._delivery = build_delivery(self._settings.hook, self._addresses, self._environ, directory)
        if self._delivery is not None:
            self._messages = RunMessages(
                self._delivery.add_message, run=run, name=heading.name, task=heading.title, began_at=began_at
            )
        if self._settings.metrics_file:
            self._file = MetricsFile(self._settings.metrics_file, run=run, name=heading.name)

    def begin_attempt(
        self, number: int, hosts: Sequence[str], steps: StepProgress, *, is_started: bool = False
    ) -> None:
        """Begin an attempt, whose steps ``steps`` reads. ``is_started``: its start was reported."""
        self._attempt, self._steps = number, steps
        if self._messages is not None:
            self._messages.begin_attempt(number, hosts, lambda: (steps.last, steps.loss), is_started=is_started)

    def __call__(self, event: Event, state: RunState) -> None:
        self._now = event.at
        if self._messages is not None:
            self._messages(event, state)
        if self._file is not None:
            self._file.update(event, state, self._attempt, self._read_metrics())

    def finish(self, outcome: RunOutcome, cause: str) -> list[str]:
        """Send the end of the run, wait for the hook, and return what failed. ``cause`` is one sentence, or ""."""
        problems = []
        if self._file is not None:  # first, so that a hook finds the final state in it
            self._file.finish(outcome, self._read_metrics(), self._attempt)
            problems += [f"--metrics-file: {self._file.why}"] if self._file.why else []
        if self._messages is not None and self._delivery is not None:
            self._messages.finish(outcome, cause, self._now)
            problems += self._delivery.finish()
        return problems

    def _read_metrics(self) -> Metrics:
        return Metrics(step=self._steps.last, loss=self._steps.loss, speed=self._steps.speed)


def describe_cause(verdict: Verdict | None) -> str:
    """Return the cause of a failure in one sentence, "" without one."""
    return verdict.sentence if verdict is not None and verdict.cause is not None else ""


def resume_notifications(
    handle: RunHandle, environ: Mapping[str, str], steps: StepProgress
) -> tuple[Notifications, list[str]]:
    """Return the notifications of a run that another process takes over, and what it cannot do of them.

    An address or a directory that is gone must not keep that process from its work.
    """
    settings, problems = handle.settings, []
    try:
        notifications = Notifications(settings, environ)
    except UsageError as error:
        problems = [str(error)]
        notifications = Notifications(replace(settings, notify="", metrics_file=""), environ)
    directory, number = split_attempt_path(handle.directory)
    heading, began_at = RunInfo(run_id=handle.run_id, title="", hosts=()), None
    with suppress(FanoutError):  # a damaged record
        recorded = RunReader(directory)
        heading, began_at = recorded.heading, recorded.began_at
    notifications.begin(heading, directory, began_at=began_at)
    notifications.begin_attempt(number, [host.name for host in handle.hosts], steps, is_started=True)
    return notifications, problems


def build_delivery(
    hook: str, addresses: tuple[str, ...], environ: Mapping[str, str], directory: str
) -> Delivery | None:
    """Return the delivery to a hook and to services, None if there is neither."""
    targets = {}
    if hook:
        targets["hook"] = partial(_call_hook, hook, environ, directory)
    if addresses:
        targets["notify"] = partial(_notify, addresses)
    return Delivery(**targets) if targets else None


def _call_hook(command: str, environ: Mapping[str, str], directory: str, message: RunMessage) -> str:
    why = call_hook(command, message, environ, directory)
    return why and f"{why} (see {os.path.join(directory, HOOK_LOG)})"


def _notify(addresses: tuple[str, ...], message: RunMessage) -> str:
    return send_to_services(addresses, message.title, message.text) if is_worth_sending(message) else ""
