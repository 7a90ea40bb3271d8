"""Report of a finished run: first failure, its last log lines, the other hosts, leftovers, and the next command.

Pure: the input is the facts, state and outcome of the run and log tails; the output is text. A good run gives two lines.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence

from fanout.logs.tail import LogTail
from fanout.model.exit_status import ExitStatus
from fanout.model.hosts import fold_names
from fanout.model.outcome import HostOutcome, RunOutcome
from fanout.model.planned_stop import find_sent_save
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.record.paths import LogFileNames
from fanout.text.paint import Painter
from fanout.text.sanitize import sanitize_line, sanitize_lines, sanitize_text, to_single_line
from fanout.text.units import format_duration
from fanout.ui.background_text import describe_background, describe_outside_calls
from fanout.ui.equal_messages import join_pids, split_pid
from fanout.ui.planned_stop_text import describe_planned_stop

LAST_LINES = 15
_LABEL = 13


def build_report(
    heading: RunInfo,
    state: RunState,
    outcome: RunOutcome,
    log_tails: Mapping[str, LogTail],
    *,
    diagnosis: Sequence[str] = (),
    slow: Sequence[str] = (),
    missing: Sequence[str] = (),
    blamed: tuple[str, int | None] = ("", None),
    colour: bool = False,
    unicode: bool = True,
) -> str:
    """Return the report; it ends with a newline.

    ``log_tails`` needs only the host that failed first; without it, the report quotes no log. ``diagnosis`` holds lines
    for a failed run: the first cause and its victims. ``slow`` lists slow hosts or ranks, also for a good run.
    ``missing`` lists the gaps in the record. ``blamed`` is the host and the rank that the diagnosis names.
    """
    paint = Painter(colour)
    if outcome.is_success:
        lines = [
            *_format_success(heading, state, outcome, paint),
            *(f"slow: {sanitize_line(each, colour=False)}" for each in slow),
        ]
    else:
        lines = [
            _format_title(heading, state, outcome, paint, unicode=unicode),
            *(sanitize_line(line, colour=False) for line in diagnosis),
            *_format_log_tail(heading, outcome, log_tails, unicode=unicode),
            *_format_other_hosts(state, outcome),
            *(_format_fact("save" if not at else "", line) for at, line in enumerate(describe_planned_stop(state))),
            *(
                _format_fact("slow" if not at else "", sanitize_line(each, colour=False))
                for at, each in enumerate(slow)
            ),
            *_format_log_location(heading, state, outcome),
            *_format_gaps(missing, paint),
            *(_format_fact("background" if not at else "", line) for at, line in enumerate(describe_background(state))),
            *_format_leftovers(state, outcome, paint),
            _format_fact("exit status", f"{outcome.exit_code} ({_describe_origin(state, outcome)})"),
            *_format_next_commands(heading, state, outcome, blamed, paint),
        ]
    return sanitize_text("\n".join(lines)) + "\n"


def _format_success(heading: RunInfo, state: RunState, outcome: RunOutcome, paint: Painter) -> list[str]:
    left = "nothing is left on them" if len(outcome.hosts) > 1 else "nothing is left there"
    if outcome.outside_calls:
        left = "no process of its own is left, but " + describe_outside_calls(outcome)
    if not outcome.is_clean:
        unknown = fold_names(_find_unverified(outcome))
        left = (
            f"could not verify that {unknown} is clean"
            if unknown
            else f"processes left on {fold_names(_find_unclean(outcome))}"
        )
    lines = [
        paint("32", f"run {heading.run_id}: {outcome.headline} after {format_duration(outcome.seconds)}") + f"; {left}"
    ]
    lines += describe_background(state)
    if heading.log_dir:
        lines.append(f"logs: {_shorten_home(heading.log_dir)}")
    return lines


def _format_title(heading: RunInfo, state: RunState, outcome: RunOutcome, paint: Painter, *, unicode: bool) -> str:
    verdicts = {host.verdict for host in outcome.hosts}
    if outcome.exit_code == ExitStatus.REFUSED and all(host.started_at is None for host in state.all_hosts):
        word = "NOT LAUNCHED"
    elif verdicts == {"ok"} and outcome.first is None and state.first_stop is None and not state.interrupts:
        word = "ENDED, LOG INCOMPLETE"
    elif outcome.hung:
        word = "HUNG, STOPPED BY YOU" if outcome.origin == "user" else "HUNG, STOPPED"
    else:
        word = "STOPPED" if outcome.origin == "user" or outcome.first is None else "FAILED"
    bar = ("━" if unicode else "=") * 3
    title = f"{bar} run {heading.run_id} {word} after {format_duration(outcome.seconds)} {bar}"
    return "\n".join([paint("1;31", title), *(paint("1", line) for line in sanitize_lines(outcome.headline))])


def _format_log_tail(
    heading: RunInfo, outcome: RunOutcome, log_tails: Mapping[str, LogTail], *, unicode: bool
) -> list[str]:
    first = outcome.first
    if first is None:
        return [""]
    host = next(host for host in outcome.hosts if host.host == first)
    if host.verdict in ("unreached", "refused"):
        return [""]
    tail = log_tails.get(first)
    if tail is None:
        return [""]
    if not tail.lines:
        return ["", f"  {first} printed no output.", ""]
    rank = heading.ranks.get(first)
    node = f" (node {rank[0]})" if rank else ""
    bar = "│" if unicode else "|"
    shown, whole = _select_lines(tail)
    what = "its traceback" if whole else "last lines"
    return ["", f"  {tail.speaker}{node}, {what}:", *(f"    {bar} {line}".rstrip() for line in shown), ""]


def _select_lines(tail: LogTail) -> tuple[tuple[str, ...], bool]:
    """Return the lines to quote, and whether they are only a traceback.

    A traceback is quoted in full. If it ends within the last lines, the lines after it are quoted too.
    """
    lines, block = tail.lines[-LAST_LINES:], tail.traceback
    if not block:
        return lines, False
    if block[-1] in lines:  # the end is near: the traceback and what came after it
        after = lines[len(lines) - list(reversed(lines)).index(block[-1]) :]
        return (*block, *after), False
    return block, True


def _format_other_hosts(state: RunState, outcome: RunOutcome) -> list[str]:
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for host in outcome.hosts:
        if host.host != outcome.first:
            reason, pid = split_pid(host.reason)
            groups.setdefault((host.verdict, reason), []).append((host.host, pid))
    also = " too" if outcome.first is not None else ""
    texts = [
        f"{fold_names(name for name, _ in those)}: {_describe_verdict(verdict, join_pids(reason, [pid for _, pid in those]), state, also)}"
        for (verdict, reason), those in groups.items()
    ]
    name = "the others" if outcome.first is not None else "the hosts"
    return [_format_fact(name if not at else "", text) for at, text in enumerate(texts)]


def _describe_verdict(verdict: str, reason: str, state: RunState, also: str) -> str:
    reason = to_single_line(reason)
    words = {
        "ok": "ended well",
        "failed": f"failed{also} ({reason})",
        "stopped": f"stopped by fanout{_describe_stop_delay(state)} ({reason})",
        "unreached": f"not reached: {reason}",
        "refused": f"refused: {reason}",
        "lost": f"lost: {reason}",
        "never-started": "never started",
    }
    return words.get(verdict, f"{verdict}: {reason}")


def _describe_stop_delay(state: RunState) -> str:
    """Return how long after the first failure fanout stopped the other hosts; "" if the stop has another reason."""
    stops = [host.stop_at for host in state.all_hosts if host.stop_at is not None]
    if state.interrupts or not state.failures or not stops or find_sent_save(state) is not None:
        return ""
    later = min(stops) - state.failures[0][1]
    if later < 0:
        return ""  # it was not for a failure
    return " at once" if later < 0.1 else f" {format_duration(later)} later"


def _format_log_location(heading: RunInfo, state: RunState, outcome: RunOutcome) -> list[str]:
    if heading.log_dir is None:
        return []
    if outcome.first is None or not state.hosts[outcome.first].received:
        return [_format_fact("logs", _shorten_home(heading.log_dir))]
    file = LogFileNames(heading.hosts).get_path(outcome.first, 0)
    return [_format_fact("logs", f"{_shorten_home(heading.log_dir)}  ({file})")]


def _format_gaps(holes: Sequence[str], paint: Painter) -> list[str]:
    """Return lines for the gaps in the record; the launcher's disk did not take these bytes, and the files hold zeros."""
    return [_format_fact("not recorded" if not at else "", paint("33", hole)) for at, hole in enumerate(holes)]


