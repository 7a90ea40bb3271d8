"""View of ``fanout attach``, with the reporters of hangs and slow ranks that print to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from fanout.diagnose.collector import EvidenceCollector
from fanout.logs.line_filters import DisplayFilters
from fanout.model.run_info import RunInfo
from fanout.model.subscriber import View
from fanout.run import diagnosis
from fanout.run.choose_view import build_view, choose_look
from fanout.run.command_context import CommandContext
from fanout.run.detach import DetachRequest
from fanout.run.slow_ranks import SlowRankReporter


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedView:
    """What the user sees of a run that another launcher started."""

    view: View
    hangs: diagnosis.HangReporter
    pace: SlowRankReporter
    detach_request: DetachRequest


def build_attached_view(
    heading: RunInfo,
    context: CommandContext,
    filters: DisplayFilters,
    collector: EvidenceCollector,
    *,
    muted: bool = False,
) -> AttachedView:
    """Return the view and its reporters. ``muted``: the reporters print only after the recorded events were shown."""
    detach_request = DetachRequest()
    hangs, pace = diagnosis.HangReporter(collector, muted=muted), SlowRankReporter(muted=muted)
    view = build_view(
        heading,
        choose_look(context),
        context.process,
        filters,
        preview=partial(diagnosis.preview_verdict, collector),
        slow=pace.slow_hosts,
        ranks=pace.summarize_ranks,
        hung=hangs.hung_hosts,
        detach=detach_request,
        viewing="attach",
    )
    pace.outputs.append(view.note)
    hangs.outputs.append(view.note)
    return AttachedView(view=view, hangs=hangs, pace=pace, detach_request=detach_request)
