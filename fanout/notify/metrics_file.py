"""Metrics file: state, hosts, step, loss and speed of a run in the text format of Prometheus.

Source: docs "Exposition formats" of Prometheus. node_exporter's textfile collector reads such files. The file is written
whole and renamed, so a reader never sees a part of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from fanout.model.errors import UsageError
from fanout.model.events import Event
from fanout.model.frozen import frozen
from fanout.model.outcome import RunOutcome
from fanout.model.state import Phase, RunState

EVERY_SECONDS = 15.0
FIRST_BYTES = b"# HELP fanout_"


@frozen
class Metrics:
    """Newest metrics of a run; None if the log has none. ``speed`` is in tokens per second."""

    step: int | None = None
    loss: float | None = None
    speed: float | None = None


def check_metrics_path(path: str) -> None:
    """Raise UsageError unless the file can be written here: its directory exists, and it is new or a file of fanout."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise UsageError(f"--metrics-file {path}: no directory {folder}", hint=f"mkdir -p {folder}")
    try:
        with open(path, "rb") as file:
            beginning = file.read(len(FIRST_BYTES))
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"--metrics-file {path}: {error.strerror}", hint="choose another file") from None
    if beginning not in (FIRST_BYTES, b""):
        raise UsageError(f"--metrics-file {path} exists, and fanout did not write it", hint="choose another file")


class MetricsFile:
    """Writer of the file of one run. A file that cannot be written disturbs nothing; ``why`` then has the reason."""

    def __init__(self, path: str, *, run: str, name: str) -> None:
        self._path, self._labels = path, {"run": run, "name": name}
        self._due = float("-inf")
        self.why = ""

    def update(self, event: Event, state: RunState, attempt: int, metrics: Metrics) -> None:
        """Write the file if it is older than ``EVERY_SECONDS``."""
        if event.at >= self._due:
            self._due = event.at + EVERY_SECONDS
            self._write(self._list_running(state, attempt, metrics), state.now - state.began_at)

    def finish(self, outcome: RunOutcome, metrics: Metrics, attempt: int) -> None:
        """Write the final state."""
        values = {"fanout_run_active": 0.0, "fanout_run_exit_code": float(outcome.exit_code)}
        values |= {"fanout_hosts": float(len(outcome.hosts)), "fanout_restarts": float(attempt)}
        self._write(values | _list_metrics(metrics), outcome.seconds)

    def _list_running(self, state: RunState, attempt: int, metrics: Metrics) -> dict[str, float]:
        hosts = list(state.all_hosts)
        running = sum(host.phase is Phase.RUNNING for host in hosts)
        return {
            "fanout_run_active": 1.0,
            "fanout_hosts": float(len(hosts)),
            "fanout_hosts_connected": float(sum(host.connected for host in hosts)),
            "fanout_hosts_running": float(running),
            "fanout_restarts": float(attempt),
        } | _list_metrics(metrics)

    def _write(self, values: Mapping[str, float], seconds: float) -> None:
        values = {**values, "fanout_run_seconds": seconds}
        temporary = f"{self._path}.{os.getpid()}.tmp"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                file.writelines(format_metrics(values, self._labels))
            os.replace(temporary, self._path)
            self.why = ""
        except OSError as error:
            self.why = f"{self._path}: {error.strerror}"


def _list_metrics(metrics: Metrics) -> dict[str, float]:
    named = {"fanout_step": metrics.step, "fanout_loss": metrics.loss, "fanout_tokens_per_second": metrics.speed}
    return {name: float(value) for name, value in named.items() if value is not None}


HELP = {
    "fanout_run_active": "1 while the run is active.",
    "fanout_run_exit_code": "Exit status of the run.",
    "fanout_run_seconds": "Age of the current attempt.",
    "fanout_hosts": "Hosts of the run.",
    "fanout_hosts_connected": "Hosts with a connection to the launcher.",
    "fanout_hosts_running": "Hosts on which train.sh runs.",
    "fanout_restarts": "Number of the current attempt; 0 is the first.",
    "fanout_step": "Newest training step in the log.",
    "fanout_loss": "Newest loss in the log.",
    "fanout_tokens_per_second": "Newest speed in the log.",
}


def format_metrics(values: Mapping[str, float], labels: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of the file: help, type and one sample for each metric."""
    inner = ",".join(f'{name}="{_escape_label(value)}"' for name, value in labels.items())
    for name, value in values.items():
        yield f"# HELP {name} {HELP[name]}\n# TYPE {name} gauge\n{name}{{{inner}}} {_format_value(value)}\n"


def _escape_label(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _format_value(value: float) -> str:
    if value != value:  # NaN, as a diverged training prints it
        return "NaN"
    if abs(value) == float("inf"):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
