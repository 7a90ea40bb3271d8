"""Plain view for pipes, CI and dumb terminals: log lines on stdout, status messages on stderr, no redrawing.

    gpu01 | step 100 loss 3.1000          a line and its host
    gpu01 | Epoch 1 …                     a line without a line end after half a second,
    gpu01 + done                          and its rest
    gpu01 ~ Epoch 1:  10%|#         |     a progress bar, every 10 % or every 30 seconds

Each selected line gives one line. The mark is one character wide, so that ``cut -d' '`` and ``grep '^gpu01 '`` work.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from fanout.events import Event
from fanout.state import RunState
from fanout.views.base import Heading
from fanout.views.flow import Flow, left_out, too_slow
from fanout.views.narrate import Narrator, Said, status
from fanout.views.outlet import Outlet
from fanout.views.sanitise import clean, clean_lines, sentence
from fanout.views.streams import Say, apart
from fanout.views.units import seconds, short, size
from fanout.views.wishes import PLAIN_PREFIX, Prefix, Wishes

STATUS_SECONDS = 60.0


class Plain:
    """Plain view. ``wishes`` select the lines, their folding (default: off) and their prefix.

    With ``waits``, a blocked reader blocks the view; without it, lines are dropped and the view reports how many.
    """

    def __init__(
        self,
        heading: Heading,
        *,
        stdout: TextIO,
        stderr: TextIO,
        wishes: Wishes | None = None,
        colour: bool = False,
        status_seconds: float = STATUS_SECONDS,
        waits: bool = True,
    ) -> None:
        wishes = wishes or Wishes()
        self._heading = heading
        self._out, self._err = Outlet(stdout, waits=waits), Outlet(stderr, waits=waits)
        self._flow, self._narrator = Flow(heading, wishes, fold="off"), Narrator()
        template = wishes.prefix if wishes.prefix is not None else PLAIN_PREFIX
        self._prefix = Prefix("{stamp} " + template if wishes.timestamps else template)
        self._colour = colour
        self._status_seconds = status_seconds
        self._now = 0.0
        self._last_word = 0.0  # time of the last message on stderr
        self._closed = False
        logs = f" · logs in {heading.log_dir}" if heading.log_dir else ""
        hosts = f"{len(heading.hosts)} host{'s' if len(heading.hosts) != 1 else ''}"
        self.note(f"run {heading.run_id} · {sentence(heading.title)} · {hosts}{logs}")

    @property
    def broken(self) -> bool:
        return self._out.broken

    def __call__(self, event: Event, state: RunState) -> None:
        self._now = event.at
        self._out.push()
        self._err.push()
        if missed := self._out.missed():
            self._say(Said(text=too_slow(missed, self._heading.log_dir)), event.at)
        self._print(self._flow.take(event), event.at)
        for said in self._narrator.tell(event, state):
            self._say(said, event.at)
        if not self._last_word:
            self._last_word = event.at
        if event.at - self._last_word >= self._status_seconds:
            self._say(Said(text=self._status(state)), event.at)

    def note(self, text: str) -> None:
        self._err.write("".join([f"fanout: {line}\n" for line in clean_lines(text)]))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._print(self._flow.finish(self._now), self._now)
        for said in self._narrator.flush():
            self._say(said, self._now)
        self.note(left_out(self._flow.chooser.hidden, self._heading.log_dir))
        self._out.close()
        if missed := self._out.missed():
            self.note(too_slow(missed, self._heading.log_dir))
        self._err.close()

    def _status(self, state: RunState) -> str:
        """Return a status line. CI systems kill jobs without output; this line also informs the user."""
        self._flow.course.bars(self._flow.streams.bars(), state.now)
        parts = [status(state)]
        course = self._flow.course.progress
        if course.step is not None:
            parts.append(f"step {course.step}" + (f"/{course.total}" if course.total else ""))
        if course.loss is not None:
            parts.append(f"loss {course.loss:.4f}")
        if course.speed is not None:
            parts.append(f"{short(course.speed)} tok/s")
        parts += [f"{name} {value:.4g}" for name, value in course.others.items()]
        for count, what in ((self._flow.warnings, "warning"), (self._flow.errors, "error")):
            if number := sum(count.values()):
                parts.append(f"{number} {what}{'s' if number != 1 else ''}")
        parts.append(f"{size(sum(host.bytes for host in state.all))} of log")
        left = course.seconds_left
        left_words = [f"{seconds(left)} left"] if left is not None and left > 0 else []
        return " · ".join([*parts, f"after {seconds(state.now - state.began_at)}", *left_words])

    def _say(self, said: Said, at: float) -> None:
        """Print a status message after the log lines that arrived before it."""
        self._last_word = at
        self._print(self._flow.settle(at), at)
        self.note(said.text)

    def _print(self, says: Iterable[Say], at: float) -> None:
        self._out.write("".join([self.line(say, at) for say in says]))

    def line(self, say: Say, at: float) -> str:
        """Return a log line as it is printed; a traceback gives several lines."""
        text = say.text
        prefix = self._prefix.of(say, self._flow.streams.width, at)
        if say.many > 1:
            return self._block(say, prefix, at)
        if text.isprintable():  # nearly every line is; skipping two calls saves a third of the time in a flood
            return f"{prefix}{text}{ending(say) if say.more or say.voices > 1 else ''}".rstrip(" ") + "\n"
        lines = [f"{prefix}{clean(line, colour=self._colour)}".rstrip(" ") for line in text.split("\n")]
        return "\n".join(lines) + ending(say) + "\n"

    def _block(self, say: Say, prefix: str, at: float) -> str:
        """Return a block of lines of one stream; if all are printable, prefix them in one step."""
        text = f"{prefix}{say.text}\n".replace("\n", f"\n{prefix}")[: -len(prefix) or None]
        if say.text.replace("\n", "").isprintable() and " \n" not in text:
            return text
        return "".join([self.line(line, at) for line in apart(say)])


def ending(say: Say) -> str:
    """Return the end of a line: cut bytes, the count of streams that printed it, and the ranges of its numbers."""
    if not say.more and say.voices == 1:
        return ""
    cut = f"…(+{say.more} B)" if say.more else ""
    if say.voices == 1:
        return cut
    return cut + (f"  ≈×{say.voices} ({', '.join(say.ranges)})" if say.ranges else f"  ×{say.voices}")
