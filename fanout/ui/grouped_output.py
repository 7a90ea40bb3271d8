"""Grouped output, the view of ``fanout exec``: show equal output of several hosts once, when all have ended.

If no host printed more than one line, each group is one line:

gpu[01-03,05] (4)  Linux 6.8.0
gpu04              exit 127: uname: command not found

Otherwise each group is a block: its hosts between two rules, then its lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TextIO

from fanout.logs.line_splitter import LineAssembler
from fanout.model.events import Chunk, ConnectFailed, Disconnected, Event, Exited, HostLost, Refused
from fanout.model.frozen import frozen
from fanout.model.hosts import fold_names
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.model.subscriber import TextView
from fanout.text.paint import BOLD, BOLD_RED, Painter
from fanout.text.sanitize import sanitize_line, sanitize_lines, sanitize_text
from fanout.text.table import count_columns
from fanout.ui.safe_writer import TextWriter
from fanout.ui.status_messages import StatusReporter, describe_exit

KEEP_BYTES = 4 * 1024 * 1024  # of each host; the view reports the number of cut bytes
NO_OUTPUT = "(no output)"
MOST_LABEL = 40  # columns of the names of hosts before the only line of their output
_RULE = "-" * 15


@frozen
class HostOutput:
    """Output of one host, and how its command ended ("" for exit 0)."""

    host: str
    lines: tuple[str, ...]
    end: str = ""


@frozen
class OutputGroup:
    """Hosts with equal output and an equal end."""

    hosts: tuple[str, ...]
    lines: tuple[str, ...]
    end: str


def group_outputs(message: Iterable[HostOutput]) -> list[OutputGroup]:
    """Group hosts with equal results, in the order of the first host of each group."""
    groups: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for one in message:
        groups.setdefault((one.lines, one.end), []).append(one.host)
    return [OutputGroup(hosts=tuple(hosts), lines=lines, end=end) for (lines, end), hosts in groups.items()]


def format_group(group: OutputGroup, paint: Painter) -> str:
    """Format a group: its hosts between two rules, then its lines. The title of a failure is red."""
    title = _format_hosts(group) + (f"  {group.end}" if group.end else "")
    title = paint(BOLD_RED if group.end else BOLD, title)
    lines = group.lines or (NO_OUTPUT,)
    return "\n".join([_RULE, title, _RULE, *lines]) + "\n"


def format_groups(groups: Sequence[OutputGroup], paint: Painter) -> str:
    """Format all groups: as one line each if every group has at most one, else as blocks."""
    if any(len(group.lines) > 1 for group in groups):
        return "".join(format_group(group, paint) for group in groups)
    labels = [_format_hosts(group) for group in groups]
    width = min(MOST_LABEL, max(map(count_columns, labels), default=0))
    return "".join(
        paint(BOLD_RED if group.end else BOLD, label + " " * (width - count_columns(label)))
        + f"  {': '.join(filter(None, (group.end, *group.lines))) or NO_OUTPUT}\n"
        for group, label in zip(groups, labels, strict=True)
    )


def _format_hosts(group: OutputGroup) -> str:
    return fold_names(group.hosts) + (f" ({len(group.hosts)})" if len(group.hosts) > 1 else "")


class GroupedOutput(TextView):
    """Grouped output. It collects until ``close``; connection errors go to stderr at once."""

    def __init__(self, heading: RunInfo, *, stdout: TextIO, stderr: TextIO, colour: bool = False) -> None:
        self._hosts = heading.hosts
        self._out, self._err = TextWriter(stdout), TextWriter(stderr)
        self._colour = colour
        self._narrator = StatusReporter()
        self._bytes: dict[str, bytearray] = {host: bytearray() for host in heading.hosts}
        self._cut: dict[str, int] = {}
        self._state: RunState | None = None

    @property
    def broken(self) -> bool:
        return self._out.broken

    def __call__(self, event: Event, state: RunState) -> None:
        self._state = state
        if isinstance(event, Chunk):
            kept = self._bytes[event.host]
            free_bytes = KEEP_BYTES - len(kept)
            kept += event.data[:free_bytes]
            self._cut[event.host] = self._cut.get(event.host, 0) + max(0, len(event.data) - free_bytes)
        for message in self._narrator.handle_event(event, state):
            if isinstance(event, (ConnectFailed, Refused, HostLost, Disconnected)):
                self.note(message.text)

    def note(self, text: str) -> None:
        self._err.write("".join([f"fanout: {line}\n" for line in sanitize_lines(text)]))

    def close(self) -> None:
        if self._state is None:
            return
        message = [
            self._build_output(host, self._state) for host in self._hosts if self._state.hosts[host].exit is not None
        ]
        self._state = None
        self._out.write(sanitize_text(format_groups(group_outputs(message), Painter(self._colour))))

    def _build_output(self, host: str, state: RunState) -> HostOutput:
        assembler = LineAssembler(limit=KEEP_BYTES)  # the only copy of the command's output
        taken = [*assembler.add_bytes(bytes(self._bytes[host])), *assembler.take_rest()]
        lines = [
            sanitize_line(line.text, colour=self._colour) + (f"…(+{line.more} B)" if line.more else "")
            for line in taken
        ]
        if self._cut.get(host):
            lines.append(f"…(+{self._cut[host]} B)")
        end = state.hosts[host].exit
        return HostOutput(
            host=host, lines=tuple(lines), end="" if _is_success(end) else describe_exit(state.hosts[host])
        )


def _is_success(end: Exited | None) -> bool:
    return end is not None and end.code == 0
