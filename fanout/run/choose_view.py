"""View selection: choose the view of a run for this terminal and these flags, and build it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fanout.logs.line_filters import DisplayFilters
from fanout.model.run_info import RunInfo
from fanout.model.subscriber import View, Viewing
from fanout.run.attempt_reporters import CurrentReporters
from fanout.run.command_context import CommandContext
from fanout.run.process_context import ProcessContext
from fanout.ui.display_mode import DisplayMode, choose_display_mode
from fanout.ui.view_facts import ReplayControls, StackSource


def choose_look(context: CommandContext, output: str = "") -> DisplayMode:
    """Return the view mode, colours and characters for this stdout; ``output`` overrides the setting."""
    process, settings = context.process, context.settings
    return choose_display_mode(
        process.environ,
        isatty=process.stdout.isatty(),
        encoding=getattr(process.stdout, "encoding", None),
        settings=replace(settings, output=output) if output else settings,
    )


def build_view(
    heading: RunInfo,
    look: DisplayMode,
    process: ProcessContext,
    filters: DisplayFilters,
    *,
    reporters: CurrentReporters,
    detach: Callable[[], None] | None = None,
    stop: Callable[[], None] | None = None,
    stacks: StackSource | None = None,
    replay: ReplayControls | None = None,
    waits: bool = True,
    viewing: Viewing = "run",
) -> View:
    """Return the chosen view. Only the live view imports rich; it reads keys if stdin is a terminal.

    ``waits``: wait for a reader that does not read. The live view never waits.
    """
    if look.mode == "live":
        controls = {"detach": detach, "stop": stop, "stacks": stacks, "replay": replay}
        return _build_live_view(heading, look, process, filters, reporters, viewing, controls)
    if look.mode == "silent":
        from fanout.ui.silent_view import SilentView

        return SilentView()
    if look.mode == "json":
        from fanout.ui.json_lines import JsonLines

        return JsonLines(heading, stdout=process.stdout, waits=waits)
    from fanout.ui.plain_view import PlainView

    return PlainView(
        heading,
        stdout=process.stdout,
        stderr=process.stderr,
        filters=filters,
        colour=look.colour,
        columns=process.columns if process.stderr.isatty() else None,
        waits=waits,
        slow=reporters.list_slow_hosts,
        ranks=reporters.summarize_ranks,
        hung=reporters.find_hung_hosts,
    )


def _build_live_view(
    heading: RunInfo,
    look: DisplayMode,
    process: ProcessContext,
    filters: DisplayFilters,
    reporters: CurrentReporters,
    viewing: Viewing,
    controls: Mapping[str, Any],
) -> View:
    """Return the live view, or that of a replay. ``controls``: what its keys call, by parameter of the view."""
    from fanout.ui.keyboard import Keyboard
    from fanout.ui.live_view import LiveView
    from fanout.ui.replay_view import ReplayView
    from fanout.ui.safe_writer import unwrap_stream

    kind = ReplayView if viewing == "replay" else LiveView
    return kind(
        heading,
        stdout=unwrap_stream(process.stdout),
        colour=look.colour,
        unicode=look.unicode,
        filters=filters,
        keyboard=Keyboard(process.keyboard) if process.keyboard is not None else None,
        preview=reporters.preview_verdict,
        **controls,
        slow=reporters.list_slow_hosts,
        ranks=reporters.summarize_ranks,
        hung=reporters.find_hung_hosts,
        viewing=viewing,
    )
