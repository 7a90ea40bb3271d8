"""Proof rule: a kernel log line, or the OOM counter of the run's cgroup, explains the end of a process of the run."""

from __future__ import annotations

import re
from dataclasses import replace

from fanout.diagnose.candidates import Candidate, build_match_cause
from fanout.diagnose.evidence import LogMatch
from fanout.diagnose.evidence_order import NO_PID, Doubt
from fanout.diagnose.rule_context import RuleContext, RuleResult
from fanout.logs import rank_prefix

_OOM = ("kernel-oom", "oom-daemon")
_GPU_FAULTS = ("xid", "gpu-lost", "sxid")
_GPU_ERRORS = ("cuda-illegal-access", "cuda-kernel-failed", "nccl-cuda", "nccl-cuda-error")
_KILLED = ("loader-killed", "shell-killed")
_TRAINING = re.compile(r"python|pt_main_thread|pt_data_worker|torchrun|deepspeed|accelerate|ray")
_ADVICE = "use fewer data loader workers, less pinned memory or a smaller batch; `dmesg` there names the process"


def find_proof(case: RuleContext) -> RuleResult | None:
    """Return the process whose end a kernel log line (or an OOM kill counter) proves."""
    kernel = [each for each in case.evidence.sightings if each.kind == "kernel"]
    for seen in kernel:
        pid = rank_prefix.parse_number(seen.fields.get("pid"))
        for suspect in (each for each in case.suspects if each.host == seen.host and each.has_ended):
            if pid is not None and pid in _list_pids(suspect):
                return _build_proof(suspect, seen)
    for suspect in case.suspects:
        if suspect.over is not None and suspect.over.oom and _was_killed(suspect):
            text = f"the kernel of {suspect.host} OOM-killed a process of this run"
            cause = replace(suspect.build_cause(), signature="kernel-oom", says="was OOM-killed")
            return RuleResult(cause=cause, evidence=(text,), suspect=suspect, advice=(_ADVICE,))
    return _find_without_pid(case, kernel) or _find_broken_gpu(case, kernel)


def _find_broken_gpu(case: RuleContext, kernel: list[LogMatch]) -> RuleResult | None:
    """Return the first failed process if it had an error of its GPU, and its kernel logged a fault that names no pid."""
    first = min(case.own_failures, key=lambda each: each.end, default=None)
    if first is None or first.signature not in _GPU_ERRORS:
        return None
    here = [each for each in kernel if each.host == first.host and each.signature in _GPU_FAULTS]
    unnamed = [each for each in here if each.fields.get("pid") is None]
    return _build_proof(first, unnamed[0]) if unnamed else None


def _find_without_pid(case: RuleContext, kernel: list[LogMatch]) -> RuleResult | None:
    """Return the only process of a host that SIGKILL ended, if its pid is unknown and its kernel OOM-killed one process."""
    for suspect in case.suspects:
        here = [each for each in kernel if each.host == suspect.host and each.signature in _OOM]
        killed = [each for each in case.suspects if each.host == suspect.host and _was_killed(each)]
        if killed == [suspect] and not _list_pids(suspect) and len({each.fields.get("pid") for each in here}) == 1:
            return _build_proof(suspect, here[0], NO_PID)
    return None


def find_unexplained_kill(case: RuleContext) -> RuleResult | None:
    """Return the host whose kernel OOM-killed a Python process, if nothing else is known about the host.

    In a live run the host itself reports whether the process belonged to the run.
    """
    if case.evidence.live or (case.evidence.logged and not case.victim_matches):
        return None
    known = {each.host for each in case.suspects} | {each.host for each in case.victim_matches}
    kernel = [each for each in case.evidence.sightings if each.kind == "kernel" and each.signature in _OOM]
    here = [each for each in kernel if each.host not in known and _TRAINING.match(each.fields.get("name", ""))]
    if len({each.host for each in here}) != 1:
        return None
    seen = here[0]
    says = f"had a process OOM-killed by the kernel ({seen.fields.get('name')}, pid {seen.fields.get('pid')})"
    cause = build_match_cause(seen, signature=seen.signature, says=says, hosts=(seen.host,))
    return RuleResult(
        cause=cause, evidence=(f"{seen.file}:{seen.line}: {seen.text}",), doubts=(NO_PID,), advice=(seen.advice,)
    )


def _was_killed(suspect: Candidate) -> bool:
    """Return whether SIGKILL ended the process, or a process that it started."""
    end = suspect.over
    code = suspect.death.code if suspect.death else -(end.signal or 0) or end.code if end else 0
    return code in (-9, 137) or suspect.signature in _KILLED


def _list_pids(suspect: Candidate) -> set[int]:
    """Return the pids behind the candidate: its own, and those that its error names (data loader workers)."""
    named = suspect.sighting.fields if suspect.sighting is not None else {}
    texts = f"{named.get('pid', '')} {named.get('pids', '')}".replace(",", " ").split()
    found = {pid for text in texts if (pid := rank_prefix.parse_number(text)) is not None}
    return found | ({suspect.death.pid} if suspect.death is not None else set())


def _build_proof(suspect: Candidate, seen: LogMatch, *doubts: Doubt) -> RuleResult:
    cause = replace(suspect.build_cause(), signature=seen.signature, says=seen.says)
    text = f"{seen.file}:{seen.line}: {seen.text}"
    return RuleResult(cause=cause, evidence=(text,), doubts=doubts, suspect=suspect, advice=(seen.advice,))
