"""The verdict as text: first cause, traceback, reasons, victims, and advice; and its summary for the short report."""

from __future__ import annotations

from collections.abc import Sequence

from fanout.diagnose.exit_codes import format_exit_code
from fanout.diagnose.tracebacks import fold_frames
from fanout.diagnose.verdict import Cause, Party, Verdict
from fanout.model.failure_summary import FailureSummary
from fanout.model.hosts import fold_names, fold_numbers
from fanout.model.process_names import name_process
from fanout.text.units import name_all

_LABEL = 13
_TRACE_LINES = 16
_WIDEST = 400


def render_lines(verdict: Verdict) -> list[str]:
    """Render the verdict as lines. The caller must sanitize them, because they quote host output."""
    out = [""]
    if verdict.cause is None:
        out.append(_render_row("first cause", "undetermined: no log line or event identifies the first failure"))
    else:
        out += _render_cause(verdict.cause, choose_label(verdict))
        for each in verdict.also:
            out += _render_cause(each, "candidate")
    out += _render_rows("why this one" if verdict.cause and not verdict.also else "evidence", verdict.evidence)
    if verdict.cause is not None:
        out += _render_rows("confidence", (verdict.confidence, *verdict.doubts))
        out += _render_rows("would refute", verdict.refutes)
    for name in ("victims", "collateral", "silent", "lost"):
        out += _render_parties(name, getattr(verdict, name))
    out += _render_rows("stacks", verdict.stands)
    out += _render_rows("on the hosts", verdict.hosts)
    out += _render_rows("try", verdict.advice)
    return out


def choose_label(verdict: Verdict) -> str:
    """Return the label of the cause: ``first cause``, ``likely cause`` (low confidence) or ``candidate``."""
    if verdict.also:
        return "candidate"
    return "likely cause" if verdict.confidence == "low" else "first cause"


def summarize_verdict(verdict: Verdict) -> FailureSummary:
    """Return what the short report shows of the verdict. The caller must sanitize it."""
    cause = verdict.cause
    if cause is None:
        return FailureSummary(
            sentence="",
            quote=verdict.evidence,
            stands=verdict.stands,
            hosts=verdict.hosts,
            advice=verdict.advice,
        )
    trace = fold_frames(cause.traceback)
    return FailureSummary(
        sentence=_summarize_causes(verdict, cause),
        step=_format_step(cause),
        host=cause.host or "",
        rank=cause.rank if len(cause.ranks) < 2 else None,
        quote=trace or ((cause.text,) if cause.text else cause.quote),
        error=cause.text if trace else "",
        confidence="" if verdict.confidence == "high" else "; ".join((verdict.confidence, *verdict.doubts)),
        stands=verdict.stands,
        hosts=verdict.hosts,
        advice=verdict.advice,
        victims=_list_victim_hosts(verdict, cause),
    )


def _list_victim_hosts(verdict: Verdict, cause: Cause) -> dict[str, str]:
    """Return the hosts whose ranks only lost a peer, and how; "" if that differs between their ranks."""
    blamed = {host for each in (cause, *verdict.also) for host in (each.host, *each.hosts)}
    hows: dict[str, list[str]] = {}
    for party in verdict.victims:
        if party.host not in blamed:
            hows.setdefault(party.host, []).append(party.how if party.lost_peer else "")
    return {host: texts[0] if len(set(texts)) == 1 else "" for host, texts in hows.items() if all(texts)}


def _summarize_causes(verdict: Verdict, cause: Cause) -> str:
    """Return the first cause as one clause that states its doubt."""
    if verdict.also:
        return f"not certain which came first: {'; or '.join(_format_clause(each) for each in (cause, *verdict.also))}"
    clause = _format_clause(cause)
    return f"{choose_label(verdict)}: {clause}" if verdict.confidence == "low" else clause


def _format_clause(cause: Cause) -> str:
    who = _describe_subject(cause)
    return f"{who}: {cause.says}" if len(cause.ranks) > 1 or len(cause.hosts) > 1 else f"{who} {cause.says}"


def _format_step(cause: Cause) -> str:
    if cause.step is None:
        return ""
    return f"{cause.step}/{cause.total_steps}" if cause.total_steps else str(cause.step)


def _describe_subject(cause: Cause) -> str:
    """Return the ranks and hosts of the cause."""
    who = cause.subject
    if cause.host is None:
        who = f"{who} between {fold_names(cause.hosts)}" if cause.hosts else who
    elif len(cause.ranks) > 1 or len(cause.hosts) > 1:
        where = f"ranks {fold_numbers(cause.ranks)} on " if len(cause.ranks) > 1 else ""
        where = f"{name_all(len(cause.ranks), 'rank')} on " if cause.whole else where
        who = (
            f"{where}{fold_names(cause.hosts)}, first on {cause.host}"
            if len(cause.hosts) > 1
            else f"{where}{cause.host}"
        )
    return who


def _render_cause(cause: Cause, label: str) -> list[str]:
    who = _describe_subject(cause)
    out = [_render_row(label, f"{who}{_format_details(cause)}"), _render_row("", cause.says[:_WIDEST])]
    if (
        cause.code is not None
        and cause.host_code is not None
        and cause.code != cause.host_code
        and cause.rank is not None
    ):
        out.append(
            _render_row(
                "",
                f"{format_exit_code(cause.code)} of rank {cause.rank} (torchrun itself exited with {cause.host_code})",
            )
        )
    trace = fold_frames(cause.traceback)
    if len(trace) > _TRACE_LINES:
        trace = (*trace[:2], f"  … {len(trace) - _TRACE_LINES} lines omitted", *trace[2 - _TRACE_LINES :])
    out += [f"    | {line[:_WIDEST]}" for line in trace]
    if not trace and cause.text:
        out.append(f"    | {cause.text[:_WIDEST]}")
    out += [f"    | {line[:_WIDEST]}" for line in cause.quote if not trace and not cause.text]
    if cause.file:
        out.append(_render_row("seen in", f"{cause.file}:{cause.line}" if cause.line else cause.file))
    return out


def _format_details(cause: Cause) -> str:
    parts = []
    if cause.local_rank is not None:
        parts.append(f"local rank {cause.local_rank}")
    if cause.gpu:
        parts.append(f"GPU {cause.gpu}")
    if cause.pid is not None:
        parts.append(name_process(cause.pid, cause.container))
    if cause.code is not None and cause.rank is not None:
        parts.append(format_exit_code(cause.code))
    return f" ({', '.join(parts)})" if parts else ""


def _render_parties(name: str, parties: Sequence[Party]) -> list[str]:
    groups: dict[str, list[Party]] = {}
    for each in parties:
        groups.setdefault(each.how, []).append(each)
    texts = [f"{_format_people(each)}: {how}" if how else _format_people(each) for how, each in groups.items()]
    if len(texts) > 4:
        texts = [*texts[:3], f"{_format_people([p for group in list(groups.values())[3:] for p in group])}: similar"]
    return _render_rows(name, texts)


def _format_people(parties: Sequence[Party]) -> str:
    ranks = [each.rank for each in parties if each.rank is not None]
    hosts = fold_names(dict.fromkeys(each.host for each in parties))
    if not ranks:
        return hosts
    return f"{'ranks' if len(ranks) > 1 else 'rank'} {fold_numbers(ranks)} on {hosts}"


def _render_rows(name: str, texts: Sequence[str]) -> list[str]:
    return [_render_row(name if not number else "", text[:_WIDEST]) for number, text in enumerate(texts)]


def _render_row(name: str, text: str) -> str:
    return f"  {name:<{_LABEL}}{text}".rstrip()
