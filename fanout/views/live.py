"""Live view: the log scrolls as usual, and a small block below it shows the state of every host.

It uses no alternate screen, so scrollback, search and copy work as usual. At most ten times a second, it erases the
block, writes the new lines as one text, and draws the block again. (rich needs milliseconds to print one line.)
A slow terminal never slows the run: the view skips lines and shows their number. The log files keep all lines.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import TextIO

from fanout.events import Beat, Chunk, Event
from fanout.state import RunState
from fanout.views.base import Heading, Viewing
from fanout.views.desk import Desk
from fanout.views.flow import Flow, left_out
from fanout.views.folding import brief
from fanout.views.keys import Keyboard
from fanout.views.load import Load, load_of
from fanout.views.narrate import Narrator, Said
from fanout.views.out import in_ascii
from fanout.views.outlet import Outlet
from fanout.views.painter import Painter
from fanout.views.panel import panel
from fanout.views.plain import ending
from fanout.views.rows import Glance, Row, colour_of
from fanout.views.sanitise import clean, clean_lines
from fanout.views.streams import Say, texts
from fanout.views.valve import Valve
from fanout.views.wishes import Prefix, Wishes

FRAME_SECONDS = 0.1
BLOCK_SECONDS = 0.5  # while log lines arrive: drawing the block more often would cost more than the log itself
PENDING_LINES = 2000  # a person cannot read more lines between two frames
FEWEST_LINES = 50
SLOW_SECONDS = 0.05  # if a frame takes longer, the terminal is slow
STOP_SECONDS = 1.0  # for the last frame before Ctrl-Z
WHO_COLUMNS = 32  # width of the list of ranks before an ordinary line; before an error, all ranks are listed
PREFIX = "{who} {mark}"
_LEVEL = {"info": "36", "good": "32", "warning": "33", "error": "1;31"}
_ANSI = {"cyan": 36, "green": 32, "magenta": 35, "bright_blue": 94, "yellow": 33, "bright_cyan": 96, "bright_green": 92,
         "bright_magenta": 95}  # fmt: skip


class Live:
    """Live view in a terminal. ``size`` returns (columns, rows); the default queries the terminal of ``stdout``.

    ``keyboard`` enables the keys. ``so_far`` returns the diagnosis so far, and ``detach`` detaches from the run.
    ``slow`` returns host -> how slow its steps are. ``hung`` returns the hosts that cause a hang, None without a hang.
    """

    def __init__(
        self,
        heading: Heading,
        *,
        stdout: TextIO,
        colour: bool = True,
        unicode: bool = True,
        wishes: Wishes | None = None,
        keyboard: Keyboard | None = None,
        so_far: Callable[[RunState], Sequence[str]] | None = None,
        detach: Callable[[], None] | None = None,
        slow: Callable[[], Mapping[str, str]] = dict,
        hung: Callable[[RunState], Mapping[str, str] | None] = lambda state: None,
        viewing: Viewing = "run",
        size: Callable[[], tuple[int, int]] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        wishes = wishes or Wishes()
        self._heading, self._colour, self._unicode = heading, colour, unicode
        self._out = Outlet(stdout)
        self._descriptor = _descriptor(stdout)
        self._size = size or self._ask
        self._clock = clock
        self._flow, self._narrator = Flow(heading, wishes, fold="similar", bars=False), Narrator()
        template = wishes.prefix if wishes.prefix is not None else PREFIX
        self._gap = " " if wishes.prefix is None else ""
        self._prefix = Prefix("{time} " + template if wishes.timestamps else template)
        self._keyboard, self._so_far, self._slow, self._hung = keyboard, so_far, slow, hung
        self._desk = Desk(
            self._flow,
            note=self.note,
            last_error=self._repeat_error,
            so_far=self._known_so_far,
            detach=detach,
            viewing=viewing,
        )
        self._pending: deque[str] = deque()
        self._budget = PENDING_LINES
        self._skipped = 0
        self._valve = Valve()
        self._loads: dict[str, Load] = {}
        self._painter: Painter | None = Painter(self._out, colour=colour, unicode=unicode)
        self._drawn_at = self._block_at = float("-inf")
        self._rows: list[Row] = []
        self._seen: tuple[object, ...] = ()
        self._state: RunState | None = None

    @property
    def broken(self) -> bool:
        return self._out.broken

    def __call__(self, event: Event, state: RunState) -> None:
        self._state = state
        if isinstance(event, Beat) and (load := load_of(event.load)) is not None:
            self._loads[event.host] = load
        before = self._valve.skipped
        self._show(self._flow.take(self._valve.let(event)), event.at)
        if isinstance(event, Chunk):
            self._flow.lines[event.host] += self._valve.skipped - before
        for said in self._narrator.tell(event, state):
            self._say(said)
        self.draw()

    def note(self, text: str) -> None:
        for line in clean_lines(text):
            self._say(Said(text=line))

    def draw(self, *, force: bool = False) -> None:
        """Draw a frame, if one is due and the terminal accepts output."""
        now = self._clock()
        if self._painter is None or (not force and now - self._drawn_at < FRAME_SECONDS):
            return
        self._out.push()
        self._obey_keys(self._painter)
        if not force and not self._out.ready:
            return
        self._drawn_at = now
        columns, rows = self._size()
        block = self._recent(now, columns, rows, fresh=force or not self._pending)
        self._painter.paint(self._take(), block, columns)
        self._out.push(SLOW_SECONDS)
        slow = self._out.waiting or self._clock() - now > SLOW_SECONDS
        self._budget = max(FEWEST_LINES, self._budget // 2) if slow else min(PENDING_LINES, self._budget * 2)

    def close(self) -> None:
        """Write the remaining log lines, erase the block and release the keyboard. It is safe to call this twice."""
        if self._painter is None:
            return
        try:
            now = self._state.now if self._state else 0.0
            self._show(self._flow.finish(now), now)
            for said in self._narrator.flush():
                self._say(said)
            self.note(left_out(self._flow.chooser.hidden, self._heading.log_dir))
            painter, self._painter = self._painter, None
            if self._keyboard is not None and self._keyboard.look_away():
                painter.abandon()
            painter.paint(self._take(), [], self._size()[0])
            self._out.close()
        finally:
            self._painter = None
            if self._keyboard is not None:
                self._keyboard.close()

    def _obey_keys(self, painter: Painter) -> None:
        if self._keyboard is None:
            return
        if self._keyboard.asked_to_stop:
            painter.paint(self._take(), [], self._size()[0])  # the shell prints its prompt where the block was
            self._out.push(STOP_SECONDS)
            self._keyboard.stop()
        for key in self._keyboard.poll():
            self._desk.press(key)
        if self._keyboard.away:
            painter.abandon()

    def _show(self, says: Sequence[Say], at: float) -> None:
        for say in says:
            if self._desk.quiet and say.level != "error":
                self._flow.chooser.hidden += say.many
            elif say.many > 1:
                self._queue_block(say, at)
            else:
                self._queue(self._line(say, at))

    def _head(self, say: Say, at: float) -> str:
        prefix = self._prefix.of(say, self._flow.streams.width, at)
        if self._colour and prefix:
            prefix = f"\x1b[{_ANSI[colour_of(say.host)] if say.host else 1}m{prefix}\x1b[0m"
        return prefix + self._gap

    def _line(self, say: Say, at: float) -> str:
        if say.voices > 1 and not say.level:
            who = brief(say.speaker, WHO_COLUMNS)
            say = say._replace(speaker=who if self._unicode else in_ascii(who))
        prefix = self._head(say, at)
        text = say.text
        if not text.isprintable():
            lines = [clean(line, colour=self._colour) for line in text.split("\n")]
            text = f"\n{prefix}".join([self._lit(line, say.level) for line in lines])
        elif say.level:
            text = self._lit(text, say.level)
        if say.more or say.voices > 1:
            text += ending(say) if self._unicode else in_ascii(ending(say))
        return prefix + text

    def _lit(self, line: str, level: str) -> str:
        """Colour a line by its level. Indented lines, and lines with colours of their own, stay unchanged."""
        if not level or not self._colour or "\x1b" in line or line[:1] in " \t":
            return line
        return f"\x1b[{_LEVEL[level]}m{line}\x1b[0m"

    def _queue_block(self, say: Say, at: float) -> None:
        """Queue a block of lines of one stream, frame by frame; for a slow terminal, only as many as fit in a frame."""
        lines = texts(say)
        if self._budget < PENDING_LINES:
            self._skipped += max(0, len(lines) - self._budget)
            del lines[: -self._budget]
        prefix = self._head(say, at)
        for start in range(0, len(lines), PENDING_LINES):
            part = lines[start : start + PENDING_LINES]
            self._queue(*[prefix + (line if line.isprintable() else clean(line, colour=self._colour)) for line in part])

    def _say(self, said: Said) -> None:
        """Print a status message after the log lines that arrived before it."""
        now = self._state.now if self._state else 0.0
        self._show(self._flow.settle(now), now)
        text = f"fanout: {clean(said.text, colour=False)}"
        self._queue(f"\x1b[{_LEVEL[said.level]}m{text}\x1b[0m" if self._colour else text)

    def _repeat_error(self) -> None:
        error = self._flow.last_error
        if error is not None:
            self.note(f"last error, from {error.speaker}:")
            self._queue(self._line(error, self._state.now if self._state else 0.0))

    def _known_so_far(self) -> Sequence[str]:
        if self._state is None or self._so_far is None:
            return ("nothing has failed so far",)
        return self._so_far(self._state)

    def _queue(self, *lines: str) -> None:
        """Queue lines for the next frame. If they exceed one frame, draw it now; on a slow terminal, skip lines."""
        if len(self._pending) + len(lines) > self._budget and self._budget == PENDING_LINES:
            self.draw(force=self._out.ready)
        self._pending.extend(lines)
        while len(self._pending) > self._budget:
            self._pending.popleft()
            self._skipped += 1

    def _take(self) -> str:
        """Return the lines since the last frame as one text, after a note that counts the skipped lines."""
        lines = list(self._pending)
        self._pending.clear()
        self._skipped, self._valve.skipped = self._skipped + self._valve.skipped, 0
        if self._skipped:
            where = f", kept in {self._heading.log_dir}" if self._heading.log_dir else ""
            dots = "···" if self._unicode else "..."
            lines.insert(0, f"{dots} {self._skipped} lines not shown{where} {dots}")
            self._skipped = 0
        return "".join(f"{line}\n" for line in lines)

    def _recent(self, now: float, columns: int, rows: int, *, fresh: bool) -> list[Row]:
        """Return the current or a recent block; after a key or a resize, always a current one."""
        seen = (columns, rows, self._away, self._desk.hint)
        if fresh or seen != self._seen or now - self._block_at >= BLOCK_SECONDS:
            self._block_at, self._seen, self._rows = now, seen, self._block(columns, rows)
        return self._rows

    @property
    def _away(self) -> bool:
        return self._keyboard is not None and self._keyboard.away

    def _block(self, columns: int, rows: int) -> list[Row]:
        if self._state is None or self._away:
            return []  # in the background, the shell's prompt occupies these rows
        flow = self._flow
        bars = flow.streams.bars()
        flow.course.bars(bars, self._state.now)
        glance = Glance(
            lines=flow.lines,
            readings=flow.course.readings,
            progress=flow.course.progress,
            loads=self._loads,
            warnings=flow.warnings,
            errors=flow.errors,
            slow=self._slow(),
            hung=self._hung(self._state),
            bars=bars,
            keys=self._desk.hint if self._keyboard is not None else "",
            replay=self._desk.viewing == "replay",
        )
        return panel(self._heading, self._state, glance, width=columns, height=rows, unicode=self._unicode)

    def _ask(self) -> tuple[int, int]:
        try:
            columns, rows = os.get_terminal_size(self._descriptor if self._descriptor is not None else 1)
        except OSError:
            return 80, 24
        return (columns or 80), (rows or 24)


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None
