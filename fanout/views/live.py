"""The view for terminals: the log scrolls as ever, and a small block under it says how every host is doing.

No alternate screen: scrollback, search and copy stay the terminal's. At most ten times a second the block is taken
away, the lines that came are written as one piece of text (printing them one by one through rich would cost
milliseconds each), and the block is drawn again. A terminal that does not keep up never holds the run up: lines
are then skipped on screen, which says how many; the files have them all.
"""

from __future__ import annotations

import io
import os
import select
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, TextIO

from fanout.events import Chunk, Event
from fanout.state import RunState
from fanout.views import metrics
from fanout.views.base import Heading
from fanout.views.folding import Folding
from fanout.views.narrate import Narrator, Said
from fanout.views.out import Out, in_ascii
from fanout.views.panel import Glance, Row, colour_of, panel
from fanout.views.plain import MARKS, ending
from fanout.views.sanitise import clean, clean_lines
from fanout.views.streams import Say, Streams
from fanout.views.valve import Valve

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

FRAME_SECONDS = 0.1
PENDING_LINES = 2000  # more than this between two frames cannot be read anyway
FEWEST_LINES = 50
PREFIXES = 4096
SLOW_SECONDS = 0.05  # a frame that takes longer is too much for this terminal
_BEGIN, _END = "\x1b[?2026h\x1b[?25l", "\x1b[?25h\x1b[?2026l"  # the terminal shows the frame whole, without a cursor
_LEVEL = {"info": "36", "good": "32", "warning": "33", "error": "1;31"}
_ANSI = {"cyan": 36, "green": 32, "magenta": 35, "bright_blue": 94, "yellow": 33, "bright_cyan": 96, "bright_green": 92,
         "bright_magenta": 95}  # fmt: skip


