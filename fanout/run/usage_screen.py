"""Screen of ``fanout top``: the view in this terminal, with its keyboard."""

from __future__ import annotations

from collections.abc import Callable

from fanout.run.process_context import ProcessContext
from fanout.sharing.host_usage import HostUsage
from fanout.sharing.usage_order import UsageFilter
from fanout.ui.display_mode import DisplayMode
from fanout.ui.keyboard import Keyboard
from fanout.ui.safe_writer import unwrap_stream
from fanout.ui.usage_keys import UsageViewState
from fanout.ui.usage_view import UsageView


def build_usage_view(
    process: ProcessContext,
    look: DisplayMode,
    read_hosts: Callable[[], list[HostUsage]],
    clock: Callable[[], float],
    chosen: UsageFilter,
) -> UsageView:
    """Return the view. It reads keys if stdin is a terminal."""
    return UsageView(
        read_hosts,
        UsageViewState(chosen=chosen),
        stdout=unwrap_stream(process.stdout),
        colour=look.colour,
        unicode=look.unicode,
        keyboard=Keyboard(process.keyboard) if process.keyboard is not None else None,
        clock=clock,
    )
