"""torchrun's reports about its processes, parsed line by line: exit codes, their order, and stopped processes.

torchrun prints a summary on every host, with a "root cause" that is the first failure *of that host*. This parser uses
the facts in it (rank, pid, exit code), never its conclusion.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from fanout.diagnose.evidence import ProcessExit

NEEDLES = ("closing signal", "failed (exitcode", "Root Cause (first", "Failures:", "restart worker group")
_CLOSING = re.compile(r"Sending process (\d{1,15}) closing signal SIG")
_FAILED = re.compile(r"failed \(exitcode: (-?\d{1,15})\) local_rank: (\d{1,15}) \(pid: (\d{1,15})\)")
_RANK = re.compile(r"^\s+rank\s+: (\d{1,15}) \(local_rank: (\d{1,15})\)")
_EXIT = re.compile(r"^\s+exitcode\s+: (-?\d{1,15}) \(pid: (\d{1,15})\)")
_ENDED_BY_IT = (-15, -9, -2, 143, 137, 130)
_LINES = 20_000  # a summary is shorter, however many processes it lists


@dataclass(slots=True)
class TorchrunParser:
    """Parser of one stream; ``deaths`` is by pid."""

    host: str
    file: str
    deaths: dict[int, ProcessExit] = field(default_factory=dict)
    _closed: set[int] = field(default_factory=set)
    _left: int = 0  # lines in which parts of the summary may still follow
    _first: bool = False  # in the part about the first failure
    _rank: tuple[int, int] | None = None

    @property
    def is_reading(self) -> bool:
        """Return whether the parser is in a summary and needs every line."""
        return self._left > 0

    @property
    def current_rank(self) -> tuple[int, int] | None:
        """Return the (rank, local rank) that a summary describes at this line; None outside of a summary."""
        return self._rank if self._left else None

    @staticmethod
    def is_restart(text: str) -> bool:
        """Return whether torchrun begins another attempt: earlier failures are none of it."""
        return "will restart worker group" in text

    def parse_line(self, text: str, at: float, number: int) -> None:
        """Parse one line."""
        if "closing signal" in text and (closing := _CLOSING.search(text)):
            self._closed.add(int(closing[1]))
        elif "failed (exitcode" in text and (failed := _FAILED.search(text)):
            self._add_exit(int(failed[3]), int(failed[1]), at, number, local_rank=int(failed[2]), named=True)
        elif text.startswith("Failures:") or "Root Cause (first" in text:
            self._left, self._first, self._rank = _LINES, "Root Cause" in text, None
        elif self._left:
            self._left -= 1
            self._parse_summary(text, at, number)

    def _parse_summary(self, text: str, at: float, number: int) -> None:
        if rank := _RANK.match(text):
            self._rank = int(rank[1]), int(rank[2])
        elif (ended := _EXIT.match(text)) and self._rank is not None:
            place = self._rank
            self._add_exit(
                int(ended[2]), int(ended[1]), at, number, rank=place[0], local_rank=place[1], named=self._first
            )
        elif text.startswith("=====") and self._first and self._rank is not None:
            self._left = 0

    def _add_exit(
        self,
        pid: int,
        code: int,
        at: float,
        number: int,
        *,
        rank: int | None = None,
        local_rank: int | None = None,
        named: bool = False,
    ) -> None:
        before = self.deaths.get(pid)
        if before is None:
            in_summary_after_first = rank is not None and not named
            was_stopped = (pid in self._closed and code in _ENDED_BY_IT) or (in_summary_after_first and code == -15)
            before = ProcessExit(
                at=at, host=self.host, pid=pid, code=code, was_stopped=was_stopped, file=self.file, line=number
            )
        rank = before.rank if rank is None else rank
        local_rank = before.local_rank if local_rank is None else local_rank
        self.deaths[pid] = replace(before, rank=rank, local_rank=local_rank, named=named or before.named)
