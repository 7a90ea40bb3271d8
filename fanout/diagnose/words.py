"""The verdict as text: first cause, traceback, reasons, victims, and advice."""

from __future__ import annotations

from collections.abc import Sequence

from fanout.diagnose.decode import short
from fanout.diagnose.tracebacks import folded
from fanout.diagnose.verdict import Cause, Party, Verdict
from fanout.hosts import fold

_LABEL = 13
_TRACE_LINES = 16
_WIDEST = 400


def lines(verdict: Verdict) -> list[str]:
    """Render the verdict as lines. The caller must sanitize them, because they quote host output."""
    out = [""]
    if verdict.cause is None:
        out.append(_fact("first cause", "undetermined: no log line or event identifies the first failure"))
    else:
        out += _cause(verdict.cause, label(verdict))
        for each in verdict.also:
            out += _cause(each, "candidate")
    out += _several("why this one" if verdict.cause and not verdict.also else "evidence", verdict.evidence)
    if verdict.cause is not None:
        out.append(_fact("confidence", verdict.confidence))
        out += _several("refuted by", verdict.refutes)
    for name in ("victims", "collateral", "silent", "lost"):
        out += _parties(name, getattr(verdict, name))
    out += _several("stacks", verdict.stands)
    out += _several("on the hosts", verdict.hosts)
    out += _several("try", verdict.advice)
    return out


def label(verdict: Verdict) -> str:
    """Return the label of the cause: ``first cause``, ``likely cause`` (low confidence) or ``candidate``."""
    if verdict.also:
        return "candidate"
    return "likely cause" if verdict.confidence == "low" else "first cause"


def _cause(cause: Cause, label: str) -> list[str]:
    who = cause.who
    if cause.host is None:
        who = f"{who} between {fold(cause.hosts)}" if cause.hosts else who
    elif len(cause.ranks) > 1 or len(cause.hosts) > 1:
        where = f"ranks {_numbers(cause.ranks)} on " if len(cause.ranks) > 1 else ""
        where = f"all {len(cause.ranks)} ranks on " if cause.whole else where
        who = f"{where}{fold(cause.hosts)}, first on {cause.host}" if len(cause.hosts) > 1 else f"{where}{cause.host}"
    out = [_fact(label, f"{who}{_details(cause)}"), _fact("", cause.says[:_WIDEST])]
    if (
        cause.code is not None
        and cause.host_code is not None
        and cause.code != cause.host_code
        and cause.rank is not None
    ):
        out.append(
            _fact("", f"{short(cause.code)} of rank {cause.rank} (torchrun itself exited with {cause.host_code})")
        )
    trace = folded(cause.traceback)
    if len(trace) > _TRACE_LINES:
        trace = (*trace[:2], f"  … {len(trace) - _TRACE_LINES} lines omitted", *trace[2 - _TRACE_LINES :])
    out += [f"    | {line[:_WIDEST]}" for line in trace]
    if not trace and cause.text:
        out.append(f"    | {cause.text[:_WIDEST]}")
    out += [f"    | {line[:_WIDEST]}" for line in cause.quote if not trace and not cause.text]
    if cause.file:
        out.append(_fact("seen in", f"{cause.file}:{cause.line}" if cause.line else cause.file))
    return out


def _details(cause: Cause) -> str:
    parts = []
    if cause.local_rank is not None:
        parts.append(f"local rank {cause.local_rank}")
    if cause.gpu:
        parts.append(f"GPU {cause.gpu}")
    if cause.pid is not None:
        parts.append(f"pid {cause.pid}")
    if cause.code is not None and cause.rank is not None:
        parts.append(short(cause.code))
    return f" ({', '.join(parts)})" if parts else ""


def _parties(name: str, parties: Sequence[Party]) -> list[str]:
    groups: dict[str, list[Party]] = {}
    for each in parties:
        groups.setdefault(each.how, []).append(each)
    texts = [f"{_people(each)}: {how}" if how else _people(each) for how, each in groups.items()]
    if len(texts) > 4:
        texts = [*texts[:3], f"{_people([p for group in list(groups.values())[3:] for p in group])}: similar"]
    return _several(name, texts)


def _people(parties: Sequence[Party]) -> str:
    ranks = [each.rank for each in parties if each.rank is not None]
    hosts = fold(dict.fromkeys(each.host for each in parties))
    if not ranks:
        return hosts
    return f"{'ranks' if len(ranks) > 1 else 'rank'} {_numbers(ranks)} on {hosts}"


def _numbers(ranks: Sequence[int]) -> str:
    return fold(str(rank) for rank in sorted(ranks)).strip("[]")


def _several(name: str, texts: Sequence[str]) -> list[str]:
    return [_fact(name if not number else "", text[:_WIDEST]) for number, text in enumerate(texts)]


def _fact(name: str, text: str) -> str:
    return f"  {name:<{_LABEL}}{text}".rstrip()
