"""The view for pipes, CI and dumb terminals: log lines on stdout, fanout's own words on stderr, nothing ever redrawn.

    gpu01 | step 100 loss 3.1000          a line, with who wrote it
    gpu01 | Epoch 1 …                     a line that had not ended after half a second,
    gpu01 + done                          and its rest
    gpu01 ~ Epoch 1:  10%|#         |     a progress bar, at every tenth or after half a minute

One line in, one line out. The mark is one character wide, so that ``cut -d' '`` and ``grep '^gpu01 '`` work.
"""

from __future__ import annotations

from datetime import datetime
from typing import TextIO

from fanout.events import Event
from fanout.state import RunState
from fanout.views import metrics
from fanout.views.base import Heading
from fanout.views.folding import Folding
from fanout.views.narrate import Narrator, Said, status
from fanout.views.out import Out
from fanout.views.sanitise import clean, clean_lines, sentence
from fanout.views.streams import Say, Streams
from fanout.views.units import seconds, size

MARKS = {"line": "|", "rest": "+", "bar": "~"}
STATUS_SECONDS = 60.0


class Plain:
    """``timestamps`` puts the time of arrival before every log line; ``fold`` shows equal lines of many hosts once."""

    def __init__(
        self,
        heading: Heading,
        *,
        stdout: TextIO,
        stderr: TextIO,
        timestamps: bool = False,
        colour: bool = False,
        fold: bool = False,
        status_seconds: float = STATUS_SECONDS,
    ) -> None:
        self._out, self._err = Out(stdout), Out(stderr)
        self._streams, self._narrator = Streams(heading.hosts), Narrator()
        self._folding = Folding(heading.hosts, self._streams.parts) if fold else None
        self._timestamps, self._colour = timestamps, colour
        self._reading: metrics.Reading | None = None  # the last figures of a loss
        self._status_seconds = status_seconds
        self._now = 0.0
        self._last_word = 0.0  # when anything was last said on stderr
        logs = f" · logs in {heading.log_dir}" if heading.log_dir else ""
        hosts = f"{len(heading.hosts)} host{'s' if len(heading.hosts) != 1 else ''}"
        self.note(f"run {heading.run_id} · {sentence(heading.title)} · {hosts}{logs}")

    @property
    def broken(self) -> bool:
        return self._out.broken

    def __call__(self, event: Event, state: RunState) -> None:
        self._now = event.at
        self._lines(self._streams.take(event), event.at)
        for said in self._narrator.tell(event, state):
            self._say(said, event.at)
        if not self._last_word:
            self._last_word = event.at
        if event.at - self._last_word >= self._status_seconds:
            self._say(Said(text=self._status(state)), event.at)

    def note(self, text: str) -> None:
        self._err.write("".join([f"fanout: {line}\n" for line in clean_lines(text)]))

    def close(self) -> None:
        self._lines(self._streams.finish(), self._now)
        self._unfold()
        for said in self._narrator.flush():
            self._say(said, self._now)

    def _status(self, state: RunState) -> str:
        """Where the run stands: keeps CI from taking silence for death, and a person from guessing."""
        parts = [status(state)]
        reading = self._reading
        if reading is not None:
            parts.append(f"step {reading.step}" + (f"/{reading.total}" if reading.total else ""))
            parts.append(f"loss {reading.loss:.4f}")
        parts.append(f"{size(sum(host.bytes for host in state.all))} of log")
        return " · ".join([*parts, f"after {seconds(state.now - state.began_at)}"])

    def _say(self, said: Said, at: float) -> None:
        self._last_word = at
        self._unfold()
        self.note(said.text)

    def _lines(self, says: list[Say], at: float) -> None:
        for say in reversed(says):  # the newest is enough, and reading every line of a flood is two thirds of its cost
            if "loss" in say.text and (reading := metrics.read(say.text)) and reading.loss is not None:
                self._reading = reading
                break
        self._print(self._folding.take(says, at) if self._folding else says, at)

    def _unfold(self) -> None:
        """Lines that wait for others that say the same need not wait any longer."""
        if self._folding is not None:
            self._print(self._folding.finish(), self._now)

    def _print(self, says: list[Say], at: float) -> None:
        if not says:
            return
        stamp = ""
        if self._timestamps:
            stamp = f"{datetime.fromtimestamp(at).astimezone().isoformat(timespec='milliseconds')} "
        self._out.write("".join([f"{stamp}{self.line(say)}\n" for say in says]))

    def line(self, say: Say) -> str:
        """A log line as it is printed, without its end."""
        text = say.text
        if not text.isprintable():  # nearly every line is: two calls saved are a third of the time of a flood
            text = clean(text, colour=self._colour)
        if say.more or say.voices > 1:
            text += ending(say)
        return f"{say.speaker:<{self._streams.width}} {MARKS[say.kind]} {text}".rstrip(" ")


def ending(say: Say) -> str:
    """What stands behind a line: how much of it is not shown, and how many said it."""
    if not say.more and say.voices == 1:
        return ""
    return (f"…(+{say.more} B)" if say.more else "") + (f"  ×{say.voices}" if say.voices > 1 else "")
