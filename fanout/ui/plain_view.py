"""Plain view for pipes, CI and dumb terminals: log lines on stdout, status messages on stderr, no redrawing.

    gpu01 | step 100 loss 3.1000          a line and its host
    gpu01 | Epoch 1 …                     a line without a line end after half a second,
    gpu01 + done                          and its rest
    gpu01 ~ Epoch 1:  10%|#         |     a progress bar, every 10 % or every 30 seconds

Each selected line gives one line. The mark is one character wide, so that ``cut -d' '`` and ``grep '^gpu01 '`` work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TextIO

from fanout.logs.demux import LogLine, split_block
from fanout.logs.folding import label_folded_line
from fanout.logs.line_filters import PLAIN_PREFIX, DisplayFilters, LinePrefix
from fanout.logs.pipeline import LogPipeline, describe_dropped_lines, describe_hidden_lines
from fanout.logs.run_progress import RankProgress
from fanout.model.events import Event
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.model.subscriber import TextView
from fanout.text.sanitize import sanitize_line, sanitize_lines, to_single_line
from fanout.text.units import count_noun, format_duration, format_size
from fanout.text.wrap import wrap_message
from fanout.ui.nonblocking_writer import NonblockingWriter
from fanout.ui.progress_text import describe_figures, describe_steps, describe_time_left
from fanout.ui.restart_text import describe_phase
from fanout.ui.run_condition import WITH_TIME_LEFT, Observations, RunCondition, find_run_status
from fanout.ui.status_messages import StatusMessage, StatusReporter, format_status

STATUS_SECONDS = 60.0
RESTART_SECONDS = 30.0  # between two messages while the launcher waits before a restart
LABEL_COLUMNS = 60  # of a folded line, in a pipe or a file


class PlainView(TextView):
    """Plain view. ``filters`` select the lines, their folding (default: off) and their prefix.

    ``columns`` is the width of the terminal that shows stderr; None: there is none, and no message is wrapped.
    ``slow``, ``ranks`` and ``hung`` are those of the live view. With ``waits``, a blocked reader blocks the view; without it, lines are dropped and the view reports how many.
    """

    def __init__(
        self,
        heading: RunInfo,
        *,
        stdout: TextIO,
        stderr: TextIO,
        filters: DisplayFilters | None = None,
        colour: bool = False,
        columns: int | None = None,
        status_seconds: float = STATUS_SECONDS,
        waits: bool = True,
        slow: Callable[[], Mapping[str, str]] = dict,
        ranks: Callable[[], RankProgress] = RankProgress,
        hung: Callable[[RunState], Mapping[str, str] | None] = lambda state: None,
    ) -> None:
        filters = filters or DisplayFilters()
        self._slow, self._ranks, self._hung = slow, ranks, hung
        self._heading = heading
        self._out, self._err = NonblockingWriter(stdout, waits=waits), NonblockingWriter(stderr, waits=waits)
        self._filters = filters
        self._flow, self._narrator = LogPipeline(heading, filters, fold="off"), StatusReporter()
        template = filters.prefix if filters.prefix is not None else PLAIN_PREFIX
        self._prefix = LinePrefix("{stamp} " + template if filters.timestamps else template)
        self._colour, self._columns = colour, columns
        self._status_seconds = status_seconds
        self._now = 0.0
        self._last_message_at = 0.0  # time of the last message on stderr
        self._closed = False
        self._note_heading()

    def _note_heading(self) -> None:
        heading = self._heading
        logs = f" · logs in {heading.log_dir}" if heading.log_dir else ""
        parts = [to_single_line(heading.title), count_noun(len(heading.hosts), "host"), heading.attempt.describe()]
        self.note(f"run {heading.run_id} · {' · '.join(filter(None, parts))}{logs}")

    @property
    def broken(self) -> bool:
        return self._out.broken

    def __call__(self, event: Event, state: RunState) -> None:
        self._now = event.at
        self._out.send_pending()
        self._err.send_pending()
        if missed := self._out.take_dropped_count():
            self._print_message(StatusMessage(text=describe_dropped_lines(missed, self._heading.log_dir)), event.at)
        self._print_lines(self._flow.process_event(event), event.at)
        for message in self._narrator.handle_event(event, state):
            self._print_message(message, event.at)
        if not self._last_message_at:
            self._last_message_at = event.at
        pause = self._status_seconds if state.restart is None else min(RESTART_SECONDS, self._status_seconds)
        if event.at - self._last_message_at >= pause:
            self._print_message(StatusMessage(text=self._build_status(state)), event.at)

    def note(self, text: str) -> None:
        self._err.write("".join([f"{self._format_message(line)}\n" for line in sanitize_lines(text)]))

    def _format_message(self, line: str) -> str:
        """Return a line of a message: for a terminal as the live view shows it, elsewhere with the name of the program."""
        return f"fanout: {line}" if self._columns is None else wrap_message(line, self._columns)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._finish_log()
        self._out.close()
        if missed := self._out.take_dropped_count():
            self.note(describe_dropped_lines(missed, self._heading.log_dir))
        self._err.close()

    def begin_attempt(self, heading: RunInfo) -> None:
        """Print the rest of the last attempt, and the heading of the next one."""
        self._finish_log()
        self._heading = heading
        self._flow, self._narrator = LogPipeline(heading, self._filters, fold="off"), StatusReporter()
        self._note_heading()

    def _finish_log(self) -> None:
        """Print the remaining lines and messages of an attempt, and the number of hidden lines."""
        self._print_lines(self._flow.take_rest(self._now), self._now)
        for message in self._narrator.flush_messages():
            self._print_message(message, self._now)
        self.note(describe_hidden_lines(self._flow.line_filter.hidden, self._heading.log_dir))

    def _build_status(self, state: RunState) -> str:
        """Return a status line. CI systems kill jobs without output; this line also informs the user."""
        if state.restart is not None:
            return describe_phase(state.restart, state.now)
        self._flow.metric_tracker.add_bars(self._flow.streams.get_bars(), state.now)
        parts = [format_status(state)]
        progress = self._flow.metric_tracker.run_progress
        if (steps := describe_steps(progress)) is not None:
            parts.append(steps)
        if progress.loss is not None:
            parts.append(f"loss {progress.loss:.4f}")
        parts += describe_figures(progress)
        for count, what in ((self._flow.warnings, "warning"), (self._flow.errors, "error")):
            if number := sum(count.values()):
                parts.append(f"{number} {what}{'s' if number != 1 else ''}")
        parts.append(f"{format_size(sum(host.received_bytes for host in state.all_hosts))} of log")
        status = find_run_status(
            self._heading,
            state,
            Observations(has_steps=progress.newest is not None, slow=self._slow(), hung=self._hung(state)),
        )
        if status.condition is not RunCondition.RUNNING:
            parts.insert(0, " ".join(f"{status.condition.value} {status.detail}".split()))
        shows_time = status.condition in WITH_TIME_LEFT
        left = progress.estimate_time_left(state.now, self._ranks()) if shows_time else None
        time_left = [describe_time_left(left)] if left is not None else []
        return " · ".join([*parts, f"after {format_duration(state.now - state.began_at)}", *time_left])

    def _print_message(self, message: StatusMessage, at: float) -> None:
        """Print a status message after the log lines that arrived before it."""
        self._last_message_at = at
        self._print_lines(self._flow.flush_folding(at), at)
        self.note(message.text)

    def _print_lines(self, log_lines: Iterable[LogLine], at: float) -> None:
        self._out.write("".join([self.format_line(log_line, at) for log_line in log_lines]))

    def format_line(self, log_line: LogLine, at: float) -> str:
        """Return a log line as it is printed; a traceback gives several lines."""
        text = log_line.text
        log_line = label_folded_line(log_line, LABEL_COLUMNS)
        prefix = self._prefix.format_prefix(log_line, self._flow.streams.width, at)
        if log_line.many > 1:
            return self._format_block(log_line, prefix, at)
        if text.isprintable():  # nearly every line is; skipping two calls saves a third of the time in a flood
            return (
                f"{prefix}{text}{format_line_end(log_line) if log_line.more or log_line.voices > 1 else ''}".rstrip(" ")
                + "\n"
            )
        lines = [f"{prefix}{sanitize_line(line, colour=self._colour)}".rstrip(" ") for line in text.split("\n")]
        return "\n".join(lines) + format_line_end(log_line) + "\n"

    def _format_block(self, log_line: LogLine, prefix: str, at: float) -> str:
        """Return a block of lines of one stream; if all are printable, prefix them in one step."""
        text = f"{prefix}{log_line.text}\n".replace("\n", f"\n{prefix}")[: -len(prefix) or None]
        if log_line.text.replace("\n", "").isprintable() and " \n" not in text:
            return text
        return "".join([self.format_line(line, at) for line in split_block(log_line)])


def format_line_end(log_line: LogLine) -> str:
    """Return the end of a line: cut bytes, and the count of the streams that printed it, unless its label has it."""
    if not log_line.more and log_line.voices == 1:
        return ""
    cut = f"…(+{log_line.more} B)" if log_line.more else ""
    if log_line.voices == 1:
        return cut
    return f"{cut}  ×{log_line.voices}"
