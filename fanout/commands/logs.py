"""``fanout logs``: print the recorded lines of a run in order of arrival, during the run and afterwards."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from fanout.logs.demux import LogLine, StreamDemultiplexer
from fanout.logs.folding import LineFolding, label_folded_line
from fanout.logs.line_filters import (
    PLAIN_PREFIX,
    DisplayFilters,
    LinePrefix,
    compile_pattern,
    count_planned_ranks,
    parse_ranks,
)
from fanout.model.attempt_plan import split_attempt_id
from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.frozen import frozen
from fanout.model.hosts import fold_names, fold_numbers
from fanout.model.request import Request
from fanout.model.run_info import RunInfo
from fanout.record.paths import LogFileNames
from fanout.record.recorded_attempts import find_next_attempt
from fanout.record.run_reader import RunReader
from fanout.run.command_context import load_command_context
from fanout.run.pager import PagedWriter, choose_pager
from fanout.run.process_context import ProcessContext
from fanout.run.recorded_lines import iter_recorded_lines
from fanout.text.paint import Painter
from fanout.text.parse_units import parse_duration
from fanout.text.sanitize import sanitize_line
from fanout.text.units import count_noun
from fanout.ui.display_mode import choose_text_style
from fanout.ui.host_rows import get_host_code
from fanout.ui.line_formatter import FOLDED_COLUMNS
from fanout.ui.plain_view import format_line_end
from fanout.ui.safe_writer import TextWriter, to_ascii

_FORMS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_TODAY = ("%H:%M:%S", "%H:%M")
_NOT_STARTED = (126, 127)  # exit statuses of a shell that could not start the pager


@frozen
class _LogSelection:
    """Selection of recorded lines: hosts (empty: all), earliest time, and the filters by rank and text."""

    hosts: frozenset[str]
    since: float
    filters: DisplayFilters
    prefix: LinePrefix
    paint: Painter
    fold: str  # off, exact or similar
    unicode: bool


def run_logs(request: Request, process: ProcessContext) -> int:
    """Run the command; return 0, 130 after Ctrl-C, or 141 if stdout was closed. Raises UsageError."""
    given = request.given
    context = load_command_context(request, process)
    attempts = [RunReader(path) for path in context.find_attempts()]
    run = _name_run(attempts)
    hosts = [name for name in given["host"].split(",") if name]
    known = list(dict.fromkeys(host for recorded in attempts for host in recorded.heading.hosts))
    unknown = [name for name in hosts if name not in known]
    if unknown:
        message = f"--host {unknown[0]}: the run has {count_noun(len(known), 'host')}: {fold_names(known)}"
        raise UsageError(message, hint=f"fanout logs {run} --host {known[0]}")
    if given["files"]:
        process.stdout.write("".join(f"{path}\n" for path in _list_files(attempts, hosts)))
        return ExitStatus.SUCCESS
    if given["log_fold"] != "off" and given["times"]:
        raise UsageError(
            "--fold and -T exclude each other: a folded line has several times", hint=f"fanout logs {run} -T"
        )
    rank = given["rank"] or "all"
    style = choose_text_style(process.environ, process.stdout, context.settings)
    wanted = _LogSelection(
        hosts=frozenset(hosts),
        since=parse_time(given["since"], time.time()) if given["since"] else 0.0,
        filters=DisplayFilters(
            show=rank if rank == "all" else parse_ranks(rank, flag="--rank", hint="--rank 0 or --rank 0,8-15"),
            grep=compile_pattern("--grep", given["pattern"]),
            hide=compile_pattern("--hide", given["hidden"]),
        ),
        paint=Painter(style.colour),
        fold=given["log_fold"],
        unicode=style.unicode,
        prefix=LinePrefix("{stamp} " + PLAIN_PREFIX if given["times"] else PLAIN_PREFIX),
    )
    pager = "" if given["follow"] or given["no_pager"] else choose_pager(process.environ, process.stdout)
    if pager:
        return _page_lines(attempts, wanted, PagedWriter(process.stdout, pager, process.environ), request, process)
    out = TextWriter(process.stdout)
    try:
        some = _print_lines(attempts, wanted, out, count=given["lines"], on=given["follow"])
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    if given["follow"] and not out.broken:
        process.print_message(_explain_end(attempts[-1]))
    _report_problems(attempts, request, process, some=some)
    return ExitStatus.BROKEN_PIPE if out.broken else ExitStatus.SUCCESS


def _page_lines(
    attempts: list[RunReader], wanted: _LogSelection, out: PagedWriter, request: Request, process: ProcessContext
) -> int:
    """Show the lines in the pager; return 0. To close it early, and to press Ctrl-C in it, are no errors.

    Return 130 if the user pressed Ctrl-C before there was a pager. Raises UsageError if the pager did not start.
    """
    try:
        some = _print_lines(attempts, wanted, out, count=request.given["lines"], on=False)
    except KeyboardInterrupt:  # the pager has not started
        return ExitStatus.INTERRUPTED
    status = out.close()
    _report_problems(attempts, request, process, some=some)
    if status in _NOT_STARTED:
        raise UsageError(f"the pager failed (exit status {status})", hint="fanout logs --no-pager")
    return ExitStatus.SUCCESS


def _report_problems(attempts: list[RunReader], request: Request, process: ProcessContext, *, some: bool) -> None:
    """Report damaged records, and a rank without lines. Raises UsageError if the run has no such rank."""
    rank = request.given["rank"] or "all"
    for recorded in attempts:
        if recorded.damage_message:
            process.print_message(recorded.damage_message)
    if rank != "all" and not some:
        run = _name_run(attempts)
        planned = _count_ranks(attempts)
        if planned and min(parse_ranks(rank, flag="--rank", hint="")) >= planned:
            known = fold_numbers(range(planned))
            raise UsageError(f"--rank {rank}: the run has ranks {known}", hint=f"fanout logs {run} --rank {known}")
        process.print_message(f"run {run}: no such line of rank {rank} is recorded")


def _name_run(attempts: Sequence[RunReader]) -> str:
    """Return the id of the run without the number of an attempt."""
    return split_attempt_id(attempts[0].heading.run_id)[0]


def _count_ranks(attempts: Sequence[RunReader]) -> int:
    """Return the most ranks that an attempt was planned with; 0 if an attempt has a host with an unknown count."""
    counts = [count_planned_ranks(recorded.heading.ranks) for recorded in attempts]
    return 0 if None in counts else max(filter(None, counts), default=0)


def _list_files(attempts: Sequence[RunReader], hosts: Sequence[str]) -> list[str]:
    """Return the paths of the log files of train.sh on these hosts, or on all."""
    paths = []
    for recorded in attempts:
        names = LogFileNames(recorded.heading.hosts)
        chosen = [host for host in recorded.heading.hosts if not hosts or host in hosts]
        paths += [os.path.join(recorded.path, names.get_path(host, 0)) for host in chosen]
    return paths


def _explain_end(recorded: RunReader) -> str:
    """Return the reason why no more lines arrive."""
    run = recorded.heading.run_id
    if recorded.has_outcome:
        return f"run {run} has ended:  fanout report {run}"
    return f"run {run}: no process writes its record: the launcher died. To resume it:  fanout attach {run}"


def _print_lines(
    attempts: list[RunReader], wanted: _LogSelection, out: TextWriter | PagedWriter, *, count: int | None, on: bool
) -> bool:
    """Print all lines, or the last ``count``; with ``on``, also new ones. Return whether there was any line."""
    waiting: list[bool] = []
    some = False
    lines = _format_attempts(attempts, wanted, on=on, waits=lambda: waiting.append(True))
    if count is not None:
        last: deque[str] = deque(maxlen=max(0, count))
        for line in lines:
            if line:
                last.append(line)
            if waiting:
                break
        out.write("".join(last))
        some = bool(last)
    for line in lines:
        some = some or bool(line)
        out.write(line)
        if out.broken:
            break
    return some


def _format_attempts(
    attempts: list[RunReader], wanted: _LogSelection, *, on: bool, waits: Callable[[], None]
) -> Iterator[str]:
    """Yield the lines of each attempt. If there are several attempts, a line with the attempt precedes its first line.

    With ``on``, attempts that begin later are appended to ``attempts`` and follow.
    """
    position = 0
    while position < len(attempts):
        recorded = attempts[position]
        title = wanted.paint("1", f"--- {describe_heading(recorded.heading)} ---") + "\n" if len(attempts) > 1 else ""
        is_last = position == len(attempts) - 1
        for line in _format_lines(recorded, wanted, on=on and is_last, waits=waits):
            if line and title:
                yield title
                title = ""
            yield line
        following = find_next_attempt(recorded.path) if on and is_last else None
        if following is not None:
            attempts.append(RunReader(following))
        position += 1


def describe_heading(heading: RunInfo) -> str:
    """Return the text of the line before the log of an attempt: ``attempt 1 of 3 on gpu[01-04]``."""
    name = heading.attempt.describe() or f"attempt {split_attempt_id(heading.run_id)[1]}"
    return f"{name} on {fold_names(heading.hosts)}"


def _format_lines(recorded: RunReader, wanted: _LogSelection, *, on: bool, waits: Callable[[], None]) -> Iterator[str]:
    """Yield lines as they are printed. While there is none, call ``waits`` and yield ""."""
    streams = StreamDemultiplexer(recorded.heading.hosts)
    hosts = [host for host in recorded.heading.hosts if not wanted.hosts or host in wanted.hosts]
    folding = LineFolding(hosts, streams.parts, how=wanted.fold)
    width = max(len(host) for host in recorded.heading.hosts)
    width = width if wanted.fold == "off" else max(width, FOLDED_COLUMNS)
    at = 0.0
    for found in iter_recorded_lines(
        recorded, wanted.filters, streams=streams, hosts=wanted.hosts, since=wanted.since, follows=on
    ):
        if found is None:
            yield from (_format_line(line, at, wanted, width) for line in folding.take_rest())
            waits()
            yield ""
            continue
        log_line, at = found
        yield from (_format_line(line, at, wanted, width) for line in folding.fold_lines([log_line], at))
    yield from (_format_line(line, at, wanted, width) for line in folding.take_rest())


def _format_line(log_line: LogLine, at: float, wanted: _LogSelection, width: int) -> str:
    """Return a line as it is printed: a folded one has the label of its streams."""
    log_line = label_folded_line(log_line, width)
    prefix = wanted.paint(str(get_host_code(log_line.host)), wanted.prefix.format_prefix(log_line, width, at))
    line = f"{prefix}{sanitize_line(log_line.text, colour=wanted.paint.colour)}"
    end = format_line_end(log_line) if log_line.voices > 1 else ""
    return f"{line}{end}\n" if wanted.unicode else f"{line}{to_ascii(end)}\n"


def parse_time(text: str, now: float) -> float:
    """Return the Unix time of ``10m`` or ``1h30m`` (ago), ``14:30`` (today), or a date with a time. Raises UsageError."""
    ago = None if text[-1:].isdigit() else parse_duration(text)
    if ago is not None:
        return now - ago
    for form in _FORMS:
        try:
            return time.mktime(time.strptime(text, form))
        except ValueError:
            continue
    today = time.strftime("%Y-%m-%d ", time.localtime(now))
    for form in _TODAY:
        try:
            return time.mktime(time.strptime(today + text, f"%Y-%m-%d {form}"))
        except ValueError:
            continue
    raise UsageError(
        f"--since {text[:40]}: not a time", hint="--since 10m, --since 14:30 or --since '2026-01-31 14:30'"
    )