def _format_leftovers(state: RunState, outcome: RunOutcome, paint: Painter) -> list[str]:
    """Return what is left on the hosts: "nothing" only if every host was verified."""
    lines: list[str] = []
    for host in outcome.hosts:
        cleaned_up = state.hosts[host.host].cleaned_up
        for process in cleaned_up.left if cleaned_up else ():
            text = f"{host.host}: pid {process.pid} ({process.state}, {to_single_line(process.wchan)}) {to_single_line(process.command)}"
            lines.append(_format_fact("left behind", paint("31", text)))
    unknown = _find_unverified(outcome)
    if unknown:
        text = f"unknown: could not verify {fold_names(unknown)}"
        lines.append(_format_fact("left behind", paint("33", text)))
    if outcome.outside_calls:
        lines.append(_format_fact("left behind", paint("33", f"unknown: {describe_outside_calls(outcome)}")))
    if lines:
        return lines
    if all(state.hosts[host.host].go_at is None for host in outcome.hosts):
        return [_format_fact("left behind", "nothing: train.sh was not started on any host")]
    rebooted = [
        host.host
        for host in outcome.hosts
        if state.hosts[host.host].cleaned_up is None and state.hosts[host.host].rebooted
    ]
    number = len(outcome.hosts) - len(rebooted)
    proof = f"verified on {'all ' + str(number) + ' hosts' if number > 1 else 'the host'}"
    if rebooted:
        proof = f"{fold_names(rebooted)} rebooted" + ("; verified on the others" if number else "")
    return [_format_fact("left behind", f"nothing: {proof}")]


