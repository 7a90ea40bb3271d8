"""State of the live view that its keys change: what is open, what is typed, what the log shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from fanout.logs.line_filters import LineFilter
from fanout.model.hosts import fold_numbers
from fanout.text.sanitize import to_single_line


class Mode(Enum):
    """What the keys mean now."""

    LOG = "log"  # every key has its own action
    OVERLAY = "overlay"  # help, stacks or diagnosis are open; any key closes them
    QUIT = "quit"  # the view asks how to leave
    RANKS = "ranks"  # the user types ranks
    TEXT = "text"  # the user types the text to look for
    HOST = "host"  # the user types the name of a host


@dataclass(slots=True, kw_only=True)
class ViewState:
    """State of the live view. ``selected`` is the host that the arrow keys have reached, "" for none."""

    mode: Mode = Mode.LOG
    typed: str = ""
    overlay: Sequence[str] = ()
    waits_for_stacks: bool = False  # the overlay gets the stacks when they arrive
    quiet: bool = False
    paused: bool = False
    new_lines: int = 0  # since the pause
    selected: str = ""

    def pause(self) -> None:
        """Pause or resume the log."""
        self.paused, self.new_lines = not self.paused, 0


def describe_filters(line_filter: LineFilter, fold: str, state: ViewState) -> list[str]:
    """Return what limits the log, for the title: ``rank 3 only``, ``/loss``, ``host gpu02``, ``fold off``."""
    out = []
    if line_filter.host:
        out.append(f"host {line_filter.host}")
    elif isinstance(line_filter.show, frozenset):
        ranks = sorted(line_filter.show)
        out.append(f"rank{'s' if len(ranks) > 1 else ''} {fold_numbers(ranks)} only")
    elif line_filter.show == "all":
        out.append("all ranks")
    text = state.typed if state.mode is Mode.TEXT else line_filter.text
    if text or line_filter.pattern:
        out.append(f"/{to_single_line(text or line_filter.pattern)}")
    if fold != "similar":
        out.append(f"fold {fold}")
    if state.quiet:
        out.append("errors only")
    if state.paused:
        out.append(f"PAUSED, {state.new_lines:,} new lines" if state.new_lines != 1 else "PAUSED, 1 new line")
    return out
