"""Live view: the log scrolls as usual, and a small block below it shows the state of every host.

It uses no alternate screen, so scrollback, search and copy work as usual. At most ten times a second, it erases the
block, writes the new lines as one text, and draws the block again. (rich needs milliseconds to print one line.)
A slow terminal never slows the run: the view skips lines and shows their number. The log files keep all lines.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import TextIO

from fanout.logs.demux import LogLine, split_text
from fanout.logs.line_filters import DisplayFilters
from fanout.logs.pipeline import LogPipeline, describe_hidden_lines
from fanout.logs.rate_limit import RateLimiter
from fanout.logs.run_progress import RankProgress
from fanout.model.events import Chunk, Event, Heartbeat
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.model.subscriber import TextView, Viewing
from fanout.text.home_path import shorten_home
from fanout.text.sanitize import sanitize_line, sanitize_lines
from fanout.ui.block_pace import BlockPace
from fanout.ui.footer import build_footer
from fanout.ui.frame_writer import FrameWriter
from fanout.ui.host_load import HostLoad, parse_load
from fanout.ui.host_rows import DisplayData, Row
from fanout.ui.key_bindings import KeyBindings
from fanout.ui.keyboard import BRACKETED_PASTE, PLAIN_PASTE, Keyboard
from fanout.ui.line_formatter import LineFormatter, format_message
from fanout.ui.nonblocking_writer import NonblockingWriter
from fanout.ui.run_condition import RunCondition
from fanout.ui.status_messages import StatusMessage, StatusReporter
from fanout.ui.view_facts import ReplayControls, StackSource
from fanout.ui.view_state import Mode, ViewState, describe_filters

FRAME_SECONDS = 0.1
PENDING_LINES = 2000  # a person cannot read more lines between two frames
MIN_LINES = 50
SLOW_SECONDS = 0.05  # if a frame takes longer, the terminal is slow
STOP_SECONDS = 1.0  # for the last frame before Ctrl-Z
RECENT_LINES = 20  # that match a new filter


class LiveView(TextView):
    """Live view in a terminal. ``size`` returns (columns, rows); the default queries the terminal of ``stdout``.

    ``keyboard`` enables the keys. ``preview`` returns the diagnosis so far. ``detach`` leaves the view, ``stop`` stops the run.
    ``slow`` returns host -> how slow its steps are, and ``ranks`` the progress of all ranks. ``hung`` returns the hosts that cause a hang, None without a hang.
    """

    def __init__(
        self,
        heading: RunInfo,
        *,
        stdout: TextIO,
        colour: bool = True,
        unicode: bool = True,
        filters: DisplayFilters | None = None,
        keyboard: Keyboard | None = None,
        preview: Callable[[RunState], Sequence[str]] | None = None,
        detach: Callable[[], None] | None = None,
        stop: Callable[[], None] | None = None,
        stacks: StackSource | None = None,
        replay: ReplayControls | None = None,
        slow: Callable[[], Mapping[str, str]] = dict,
        ranks: Callable[[], RankProgress] = RankProgress,
        hung: Callable[[RunState], Mapping[str, str] | None] = lambda state: None,
        viewing: Viewing = "run",
        size: Callable[[], tuple[int, int]] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        filters = filters or DisplayFilters()
        self._heading, self._colour, self._unicode = heading, colour, unicode
        self._out = NonblockingWriter(stdout)
        self._descriptor = _get_descriptor(stdout)
        self._size = size or self._get_terminal_size
        self._clock, self._filters = clock, filters
        self._flow, self._narrator = self._build_flow(), StatusReporter()
        self._lines = self._build_formatter()
        self._keyboard, self._preview, self._slow, self._hung = keyboard, preview, slow, hung
        self._ranks, self._replay, self._view_state = ranks, replay, ViewState()
        self._key_bindings = KeyBindings(
            self._flow,
            self._view_state,
            hosts=heading.hosts,
            note=self.note,
            last_error=self._print_last_error,
            show_matches=self._show_matches,
            preview=self._get_diagnosis,
            detach=detach,
            stop=stop,
            stacks=stacks,
            replay=replay,
            viewing=viewing,
        )
        self._pastes_are_marked = False
        self._pending: deque[str] = deque()
        self._budget = PENDING_LINES
        self._skipped = 0
        self._rate_limiter = RateLimiter()
        self._loads: dict[str, HostLoad] = {}
        self._frame_writer: FrameWriter | None = FrameWriter(self._out, colour=colour, unicode=unicode)
        self._drawn_at, self._pace = float("-inf"), BlockPace(len(heading.hosts))
        self._rows: list[Row] = []
        self._state: RunState | None = None

    @property
    def broken(self) -> bool:
        return self._out.broken

    def __call__(self, event: Event, state: RunState) -> None:
        self._state = state
        self._pace.note_event(event)
        if isinstance(event, Heartbeat) and (load := parse_load(event.load)) is not None:
            self._loads[event.host] = load
        before = self._rate_limiter.skipped
        self._queue_log_lines(self._flow.process_event(self._rate_limiter.limit_event(event)), event.at)
        if isinstance(event, Chunk):
            self._flow.lines[event.host] += self._rate_limiter.skipped - before
        for message in self._narrator.handle_event(event, state):
            self._queue_message(message)
        self.draw_frame()

    def begin_attempt(self, heading: RunInfo) -> None:
        """Show the next attempt from now on. The block stays on the screen, and the keys keep their effect."""
        now = self._state.now if self._state else 0.0
        self._finish_log(now)
        self._reset_run(heading, now)

    def _reset_run(self, heading: RunInfo, at: float) -> None:
        """Forget all events. The filters stay as the user chose them."""
        self._heading, self._narrator = heading, StatusReporter()
        self._flow = self._build_flow()
        self._lines = self._build_formatter()
        self._key_bindings.use_pipeline(self._flow, heading.hosts)
        self._loads, self._pace = {}, BlockPace(len(heading.hosts))
        self._state = RunState.initial(heading.hosts, at=at)

    def _finish_log(self, now: float) -> None:
        """Queue the remaining lines and messages of an attempt, and the number of hidden lines."""
        self._queue_log_lines(self._flow.take_rest(now), now)
        for message in self._narrator.flush_messages():
            self._queue_message(message)
        self.note(describe_hidden_lines(self._flow.line_filter.hidden, self._heading.log_dir))

    def note(self, text: str) -> None:
        for line in sanitize_lines(text):
            self._queue_message(StatusMessage(text=line))

    def draw_frame(self, *, force: bool = False) -> None:
        """Draw a frame, if one is due and the terminal accepts output."""
        now = self._clock()
        if self._frame_writer is None or (not force and now - self._drawn_at < FRAME_SECONDS):
            return
        self._out.send_pending()
        pressed = self._handle_keys(self._frame_writer)
        if not force and not self._out.is_ready:
            return
        self._drawn_at = now
        columns, rows = self._size()
        self._lines.columns = columns
        block = self._get_block(now, columns, rows, fresh=force or pressed)
        self._frame_writer.write_frame("" if self._view_state.paused else self._take_pending(), block, columns)
        self._out.send_pending(SLOW_SECONDS)
        slow = self._out.has_pending or self._clock() - now > SLOW_SECONDS
        self._budget = max(MIN_LINES, self._budget // 2) if slow else min(PENDING_LINES, self._budget * 2)

    def close(self) -> None:
        """Write the remaining log lines, erase the block and release the keyboard. It is safe to call this twice."""
        if self._frame_writer is None:
            return
        try:
            self._finish_log(self._state.now if self._state else 0.0)
            frame_writer, self._frame_writer = self._frame_writer, None
            if self._keyboard is not None and self._keyboard.check_foreground():
                frame_writer.abandon_block()
            frame_writer.write_frame(self._take_pending(), [], self._size()[0])
            self._mark_pastes(False)
            self._out.close()
        finally:
            self._frame_writer = None
            if self._keyboard is not None:
                self._keyboard.close()

    def _handle_keys(self, frame_writer: FrameWriter) -> bool:
        """Handle the keys since the last frame; return whether there were any."""
        if self._keyboard is None:
            return False
        if self._keyboard.suspend_requested:
            self._mark_pastes(False)
            # The shell prints its prompt where the block was.
            frame_writer.write_frame(self._take_pending(), [], self._size()[0])
            self._out.send_pending(STOP_SECONDS)
            self._keyboard.suspend_process()
        keys = self._keyboard.read_keys()
        self._mark_pastes(self._keyboard.is_reading)
        for key in keys:
            self._key_bindings.handle_key(key)
        self._key_bindings.update_stacks()
        if self._keyboard.away:
            frame_writer.abandon_block()
        return bool(keys)

    def _mark_pastes(self, marked: bool) -> None:
        """Ask the terminal to mark pasted text, or no longer."""
        if marked != self._pastes_are_marked:
            self._pastes_are_marked = marked
            self._out.write(BRACKETED_PASTE if marked else PLAIN_PASTE)

    def _queue_log_lines(self, log_lines: Sequence[LogLine], at: float) -> None:
        for log_line in log_lines:
            if self._view_state.quiet and log_line.level != "error":
                self._flow.line_filter.hidden += log_line.many
            elif log_line.many > 1:
                self._queue_block(log_line, at)
            else:
                self._queue_lines(self._lines.format_line(log_line, at))

    def _queue_block(self, log_line: LogLine, at: float) -> None:
        """Queue a block of lines of one stream, frame by frame; for a slow terminal, only as many as fit in a frame."""
        lines = split_text(log_line)
        if self._budget < PENDING_LINES:
            self._skipped += max(0, len(lines) - self._budget)
            del lines[: -self._budget]
        prefix = self._lines.format_prefix(log_line, at)
        for start in range(0, len(lines), PENDING_LINES):
            part = lines[start : start + PENDING_LINES]
            self._queue_lines(
                *[prefix + (line if line.isprintable() else sanitize_line(line, colour=self._colour)) for line in part]
            )

    def _queue_message(self, message: StatusMessage) -> None:
        """Print a status message after the log lines that arrived before it."""
        now = self._state.now if self._state else 0.0
        self._queue_log_lines(self._flow.flush_folding(now), now)
        self._queue_lines(*format_message(message.text, message.level, self._size()[0], colour=self._colour))

    def _print_last_error(self) -> None:
        error = self._flow.last_error
        if error is not None:
            self.note(f"last error, from {error.speaker}:")
            self._queue_lines(self._lines.format_line(error, self._state.now if self._state else 0.0))

    def _show_matches(self, what: str) -> None:
        """Print the recent lines that pass the new filters, so that the user sees at once what they match."""
        now = self._state.now if self._state else 0.0
        found = self._flow.find_recent(RECENT_LINES, now)
        self.note(f"recent lines {what}: {len(found)}; new ones follow" if found else f"no recent line {what}")
        self._queue_lines(*[self._lines.format_line(log_line, now) for log_line in found])

    def _get_diagnosis(self) -> Sequence[str]:
        if self._state is None or self._preview is None:
            return ("nothing has failed so far",)
        return self._preview(self._state)

    def _queue_lines(self, *lines: str) -> None:
        """Queue lines for the next frame. If they exceed one frame, draw it now; on a slow terminal, skip lines."""
        if self._view_state.paused:
            self._view_state.new_lines += len(lines)
        elif len(self._pending) + len(lines) > self._budget and self._budget == PENDING_LINES:
            self.draw_frame(force=self._out.is_ready)
        self._pending.extend(lines)
        while len(self._pending) > self._budget:
            self._pending.popleft()
            self._skipped += 1

    def _take_pending(self) -> str:
        """Return the lines since the last frame as one text, after a note that counts the skipped lines."""
        lines = list(self._pending)
        self._pending.clear()
        self._skipped, self._rate_limiter.skipped = self._skipped + self._rate_limiter.skipped, 0
        if self._skipped:
            where = f", kept in {shorten_home(self._heading.log_dir)}" if self._heading.log_dir else ""
            dots = "···" if self._unicode else "..."
            lines.insert(0, f"{dots} {self._skipped} lines not shown{where} {dots}")
            self._skipped = 0
        return "".join(f"{line}\n" for line in lines)

    def _get_block(self, now: float, columns: int, rows: int, *, fresh: bool) -> list[Row]:
        """Return the current or a recent block; after a key or a resize, always a current one."""
        at, look = self._state.now if self._state else 0.0, (columns, rows, self._is_away)
        if self._pace.begin_if_due(now, at, look, has_lines=bool(self._pending), is_forced=fresh):
            self._rows = self._build_block(columns, rows)
        return self._rows

    @property
    def _is_away(self) -> bool:
        return self._keyboard is not None and self._keyboard.away

    def _build_block(self, columns: int, rows: int) -> list[Row]:
        if self._state is None or self._is_away:
            return []  # in the background, the shell's prompt occupies these rows
        flow = self._flow
        bars = flow.streams.get_bars()
        flow.metric_tracker.add_bars(bars, self._state.now)
        display = DisplayData(
            lines=flow.lines,
            readings=flow.metric_tracker.host_readings,
            progress=flow.metric_tracker.run_progress,
            loads=self._loads,
            warnings=flow.warnings,
            errors=flow.errors,
            slow=self._slow(),
            ranks=self._ranks(),
            hung=self._hung(self._state),
            bars=bars,
            hint=partial(self._build_hint, columns) if self._keyboard is not None else None,
            asks=self._view_state.mode not in (Mode.LOG, Mode.OVERLAY),
            host=flow.line_filter.host,
            selected=self._view_state.selected,
            overlay=self._view_state.overlay,
            filters=describe_filters(flow.line_filter, flow.folding.mode, self._view_state),
            replay=self._replay.position if self._replay is not None else None,
        )
        return build_footer(self._heading, self._state, display, width=columns, height=rows, unicode=self._unicode)

    def _build_hint(self, columns: int, condition: RunCondition) -> str:
        interrupts = len(self._state.interrupts) if self._state is not None else 0
        return self._key_bindings.build_hint(condition, interrupts, columns)

    def _build_flow(self) -> LogPipeline:
        return LogPipeline(self._heading, self._filters, fold="similar", bars=False, recent=True)

    def _build_formatter(self) -> LineFormatter:
        planned_ranks = sum(count or 1 for _, count in self._heading.ranks.values())
        lines = LineFormatter(self._filters, self._flow, planned_ranks, colour=self._colour, unicode=self._unicode)
        lines.columns = self._size()[0]
        return lines

    def _get_terminal_size(self) -> tuple[int, int]:
        try:
            columns, rows = os.get_terminal_size(self._descriptor if self._descriptor is not None else 1)
        except OSError:
            return 80, 24
        return (columns or 80), (rows or 24)


def _get_descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None
