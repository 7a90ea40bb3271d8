"""Screen of a run: its view stays open from the first attempt to the last, also between two attempts."""

from __future__ import annotations

from collections.abc import Callable

from fanout.logs.line_filters import DisplayFilters
from fanout.model.events import Event
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.run import detach
from fanout.run.attempt_reporters import AttemptReporters, CurrentReporters
from fanout.run.choose_view import build_view
from fanout.run.live_stacks import SessionStacks
from fanout.run.process_context import ProcessContext
from fanout.ui.display_mode import DisplayMode


class RunScreen(detach.DetachableView):
    """The view of all attempts. See DetachableView for ``parent_pipe`` and ``keep``. ``stop`` stops the run, as Ctrl-C does."""

    def __init__(
        self,
        heading: RunInfo,
        reporters: AttemptReporters,
        look: DisplayMode,
        process: ProcessContext,
        filters: DisplayFilters,
        *,
        parent_pipe: detach.ParentPipe | None,
        keep: bool,
        stop: Callable[[], None] | None = None,
    ) -> None:
        detach_request = detach.DetachRequest()
        self._reporters = CurrentReporters(reporters)
        self._attempt: AttemptView | None = None
        self.stacks = SessionStacks()
        view = build_view(
            heading,
            look,
            process,
            filters,
            reporters=self._reporters,
            detach=detach_request if parent_pipe is not None else None,
            stop=stop,
            stacks=self.stacks,
            waits=False,
        )
        restarts = heading.attempt.max_restarts > 0
        super().__init__(view, parent_pipe=parent_pipe, keep=keep, restarts=restarts, detach_request=detach_request)

    def show_attempt(
        self, heading: RunInfo, reporters: AttemptReporters, on_leave: Callable[[str], None]
    ) -> AttemptView:
        """Show this attempt from now on, and no event of the attempt before. Return the subscriber for its events."""
        if self._attempt is not None:
            self._attempt.is_current = False
            self.begin_attempt(heading)
        self.on_leave, self._reporters.current = on_leave, reporters
        self._attempt = AttemptView(self)
        return self._attempt


class AttemptView:
    """Subscriber that shows the events and messages of one attempt while it is the current one."""

    def __init__(self, screen: RunScreen) -> None:
        self._screen = screen
        self.is_current = True

    @property
    def broken(self) -> bool:
        return self.is_current and self._screen.broken

    def __call__(self, event: Event, state: RunState) -> None:
        if self.is_current:
            self._screen(event, state)

    def note(self, text: str) -> None:
        """Show a message."""
        if self.is_current:
            self._screen.note(text)
