"""Reporters of an attempt: evidence, hangs and slow ranks. A view of the whole run uses those of the current attempt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fanout.diagnose.collector import EvidenceCollector
from fanout.logs.run_progress import RankProgress
from fanout.model.frozen import frozen
from fanout.model.state import RunState
from fanout.run import diagnosis
from fanout.run.slow_ranks import SlowRankReporter


@frozen
class AttemptReporters:
    """The reporters of one attempt. They are subscribers of its events."""

    collector: EvidenceCollector
    hangs: diagnosis.HangReporter
    pace: SlowRankReporter

    @classmethod
    def build(cls, collector: EvidenceCollector, *, muted: bool = False) -> AttemptReporters:
        """Return new reporters. ``muted``: they print only after the recorded events were read."""
        hangs, pace = diagnosis.HangReporter(collector, muted=muted), SlowRankReporter(muted=muted)
        return cls(collector=collector, hangs=hangs, pace=pace)

    def add_output(self, output: Callable[[str], None]) -> None:
        """Print the messages of both reporters with ``output`` too."""
        self.hangs.outputs.append(output)
        self.pace.outputs.append(output)


class CurrentReporters:
    """The reporters of the current attempt, for a view that stays open for several attempts."""

    def __init__(self, reporters: AttemptReporters) -> None:
        self.current = reporters

    def preview_verdict(self, state: RunState) -> Sequence[str]:
        """Return the lines of the verdict, as if the attempt ended now."""
        return diagnosis.preview_verdict(self.current.collector, state)

    def list_slow_hosts(self) -> Mapping[str, str]:
        """Return host -> short text, for each host with a rank that is slow now."""
        return self.current.pace.slow_hosts()

    def summarize_ranks(self) -> RankProgress:
        """Return the progress of all ranks."""
        return self.current.pace.summarize_ranks()

    def find_hung_hosts(self, state: RunState) -> Mapping[str, str] | None:
        """Return the hosts that cause a hang, with the state of their rank; None while the attempt does not hang."""
        return self.current.hangs.hung_hosts(state)