class Live:
    """``size`` tells (columns, rows) at any moment; by default the terminal behind ``stdout`` is asked."""

    def __init__(
        self,
        heading: Heading,
        *,
        stdout: TextIO,
        colour: bool = True,
        unicode: bool = True,
        fold: bool = True,
        size: Callable[[], tuple[int, int]] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._heading, self._colour, self._unicode = heading, colour, unicode
        self._out = Out(stdout)
        self._descriptor = _descriptor(stdout)
        self._size = size or self._ask
        self._clock = clock
        self._streams, self._narrator = Streams(heading.hosts), Narrator()
        self._folding = Folding(heading.hosts, self._streams.parts) if fold else None
        self._prefixes: dict[tuple[str, str, str, int], str] = {}  # made once: a flood of lines has few speakers
        self._pending: deque[str] = deque()
        self._budget = PENDING_LINES
        self._skipped = 0
        self._valve = Valve()
        self._lines: dict[str, int] = {}
        self._readings: dict[str, metrics.Reading] = {}
        self._progress = metrics.Progress()
        self._painter: _Painter | None = _Painter(self._out, colour=colour, unicode=unicode)
        self._drawn_at = float("-inf")
        self._state: RunState | None = None

    @property
    def broken(self) -> bool:
        return self._out.broken

    def __call__(self, event: Event, state: RunState) -> None:
        self._state = state
        self._hear(self._streams.take(self._let(event)), event.at)
        for said in self._narrator.tell(event, state):
            self._say(said)
        self.draw()

    def _let(self, event: Event) -> Event:
        """What of the event goes to the screen; lines of a flood that do not are counted like the others."""
        before = self._valve.skipped
        shown = self._valve.let(event)
        if isinstance(event, Chunk) and self._valve.skipped > before:
            self._lines[event.host] = self._lines.get(event.host, 0) + self._valve.skipped - before
        return shown

    def note(self, text: str) -> None:
        for line in clean_lines(text):
            self._say(Said(text=line))

    def draw(self, *, force: bool = False) -> None:
        """A frame, if it is time for one and the terminal takes it."""
        now = self._clock()
        if self._painter is None or (not force and (now - self._drawn_at < FRAME_SECONDS or not self._ready())):
            return
        self._drawn_at = now
        columns, rows = self._size()
        self._painter.paint(self._take(), self._block(columns, rows), columns)
        slow = self._clock() - now > SLOW_SECONDS
        self._budget = max(FEWEST_LINES, self._budget // 2) if slow else min(PENDING_LINES, self._budget * 2)

    def close(self) -> None:
        """Write what is left of the log, and take the block away; safe to call twice."""
        if self._painter is None:
            return
        self._hear(self._streams.finish(), self._state.now if self._state else 0.0)
        self._unfold()
        for said in self._narrator.flush():
            self._say(said)
        painter, self._painter = self._painter, None
        painter.paint(self._take(), [], self._size()[0])

    def _hear(self, says: list[Say], at: float) -> None:
        for say in says:
            self._read(say.host, say.text, at)
            self._lines[say.host] = self._lines.get(say.host, 0) + (say.kind == "line")
        lines = [say for say in says if say.kind != "bar"]  # bars are in the block
        for say in self._folding.take(lines, at) if self._folding else lines:
            self._queue(self._line(say))

    def _unfold(self) -> None:
        """Lines that wait for others that say the same need not wait any longer."""
        for say in self._folding.finish() if self._folding else []:
            self._queue(self._line(say))

    def _line(self, say: Say) -> str:
        key = (say.host, say.speaker, say.kind, self._streams.width)
        prefix = self._prefixes.get(key)
        if prefix is None:
            prefix = f"{say.speaker:<{self._streams.width}} {MARKS[say.kind]}"
            if self._colour:
                prefix = f"\x1b[{_ANSI[colour_of(say.host)] if say.host else 1}m{prefix}\x1b[0m"
            if len(self._prefixes) < PREFIXES:
                self._prefixes[key] = prefix
        end = ending(say) if self._unicode else in_ascii(ending(say))
        return f"{prefix} {clean(say.text, colour=self._colour)}{end}"

    def _read(self, host: str, text: str, at: float) -> None:
        """Figures in the text; the curve follows the first host that has any."""
        reading = metrics.read(text)
        if reading is None or reading == self._readings.get(host):
            return
        self._readings[host] = reading
        if host == next(iter(self._readings)):
            self._progress.add(reading, at)

    def _say(self, said: Said) -> None:
        """Fanout's own words, after the lines that came before them."""
        self._unfold()
        text = f"fanout: {said.text}"
        self._queue(f"\x1b[{_LEVEL[said.level]}m{text}\x1b[0m" if self._colour else text)

    def _queue(self, text: str) -> None:
        """A line for the next frame. Where there are too many for one: a frame at once, or, if that is slow, fewer."""
        if len(self._pending) >= self._budget and self._budget == PENDING_LINES:
            self.draw(force=self._ready())
        self._pending.append(text)
        if len(self._pending) > self._budget:
            self._pending.popleft()
            self._skipped += 1

    def _take(self) -> str:
        """The lines since the last frame as one piece; what was skipped before them is said."""
        lines = list(self._pending)
        self._pending.clear()
        self._skipped, self._valve.skipped = self._skipped + self._valve.skipped, 0
        if self._skipped:
            where = f", kept in {self._heading.log_dir}" if self._heading.log_dir else ""
            dots = "···" if self._unicode else "..."
            lines.insert(0, f"{dots} {self._skipped} lines not shown{where} {dots}")
            self._skipped = 0
        return "".join(f"{line}\n" for line in lines)

    def _block(self, columns: int, rows: int) -> list[Row]:
        if self._state is None:
            return []
        for host, bar in self._streams.bars().items():
            self._read(host, bar, self._state.now)
        glance = Glance(lines=self._lines, readings=self._readings, progress=self._progress)
        return panel(self._heading, self._state, glance, width=columns, height=rows, unicode=self._unicode)

    def _ready(self) -> bool:
        """Would the terminal take anything now? One that is stopped (Ctrl-S) would not."""
        if self._descriptor is None:
            return True
        return bool(select.select([], [self._descriptor], [], 0)[1])

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


class _Painter:
    """Draws frames through rich into a buffer and the buffer to the terminal, in one write.

    The cursor is hidden only within a frame: a launcher that is killed leaves no terminal without one.
    """

    def __init__(self, out: Out, *, colour: bool, unicode: bool) -> None:
        from rich.console import Console

        self._out = out
        self._buffer = io.StringIO()
        self._console: Console = Console(
            file=self._buffer, force_terminal=True, color_system="256" if colour else None, no_color=not colour,
            highlight=False, markup=False, emoji=False, legacy_windows=False, _environ={},
        )  # fmt: skip
        self._unicode = unicode
        self._widths: list[int] = []  # of the rows of the block on screen
        self._block: list[Row] = []
        self._columns = 0

    def paint(self, log: str, block: list[Row], columns: int) -> None:
        """Take the block away, write the log below what was there, draw the block; nothing where nothing changed."""
        if not log and block == self._block and columns == self._columns:
            return
        texts = [self._text(row, columns) for row in block]
        self._out.write(f"{_BEGIN}{self._erase(columns)}{log}{self._rendered(texts, columns)}{_END}")
        self._widths = [text.cell_len for text in texts]
        self._block, self._columns = block, columns

    def _text(self, row: Row, columns: int) -> Text:
        from rich.text import Text

        text = Text.assemble(*row, end="", no_wrap=True)
        text.truncate(max(1, columns - 1), overflow="ellipsis" if self._unicode else "crop")
        return text

    def _rendered(self, texts: list[Text], columns: int) -> str:
        """The rows one under the other, the cursor left at the end of the last."""
        self._console.width = columns
        for at, text in enumerate(texts):
            self._console.print(text, end="\n" if at < len(texts) - 1 else "", soft_wrap=True)
        rendered = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return rendered

    def _erase(self, columns: int) -> str:
        """Back to where the block began. A terminal made narrower has wrapped its rows."""
        height = sum(max(1, -(-width // columns)) for width in self._widths)
        up = f"\x1b[{height - 1}A" if height > 1 else ""
        return f"\r{up}\x1b[J"
