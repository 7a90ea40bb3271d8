"""Recorded progress: the last step of a run, from the ends of a few of its log files."""

from __future__ import annotations

import os
import re
from dataclasses import replace

from fanout.logs.line_filters import compile_pattern
from fanout.logs.metric_line import may_have_metrics, parse_line
from fanout.logs.run_progress import RunProgress
from fanout.model.errors import FanoutError
from fanout.record.paths import encode_name
from fanout.record.run_reader import RunReader
from fanout.record.run_summary import RunSummary
from fanout.ui.progress_text import describe_steps

TAIL_BYTES = 16 << 10  # of one log file
OTHER_FILES = 4  # that are read if rank 0 prints no step
_LINE_END = re.compile(rb"[\r\n]+")


def add_progress(summary: RunSummary) -> RunSummary:
    """Return the summary with its last step; without one, the same summary."""
    try:
        recorded = RunReader(summary.dir)
        metric = compile_pattern("--metric", recorded.metric) if recorded.metric else None
    except FanoutError:
        return summary
    first = next((host for host, (rank, _) in recorded.heading.ranks.items() if rank == 0), summary.hosts[0])
    for path in _list_log_files(summary.dir, encode_name(first)):
        progress = _read_progress(path, metric)
        text = describe_steps(progress)
        if text is not None:
            return replace(summary, progress=text, step=progress.step, total=progress.total)
    return summary


def _list_log_files(directory: str, first_host: str) -> list[str]:
    """Return the log files to read, in order: those of rank 0, that of its host, then the newest others."""
    logs = os.path.join(directory, "logs")
    expected = [f"{first_host}{end}.log" for end in (".rank-0", ".rank-0-err", "")]
    try:
        found = {entry.name: entry.stat().st_mtime for entry in os.scandir(logs) if entry.name.endswith(".log")}
    except OSError:
        return []
    others = sorted(set(found) - set(expected), key=lambda name: found[name], reverse=True)
    chosen = [name for name in expected if name in found] + others[:OTHER_FILES]
    return [os.path.join(logs, name) for name in chosen]


def _read_progress(path: str, metric: re.Pattern[str] | None) -> RunProgress:
    progress = RunProgress()
    for at, line in enumerate(_LINE_END.split(_read_tail(path))):
        text = line.decode("utf-8", "replace")
        if metric is None and not may_have_metrics(text):
            continue
        reading = parse_line(text, metric)
        if reading is not None:
            progress.add_reading(reading, float(at))
    return progress


def _read_tail(path: str) -> bytes:
    """Return the last complete lines of a file."""
    try:
        with open(path, "rb") as file:
            start = max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES)
            data = os.pread(file.fileno(), TAIL_BYTES, start)
    except OSError:
        return b""
    if not start:
        return data
    parts = _LINE_END.split(data, maxsplit=1)
    return parts[1] if len(parts) > 1 else b""
