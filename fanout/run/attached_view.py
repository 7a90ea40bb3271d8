"""View of ``fanout attach``, with the reporters of hangs and slow ranks that print to it."""

from __future__ import annotations

from fanout.diagnose.collector import EvidenceCollector
from fanout.logs.line_filters import DisplayFilters
from fanout.model.run_info import RunInfo
from fanout.run.attempt_reporters import AttemptReporters, CurrentReporters
from fanout.run.choose_view import build_view, choose_look
from fanout.run.command_context import CommandContext
from fanout.run.detach import DetachRequest
from fanout.ui.view_facts import StackSource


class AttachedView:
    """What the user sees of a run that another launcher started. It stays open for all attempts."""

    def __init__(
        self,
        heading: RunInfo,
        context: CommandContext,
        filters: DisplayFilters,
        collector: EvidenceCollector,
        stacks: StackSource,
        *,
        muted: bool = False,
    ) -> None:
        """Open the view. ``muted``: the reporters print only after the recorded events were shown."""
        self.detach_request = DetachRequest()
        self._muted = muted
        self._current = CurrentReporters(AttemptReporters.build(collector, muted=muted))
        self.view = build_view(
            heading,
            choose_look(context),
            context.process,
            filters,
            reporters=self._current,
            detach=self.detach_request,
            stacks=stacks,
            viewing="attach",
        )
        self.reporters.add_output(self.view.note)

    @property
    def reporters(self) -> AttemptReporters:
        """Return the reporters of the current attempt."""
        return self._current.current

    def begin_attempt(self, heading: RunInfo, collector: EvidenceCollector) -> None:
        """Show the next attempt, with reporters of its own."""
        self.view.begin_attempt(heading)
        self._current.current = AttemptReporters.build(collector, muted=self._muted)
        self.reporters.add_output(self.view.note)
