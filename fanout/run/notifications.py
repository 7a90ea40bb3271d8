"""Notifications of a run: its hook, its services and its metrics file, as the user named them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from functools import partial

from fanout.diagnose.verdict import Verdict
from fanout.model.attempt_plan import split_attempt_id
from fanout.model.errors import UsageError
from fanout.model.events import Event
from fanout.model.outcome import RunOutcome
from fanout.model.state import RunState
from fanout.notify.chat_services import is_worth_sending, read_addresses, send_to_services
from fanout.notify.delivery import Delivery
from fanout.notify.hook import HOOK_LOG, call_hook
from fanout.notify.message import RunMessage
from fanout.notify.metrics_file import Metrics, MetricsFile, check_metrics_path
from fanout.notify.run_messages import RunMessages
from fanout.record.run_handle import RunHandle
from fanout.run.run_context import RunContext
from fanout.run.step_progress import StepProgress


class Notifications:
    """Subscriber of all attempts of a run. Without --hook, --notify and --metrics-file it does nothing."""

    broken = False

    def __init__(self, context: RunContext) -> None:
        """Check the names. Raises UsageError."""
        self._context, settings = context, context.settings
        self._addresses = read_addresses(settings.notify, context.process.environ) if settings.notify else ()
        self._metrics_path = os.path.join(context.process.cwd, settings.metrics_file) if settings.metrics_file else ""
        if self._metrics_path:
            check_metrics_path(self._metrics_path)
        self._messages: RunMessages | None = None
        self._delivery: Delivery | None = None
        self._file: MetricsFile | None = None
        self._steps = StepProgress()
        self._attempt = 0
        self._now = 0.0

    def begin(self, run_id: str, directory: str) -> None:
        """Begin with a run, whose record is in ``directory``."""
        context = self._context
        name = context.request.given.get("name") or ""
        self._delivery = build_delivery(context.settings.hook, self._addresses, context.process.environ, directory)
        if self._delivery is not None:
            task = shlex.join(context.request.task)
            self._messages = RunMessages(self._delivery.add_message, run=run_id, name=name, task=task)
        if self._metrics_path:
            self._file = MetricsFile(self._metrics_path, run=run_id, name=name)

    def begin_attempt(self, number: int, hosts: Sequence[str], steps: StepProgress) -> None:
        """Begin an attempt, whose steps ``steps`` reads."""
        self._attempt, self._steps = number, steps
        if self._messages is not None:
            self._messages.begin_attempt(number, hosts, lambda: (steps.last, steps.loss))

    def __call__(self, event: Event, state: RunState) -> None:
        self._now = event.at
        if self._messages is not None:
            self._messages(event, state)
        if self._file is not None:
            self._file.update(event, state, self._attempt, self._read_metrics())

    def finish(self, outcome: RunOutcome, verdict: Verdict | None) -> None:
        """Send the end of the run, wait for the hook, and print what failed."""
        process = self._context.process
        if self._messages is not None and self._delivery is not None:
            cause = verdict.sentence if verdict is not None and verdict.cause is not None else ""
            self._messages.finish(outcome, cause, self._now)
            for problem in self._delivery.finish():
                process.print_message(problem)
        if self._file is not None:
            self._file.finish(outcome, self._read_metrics(), self._attempt)
            if self._file.why:
                process.print_message(f"--metrics-file: {self._file.why}")

    def _read_metrics(self) -> Metrics:
        return Metrics(step=self._steps.last, loss=self._steps.loss, speed=self._steps.speed)


def report_resumed_end(handle: RunHandle, outcome: RunOutcome, headline: str, environ: Mapping[str, str]) -> None:
    """Send the end of a run that another process than its launcher brought to its end. Errors are not reported."""
    settings = handle.settings
    try:
        addresses = read_addresses(settings.notify, environ) if settings.notify else ()
    except UsageError:
        addresses = ()
    delivery = build_delivery(settings.hook, addresses, environ, handle.directory)
    if delivery is None:
        return
    run_id, attempt = split_attempt_id(handle.run_id)
    messages = RunMessages(delivery.add_message, run=run_id, name="", task="", began_at=0.0)
    messages.begin_attempt(attempt, [host.name for host in handle.hosts], lambda: (None, None))
    messages.finish(outcome, headline, outcome.seconds)
    delivery.finish()


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