def _find_unverified(outcome: RunOutcome) -> list[str]:
    return [host.host for host in outcome.hosts if host.left is None]


def _find_unclean(outcome: RunOutcome) -> list[str]:
    return [host.host for host in outcome.hosts if host.left]


def _describe_origin(state: RunState, outcome: RunOutcome) -> str:
    return {
        "script": f"from {_get_program(state, outcome)} on {outcome.first}",
        "ssh": f"{outcome.first} was unreachable or lost",
        "fanout": _describe_fanout_stop(outcome),
        "user": "you stopped it",
    }[outcome.origin]


def _get_program(state: RunState, outcome: RunOutcome) -> str:
    """Return the program that the exit status comes from: torchrun if it failed and train.sh exited 0."""
    if outcome.first is not None and "waited" in state.hosts[outcome.first].background:
        return "the launcher that train.sh left running"
    first = next((host for host in outcome.hosts if host.host == outcome.first), None)
    return "torchrun" if first is not None and first.code == 0 else "train.sh"


def _describe_fanout_stop(outcome: RunOutcome) -> str:
    if outcome.exit_code == ExitStatus.TIME_LIMIT:
        return "the time limit"
    if any(host.host == outcome.first and host.verdict == "failed" for host in outcome.hosts):
        return "fanout ended what train.sh left running"
    if all(host.verdict == "ok" for host in outcome.hosts):
        return "part of the log could not be written to the launcher's disk"
    return "fanout stopped it" if outcome.first is None else "fanout refused to start"


def _format_next_commands(
    heading: RunInfo, state: RunState, outcome: RunOutcome, blamed: tuple[str, int | None], paint: Painter
) -> list[str]:
    """Return the commands to type next: the hint of the failed host, the log to read, and the cleanup."""
    commands: list[str] = []
    first = next((host for host in outcome.hosts if host.host == outcome.first), None)
    if first is not None and first.hint:
        commands += sanitize_lines(first.hint)
    elif first is not None and _has_log(first):
        host, rank = blamed if blamed[0] else (first.host, None)
        only = f" --rank {rank}" if rank is not None else ""
        commands.append(f"fanout logs {heading.run_id} --host {shlex.quote(host)}{only}")
    if not outcome.is_clean and not any("kept" in state.hosts[host.host].background for host in outcome.hosts):
        unknown = _find_unverified(outcome)
        when = f"when {fold_names(unknown)} is reachable: " if unknown else ""
        commands.append(f"fanout stop {heading.run_id}    ({when}checks again and kills what is left)")
    return [_format_fact("next" if not at else "", paint("1", command)) for at, command in enumerate(commands)]


def _has_log(host: HostOutcome) -> bool:
    return host.verdict not in ("unreached", "refused", "never-started")


def _format_fact(name: str, text: str) -> str:
    return f"  {name:<{_LABEL}}{text}"


def _shorten_home(path: str) -> str:
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if home != "/" and path.startswith(home + os.sep) else path
