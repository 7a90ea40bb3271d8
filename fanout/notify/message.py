"""Run message: what happened to a run, for a program outside of fanout. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Literal

from fanout.model.frozen import frozen
from fanout.text.sanitize import to_single_line
from fanout.text.units import format_duration

MessageKind = Literal["started", "failed", "ended", "hang", "host-lost", "restarted"]
VERSION = 1
HEADLINE_LENGTH = 2000  # in the environment, whose size the kernel limits
_TITLES: dict[MessageKind, str] = {
    "started": "started",
    "failed": "FAILED",
    "ended": "ended",
    "hang": "hangs",
    "host-lost": "lost a host",
    "restarted": "restarted",
}


@frozen
class RunMessage:
    """One message. ``seconds`` is the age of the run. ``step`` and ``loss`` are the newest, None if unknown.

    ``headline`` is one sentence: the first cause of a failure, else what happened. ``command`` shows more.
    ``exit_code`` is None while the run goes on.
    """

    event: MessageKind
    run: str
    name: str
    task: str
    hosts: tuple[str, ...]
    attempt: int
    headline: str
    seconds: float
    step: int | None = None
    loss: float | None = None
    exit_code: int | None = None
    command: str = ""

    def to_json(self) -> str:
        """Return the message as one JSON object, with its version ``v``."""
        return json.dumps({"v": VERSION, **asdict(self)})

    def to_environ(self) -> dict[str, str]:
        """Return the variables that a hook gets."""
        code = "" if self.exit_code is None else str(self.exit_code)
        return {
            "FANOUT_EVENT": self.event,
            "FANOUT_RUN": self.run,
            "FANOUT_HEADLINE": to_single_line(self.headline).replace("\0", "")[:HEADLINE_LENGTH],
            "FANOUT_EXIT": code,
        }

    @property
    def title(self) -> str:
        """Return the title for a chat: ``sweep-3 FAILED on 4 hosts``."""
        count = len(self.hosts)
        where = f"{count} hosts" if count != 1 else self.hosts[0]
        return f"{self.name or self.task or self.run} {_TITLES[self.event]} on {where}"

    @property
    def text(self) -> str:
        """Return the text for a chat: headline, progress, age, and the command to type next."""
        progress = [f"step {self.step}"] if self.step is not None else []
        progress += [f"loss {self.loss:.4g}"] if self.loss is not None else []
        progress += [f"attempt {self.attempt}"] if self.attempt else []
        progress += [f"after {format_duration(self.seconds)}"]
        lines = [to_single_line(self.headline), " · ".join(progress)]
        return "\n".join(line for line in (*lines, self.command) if line)
