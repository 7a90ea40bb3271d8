"""View of hosts' usage in a terminal, refreshed in place: rows for a few hosts, a grid for many, or one host in detail.

``build_usage_screen`` is pure. The class draws it, and reads the keys.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from fanout.sharing.host_usage import HostUsage
from fanout.sharing.usage_order import count_gpus_by_user, select_usage
from fanout.text.table import count_columns
from fanout.text.units import count_noun
from fanout.ui.frame_writer import FrameWriter
from fanout.ui.host_rows import Row
from fanout.ui.keyboard import Keyboard
from fanout.ui.nonblocking_writer import NonblockingWriter
from fanout.ui.usage_cells import CellStyle
from fanout.ui.usage_grid import build_usage_grid, build_user_rows
from fanout.ui.usage_keys import (
    UsageKeys,
    UsageMode,
    UsageViewState,
    build_usage_hint,
    describe_choice,
    list_usage_help,
)
from fanout.ui.usage_rows import build_detail, build_host_block

REFRESH_SECONDS = 2.0
FIRST_SECONDS = 0.25  # between two frames until all hosts have answered
LAST_SECONDS = 1.0  # for the last frame


def build_usage_screen(
    every: Sequence[HostUsage], state: UsageViewState, style: CellStyle, width: int, height: int
) -> list[Row]:
    """Return the rows of the screen: title, hosts, and keys. ``every`` are all hosts, in file order."""
    hosts = select_usage(every, state.chosen)
    space = height - 3  # title, keys, and the row of the cursor
    hint: Row = [(f" {build_usage_hint(state, width)}", "dim")]
    if state.mode is UsageMode.HELP:
        block: list[Row] = [[(f"  {line}", "")] for line in list_usage_help()][:space]
    else:
        block = _build_block(hosts, state, style, width, space)
    return [_build_title(every, hosts, state, style, width), *block, hint]


def _build_block(
    hosts: Sequence[HostUsage], state: UsageViewState, style: CellStyle, width: int, space: int
) -> list[Row]:
    if not hosts:
        return [[("  no host matches", "dim")]]
    if len(hosts) == 1 and state.chosen.host:
        rows = build_detail(hosts[0], style, width)
        return rows if len(rows) <= space else [*rows[: space - 1], [(f"  +{len(rows) - space + 1} more", "dim")]]
    rows = build_host_block(hosts, style, width, space, state.selected) if not state.as_grid else []
    if rows:
        return rows
    grid = build_usage_grid(hosts, style, width, space, state.selected)
    users = build_user_rows(count_gpus_by_user(hosts), width, space - len(grid) - 1)
    return [*grid, *([[]] if users else []), *users]


def _build_title(
    every: Sequence[HostUsage], hosts: Sequence[HostUsage], state: UsageViewState, style: CellStyle, width: int
) -> Row:
    """Return the counts over the hosts that are shown; a narrow terminal drops the last parts."""
    gpus, free = sum(len(host.gpus) for host in hosts), sum(len(host.free_gpus) for host in hosts)
    silent = sum(not host.is_up or bool(host.trouble) for host in every)
    count = count_noun(len(every), "host")
    clock = time.strftime("%H:%M:%S", time.localtime(style.now))
    parts = [
        ("fanout top", "bold"),
        (f"{len(hosts)} of {count}" if len(hosts) < len(every) else count, ""),
        *([(f"{count_noun(gpus, 'GPU')}, {free} free", "bold green" if free else "")] if gpus else []),
        *([(f"{silent} without an answer", "yellow")] if silent else []),
        *((text, "cyan") for text in describe_choice(state)),
        (count_noun(len({user for host in hosts for user in host.users}), "user"), ""),
        (clock, "dim"),
    ]
    row: Row = []
    used = 0
    for text, look in parts:
        if used + 2 + count_columns(text) < width:
            row += [("  " if row else " ", ""), (text, look)]
            used += 2 + count_columns(text)
    return row


class UsageView:
    """The view in a terminal. ``read_hosts`` returns the newest usage of all hosts, ``clock`` the present Unix time."""

    def __init__(
        self,
        read_hosts: Callable[[], list[HostUsage]],
        state: UsageViewState,
        *,
        stdout: TextIO,
        colour: bool,
        unicode: bool,
        keyboard: Keyboard | None,
        clock: Callable[[], float],
        size: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        self._read_hosts, self.state, self._unicode, self._clock = read_hosts, state, unicode, clock
        self._out = NonblockingWriter(stdout)
        self._frame_writer = FrameWriter(self._out, colour=colour, unicode=unicode)
        self._keyboard, self._stdout = keyboard, stdout
        self._size = size or self._get_terminal_size
        self._keys = UsageKeys(state, self._list_shown)
        self._hosts: list[HostUsage] = []
        self._now = 0.0
        self._drawn_at = float("-inf")
        self._seen: tuple[int, int] = (0, 0)

    @property
    def is_over(self) -> bool:
        """Return whether the user has quit or the terminal has closed."""
        return self.state.has_quit or self._out.broken

    def wait_for_key(self, seconds: float) -> None:
        """Wait for a key, at most ``seconds``."""
        if self._keyboard is None:
            time.sleep(seconds)
        else:
            self._keyboard.wait_for_key(seconds)

    def update(self) -> None:
        """Handle keys, and draw a frame if one is due."""
        now = self._clock()
        self._out.send_pending()
        pressed = self._handle_keys()
        pause = REFRESH_SECONDS if all(host.at is not None or host.trouble for host in self._hosts) else FIRST_SECONDS
        is_due = now - self._drawn_at >= pause
        if (pressed or is_due or self._size() != self._seen) and self._out.is_ready:
            self._draw_frame(now)

    def close(self) -> None:
        """Leave the last frame on the screen, without the keys, and restore the terminal."""
        try:
            if self._keyboard is None or not self._keyboard.check_foreground():
                self._frame_writer.write_frame("", self._build_rows()[:-1], self._seen[0])
                self._out.write("\n")
            self._out.send_pending(LAST_SECONDS)
            self._out.close()
        finally:
            if self._keyboard is not None:
                self._keyboard.close()

    def _handle_keys(self) -> bool:
        if self._keyboard is None:
            return False
        if self._keyboard.suspend_requested:
            self._frame_writer.write_frame("", [], self._seen[0])
            self._out.send_pending(LAST_SECONDS)
            self._keyboard.suspend_process()
        keys = self._keyboard.read_keys()
        for key in keys:
            self._keys.handle_key(key)
        if self._keyboard.away:
            self._frame_writer.abandon_block()
        return bool(keys)

    def _draw_frame(self, now: float) -> None:
        self._drawn_at, self._seen = now, self._size()
        if self._keyboard is not None and self._keyboard.away:
            return
        if not self.state.paused or not self._hosts:
            self._hosts, self._now = self._read_hosts(), now
        self._frame_writer.write_frame("", self._build_rows(), self._seen[0])

    def _build_rows(self) -> list[Row]:
        style = CellStyle(unicode=self._unicode, now=self._now)
        return build_usage_screen(self._hosts, self.state, style, *self._seen)

    def _list_shown(self) -> list[HostUsage]:
        return select_usage(self._hosts, self.state.chosen)

    def _get_terminal_size(self) -> tuple[int, int]:
        try:
            columns, rows = os.get_terminal_size(self._stdout.fileno())
        except (OSError, ValueError):
            return 80, 24
        return (columns or 80), (rows or 24)
