"""The verdict as values: first cause, other ranks by class, evidence, confidence, and advice."""

from __future__ import annotations

from typing import Any, Literal

from fanout.diagnose.exit_codes import format_exit_code
from fanout.model.frozen import frozen

Confidence = Literal["high", "medium", "low", "undetermined"]


@frozen
class Cause:
    """The first cause. ``signature`` is the id of a signature, else exit, signal, lost, silent, unheard, network.

    ``ranks`` are all ranks with the same error in this failure. ``code`` is the exit code of the process (negative: a
    signal), ``host_code`` that of the script on its host.
    """

    signature: str
    says: str
    host: str | None
    rank: int | None = None
    local_rank: int | None = None
    gpu: str = ""
    pid: int | None = None
    container: str = ""  # to which ``pid`` belongs
    code: int | None = None
    host_code: int | None = None
    at: float | None = None
    text: str = ""
    file: str = ""
    line: int = 0
    traceback: tuple[str, ...] = ()
    quote: tuple[str, ...] = ()  # last log lines of the cause, if there is neither a traceback nor a text
    ranks: tuple[int, ...] = ()
    hosts: tuple[str, ...] = ()
    whole: bool = False  # ``ranks`` are all ranks of the run
    step: int | None = None  # the last one that its ranks logged, or else any rank of the run
    total_steps: int | None = None

    @property
    def subject(self) -> str:
        """Return the name of the cause: ``rank 13 on gpu02``, ``gpu02``, ``the network``."""
        if self.host is None:
            if self.rank is not None:
                return f"rank {self.rank}"
            return {"network": "the network", "unheard": "the launcher"}.get(self.signature, "the run")
        if self.rank is None:
            return self.host
        return f"rank {self.rank} on {self.host}"

    @property
    def sentence(self) -> str:
        return f"{self.subject} {self.says}"


@frozen
class Party:
    """Another rank, or (rank None) a host, and how it ended. ``lost_peer``: it only lost a peer or timed out."""

    host: str
    rank: int | None
    how: str
    lost_peer: bool = False


@frozen
class Verdict:
    """Result of the diagnosis. ``also`` holds candidates that the evidence cannot separate from the cause."""

    cause: Cause | None
    confidence: Confidence
    rule: str = ""
    doubts: tuple[str, ...] = ()  # reasons for a confidence that is not high
    also: tuple[Cause, ...] = ()
    victims: tuple[Party, ...] = ()
    collateral: tuple[Party, ...] = ()
    silent: tuple[Party, ...] = ()
    lost: tuple[Party, ...] = ()
    evidence: tuple[str, ...] = ()
    refutes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    stands: tuple[str, ...] = ()  # stacks of the ranks, grouped
    hosts: tuple[str, ...] = ()  # unusual facts about the hosts

    @property
    def sentence(self) -> str:
        """Return the verdict in one sentence."""
        if self.cause is None:
            return "undetermined: no log line or event identifies the first failure"
        if self.also:
            return f"undetermined between: {'; '.join(each.sentence for each in (self.cause, *self.also))}"
        return self.cause.sentence


def to_dict(verdict: Verdict) -> dict[str, Any]:
    """Convert the verdict for ``verdict.json`` and ``--json``. Keys are only added, never renamed."""
    return {
        "v": 1,
        "verdict": verdict.sentence,
        "confidence": verdict.confidence,
        "rule": verdict.rule,
        "doubts": list(verdict.doubts),
        "cause": _cause_to_dict(verdict.cause) if verdict.cause else None,
        "also": [_cause_to_dict(each) for each in verdict.also],
        "victims": _parties_to_dicts(verdict.victims),
        "collateral": _parties_to_dicts(verdict.collateral),
        "silent": _parties_to_dicts(verdict.silent),
        "lost": _parties_to_dicts(verdict.lost),
        "evidence": list(verdict.evidence),
        "refuted_by": list(verdict.refutes),
        "advice": list(verdict.advice),
        "stands": list(verdict.stands),
        "hosts": list(verdict.hosts),
    }


def _cause_to_dict(cause: Cause) -> dict[str, Any]:
    code = None if cause.code is None or cause.code < 0 else cause.code
    return {
        "signature": cause.signature,
        "says": cause.says,
        "host": cause.host,
        "rank": cause.rank,
        "local_rank": cause.local_rank,
        "gpu": cause.gpu or None,
        "pid": cause.pid,
        "container": cause.container or None,
        "exit": code,
        "signal": format_exit_code(cause.code) if cause.code is not None and cause.code < 0 else None,
        "t": cause.at,
        "line": cause.text,
        "file": f"{cause.file}:{cause.line}" if cause.file and cause.line else cause.file,
        "traceback": list(cause.traceback),
        "quote": list(cause.quote),
        "ranks": list(cause.ranks),
        "hosts": list(cause.hosts),
        "step": cause.step,
        "total_steps": cause.total_steps,
    }


def _parties_to_dicts(parties: tuple[Party, ...]) -> list[dict[str, Any]]:
    return [{"host": each.host, "rank": each.rank, "how": each.how} for each in parties]
