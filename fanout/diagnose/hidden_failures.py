"""Hidden failures: torchrun reported a failure, but train.sh exited with 0."""

from __future__ import annotations

from fanout.diagnose.evidence import Evidence, ProcessExit
from fanout.diagnose.last_lines import StreamTail, is_torchrun_line
from fanout.logs.metric_line import parse_growing_number

LATE_SECONDS = 2.0  # the last output of a rank may arrive this much later than torchrun's report about it


def find_hidden_failures(evidence: Evidence) -> tuple[ProcessExit, ...]:
    """Return the failed processes of hosts whose script exited with 0 without any training afterwards.

    A script that restarts torchrun after a failure and then succeeds has hidden nothing.
    """
    found = [death for death in evidence.deaths if not death.was_stopped and death.code != 0]
    ended = {host for host, end in evidence.ends.items() if end.kind == "ended" and end.code == 0 and not end.why}
    last = {death.host: death.at for death in found if death.host in ended}
    hidden = {
        host
        for host, at in last.items()
        if not any(_has_continued(tail, at) for tail in evidence.tails if tail.host == host)
    }
    return tuple(death for death in found if death.host in hidden)


def _has_continued(tail: StreamTail, failed_at: float) -> bool:
    """Return whether a rank wrote after torchrun's report, or steps come after it in a stream that all share."""
    if tail.rank is not None:
        return tail.at > failed_at + LATE_SECONDS
    lines = [text for _, text in tail.lines]
    reports = [number for number, text in enumerate(lines) if is_torchrun_line(text)]
    after = lines[reports[-1] + 1 :] if reports else lines
    return tail.at > failed_at and any(parse_growing_number(text) is not None for text in after)
