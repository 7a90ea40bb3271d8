"""Check report: a table of hosts, facts that all hosts share, notes, warnings, failures, and what to type last. Pure.

Symbols carry the meaning without colour (``✓ ! ✗``, in ASCII ``ok ! x``). Equal findings of several hosts are merged.
With more than 24 hosts, equal rows of the table are merged.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fanout.checks.deep import torch_table
from fanout.checks.engine.definition import CheckContext, CheckFinding, Level
from fanout.checks.engine.host_table import CheckRow, build_rows
from fanout.model.frozen import frozen
from fanout.model.hosts import fold_names
from fanout.text.table import count_columns, cut_text, format_table
from fanout.text.wrap import break_host_set, wrap_text

MOST_ROWS = 24
_MANY = 6  # names of one group with one reason; more are shown as a count
_PAGE = 100  # columns without a terminal
_SYMBOLS: dict[Level, tuple[str, str]] = {
    "fail": ("✗", "x"), "warn": ("!", "!"), "info": ("·", "-"), "skip": ("–", "-"), "ok": ("✓", "ok"),
}  # fmt: skip
_DISPENSABLE = ("cpus", "procs", "login", "mem free", "driver", "disk free", "clock", "torch")  # dropped if too wide
_HINT = ["", "-v shows what is equal on all hosts, and what was not checked"]
#: What differs between hosts with the same finding: the login of a command, and the address of a host.
_LOGIN = re.compile(r"\bssh (?:-\S+(?: [^-\s]\S*)? )*[^-\s]\S*(?= )|[\w.-]+@[\w.:%\[\]-]+")
_SAME = (
    "workdir",
    "shared",
    "script",
    "bash",
    "torchrun",
    "interpreter",
    "torch",
    "gpu",
    "clock",
    "passes-on",
    "evidence",
)


@frozen
class ReportStyle:
    """Width of the terminal in columns (None: no terminal, no wrapping), limit to ASCII, and how much is shown."""

    width: int | None = 100
    ascii: bool = False
    verbose: bool = False  # show what all hosts share and what was not checked also after a failure

    def get_symbol(self, level: Level) -> str:
        return _SYMBOLS[level][self.ascii]

    def to_plain_text(self, text: str) -> str:
        """Return ``text`` in characters that this terminal can show."""
        if not self.ascii:
            return text
        for letter, instead in (("×", "x"), ("…", "..."), ("·", "-"), ("–", "-"), ("“", '"'), ("”", '"')):
            text = text.replace(letter, instead)
        return text.encode("ascii", "replace").decode()


def render_check_report(
    title: str,
    case: CheckContext,
    findings: Sequence[CheckFinding],
    seconds: float,
    style: ReportStyle,
    next_command: str = "",
) -> tuple[str, ...]:
    """Return the whole report, line by line. It ends with ``next_command`` if no check failed."""
    rows = build_rows(case, findings)
    lines = [*_render_header(title, rows, seconds, style).splitlines(), ""]
    lines += _render_table(rows, style)
    lines += torch_table.render_bandwidth_tables(case)
    rest = [*_render_shared_facts(case, findings, style), *_render_skipped_checks(case, findings, style)]
    has_failed = any(finding.level == "fail" for finding in findings)
    lines += rest if style.verbose or not has_failed else _HINT * bool(rest)
    for heading, level in (("NOTES", "info"), ("WARNINGS", "warn"), ("FAILED", "fail")):
        chosen = merge_findings([finding for finding in findings if finding.level == level])
        if chosen:
            lines += ["", heading, *_render_findings(chosen, style)]
    lines += ["", *_render_closing(case, rows, findings, style)]
    lines += [f"next:  {next_command}"] * (bool(next_command) and not has_failed)
    return tuple(style.to_plain_text(line).rstrip() for line in lines)


def _render_header(title: str, rows: Sequence[CheckRow], seconds: float, style: ReportStyle) -> str:
    bad, warnings = (sum(row.level == level for row in rows) for level in ("fail", "warn"))
    parts = [f"{len(rows) - bad - warnings} ok"]
    if warnings:
        parts.append(f"{warnings} warning{'s' * (warnings != 1)}")
    if bad:
        parts.append(f"{bad} failed")
    right = f"{len(rows)} host{'s' * (len(rows) != 1)} · {seconds:.1f} s · [{', '.join(parts)}]"
    gap = (style.width or _PAGE) - len(title) - len(right)
    return f"{title}{' ' * gap}{right}" if gap >= 2 else f"{title}\n{right}"


# -- the table of hosts


def _render_table(rows: Sequence[CheckRow], style: ReportStyle) -> list[str]:
    folded = list(rows) if len(rows) <= MOST_ROWS else merge_rows(rows)
    hidden = folded[MOST_ROWS:]
    folded = folded[:MOST_ROWS]
    names = [name for name in folded[0].cells if any(row.cells[name].text not in ("", "–") for row in folded)]
    lines = _align_table(folded, names, style)
    for name in _DISPENSABLE:
        if style.width is None or max(map(count_columns, lines)) <= style.width:
            break
        names = [kept for kept in names if kept != name]
        lines = _align_table(folded, names, style)
    if hidden:
        lines.append(f"   … {len(hidden)} more rows:  --json")
    return lines


def _align_table(rows: Sequence[CheckRow], names: Sequence[str], style: ReportStyle) -> list[str]:
    """Lay out headings and rows in columns: the host left-aligned, the other cells right-aligned."""
    table = [
        [
            style.get_symbol(row.level),
            cut_text(fold_names(row.hosts), (style.width or 2 * _PAGE) // 2),
            *(row.cells[name].text for name in names),
        ]
        for row in rows
    ]
    return format_table(table, header=["", "host", *names], right=frozenset(range(2, 2 + len(names))))


def merge_rows(rows: Sequence[CheckRow]) -> list[CheckRow]:
    """Merge equal rows and keep the worst of their measured cells. Failed rows come first, then warnings."""
    groups: dict[tuple[object, ...], list[CheckRow]] = {}
    for row in rows:
        key = (row.level, row.problems, *(cell.text for cell in row.cells.values() if cell.measure is None))
        groups.setdefault(key, []).append(row)
    merged_rows = []
    for group in groups.values():
        cells = {}
        for name in group[0].cells:
            cells[name] = max((row.cells[name] for row in group), key=lambda cell: cell.measure or 0.0)
        hosts = tuple(host for row in group for host in row.hosts)
        merged_rows.append(CheckRow(hosts=hosts, level=group[0].level, cells=cells, problems=group[0].problems))
    order = {"fail": 0, "warn": 1}
    return sorted(merged_rows, key=lambda row: order.get(row.level, 2))


# -- failures and warnings


def merge_findings(findings: Sequence[CheckFinding]) -> list[CheckFinding]:
    """Merge equal findings of several hosts; the name and the login of the host itself are no difference."""
    groups: dict[tuple[str, str, str], list[CheckFinding]] = {}
    for finding in findings:
        groups.setdefault(
            (finding.check, _mask_host(finding, finding.saw), _mask_host(finding, finding.advice)), []
        ).append(finding)
    result = []
    for group in groups.values():
        first = group[0]
        hosts = tuple(dict.fromkeys(host for finding in group for host in finding.hosts))
        differ = any(finding.advice != first.advice for finding in group)
        advice = f"{first.advice}   (likewise on the others)" if differ else first.advice
        result.append(replace(first, hosts=hosts, advice=advice))
    return result


def _mask_host(finding: CheckFinding, text: str) -> str:
    """Return the text without the name and the login of the host, if the finding is about one host."""
    return _LOGIN.sub("\0", text.replace(finding.hosts[0], "\0")) if len(finding.hosts) == 1 else text


def _render_findings(findings: Sequence[CheckFinding], style: ReportStyle) -> list[str]:
    hosts = min(24, max(len(fold_names(finding.hosts)) for finding in findings))
    checks = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        lead = f"  {style.get_symbol(finding.level)} {fold_names(finding.hosts):<{hosts}}  {finding.check:<{checks}}  "
        indent = " " * min(len(lead), 40)
        below = indent if style.width is None or style.width >= _PAGE else indent[: style.width // 5]
        if style.width and len(lead) + 30 > style.width:  # very many hosts: their names go on separate lines
            first, *further = break_host_set(fold_names(finding.hosts), style.width - 4)
            lines += [f"  {style.get_symbol(finding.level)} {first}", *(f"    {part}" for part in further)]
            lead = f"    {finding.check}  "
        lines += wrap_text(finding.saw, lead, indent, style.width)
        if finding.advice:
            lines += wrap_text(finding.advice, below, below + "  ", style.width, typed=True)
    return lines


# -- shared facts, and checks that were not made


def _render_shared_facts(case: CheckContext, findings: Sequence[CheckFinding], style: ReportStyle) -> list[str]:
    """Return one line for each fact that all hosts share."""
    answered = [name for name in case.hosts if case.facts[name]]
    lines = []
    for check in _SAME:
        seen = [finding for finding in findings if finding.check == check and finding.level == "ok" and finding.saw]
        hosts = {host for finding in seen for host in finding.hosts}
        if seen and len({finding.saw for finding in seen}) == 1 and hosts == set(answered):
            lines += wrap_text(seen[0].saw, f"  {check:<11}  ", " " * 15, style.width)
    if not lines:
        return []
    return ["", f"{'SAME' if len(answered) > 1 else 'FOUND'} ON {fold_names(answered)}", *lines]


def _render_skipped_checks(case: CheckContext, findings: Sequence[CheckFinding], style: ReportStyle) -> list[str]:
    """Return the checks that were not made on any host, by reason."""
    judged = {finding.check for finding in findings if finding.level != "skip"}
    answered = {name for name in case.hosts if case.facts[name]}
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        if finding.level == "skip" and finding.saw and finding.check not in judged and answered & set(finding.hosts):
            checks = reasons.setdefault(finding.saw, [])
            if finding.check not in checks:
                checks.append(finding.check)
    if not reasons:
        return []
    groups = {finding.check: finding.group for finding in findings}
    text = " · ".join(f"{_join_check_names(checks, groups)} ({reason})" for reason, checks in reasons.items())
    return ["", "NOT CHECKED", *wrap_text(text, "  ", "  ", style.width)]


def _join_check_names(checks: Sequence[str], groups: Mapping[str, str]) -> str:
    """Return the names. Many of one group are a count at the end; ``--list`` prints their names."""
    sizes = Counter(groups[name] for name in checks)
    many = [group for group, size in sizes.items() if size > _MANY]
    names = " ".join(name for name in checks if groups[name] not in many)
    return " and ".join(filter(None, [names, *(f"{sizes[group]} checks of the group {group}" for group in many)]))


def _describe_limits(case: CheckContext, findings: Sequence[CheckFinding]) -> str:
    """Return the limits of a good result: checks that need a task, and a train.sh that was not rehearsed."""
    skipped = [finding for finding in findings if finding.level == "skip"]
    if not case.request.has_task:
        count = len({finding.check for finding in skipped if finding.saw == "no task given"})
        return f"; {count} more checks need a TASK" if count else ""
    unseen = _list_unseen_starts(findings)
    return f"; the start of torchrun by {case.request.script} was not checked ({unseen[0].saw})" if unseen else ""


def _list_unseen_starts(findings: Sequence[CheckFinding]) -> list[CheckFinding]:
    """Return the findings that say why it is not known how train.sh starts the ranks."""
    starts = [finding for finding in findings if finding.check in ("torchrun", "script-starts")]
    groups = [finding for finding in findings if finding.check == "passes-on" and finding.level == "info"]
    return [finding for finding in starts if finding.level == "skip" and finding.reason] + groups


def _render_closing(
    case: CheckContext, rows: Sequence[CheckRow], findings: Sequence[CheckFinding], style: ReportStyle
) -> list[str]:
    bad = [host for row in rows if row.level == "fail" for host in row.hosts]
    if not bad:
        is_whole = all(row.level == "ok" for row in rows) and not (
            case.request.has_task and _list_unseen_starts(findings)
        )
        good = "All checks passed" if is_whole else "No check failed"
        return wrap_text(f"{good}{_describe_limits(case, findings)}.", "", "", style.width)
    deep = all(finding.check.startswith("deep-") for finding in findings if finding.level == "fail")
    who = f"{len(bad)} host{'s' * (len(bad) != 1)} failed. "
    who += "`fanout run` would start, and training would fail" if deep else "`fanout run` would not start"
    if case.request.first_host.name not in bad:  # without host 0, another host would become rank 0
        who += f"; to exclude {'it' if len(bad) == 1 else 'them'}:  -x {fold_names(bad)}"
    return wrap_text(who, "", "", style.width)
