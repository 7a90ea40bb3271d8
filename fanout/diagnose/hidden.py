"""Failures that torchrun reported and train.sh hid: its own status was 0."""

from __future__ import annotations

from fanout.diagnose import shapes
from fanout.diagnose.evidence import Death, Evidence
from fanout.diagnose.lastlines import Tail, is_torchruns

LATE_SECONDS = 2.0  # what a rank wrote before its end may arrive so much later than torchrun's word about it


def failures(evidence: Evidence) -> tuple[Death, ...]:
    """Return the failed processes of hosts whose script ended with 0 and on which nothing was trained afterwards.

    A script that starts torchrun again after a failure, and then ends well, has hidden nothing.
    """
    found = [death for death in evidence.deaths if not death.told and death.code != 0]
    ended = {host for host, end in evidence.ends.items() if end.kind == "ended" and end.code == 0 and not end.why}
    last = {death.host: death.at for death in found if death.host in ended}
    hidden = {
        host for host, at in last.items() if not any(_went_on(tail, at) for tail in evidence.tails if tail.host == host)
    }
    return tuple(death for death in found if death.host in hidden)


def _went_on(tail: Tail, failed_at: float) -> bool:
    """Return whether a rank wrote after torchrun's report, or steps come after it in a stream that all share."""
    if tail.rank is not None:
        return tail.at > failed_at + LATE_SECONDS
    lines = [text for _, text in tail.lines]
    reports = [number for number, text in enumerate(lines) if is_torchruns(text)]
    after = lines[reports[-1] + 1 :] if reports else lines
    return tail.at > failed_at and any(shapes.progress(text) is not None for text in after)
