"""Report of a finished run: first failure, its last log lines, the other hosts, leftovers, and the next command.

Pure: the input is the facts, state and outcome of the run and log tails; the output is text. A good run gives two lines.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fanout.hosts import fold
from fanout.outcome import HostOutcome, RunOutcome
from fanout.state import RunState
from fanout.views.base import Heading
from fanout.views.causes import cause, whole
from fanout.views.filenames import FileNames
from fanout.views.sanitise import clean, clean_lines, harmless, sentence
from fanout.views.tail import LastWords
from fanout.views.units import seconds

LAST_LINES = 15
_LABEL = 13


@dataclass(frozen=True, slots=True)
class _Paint:
    colour: bool

    def __call__(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text


def report(
    heading: Heading,
    state: RunState,
    outcome: RunOutcome,
    last_words: Mapping[str, LastWords],
    *,
    diagnosis: Sequence[str] = (),
    slow: Sequence[str] = (),
    missing: Sequence[str] = (),
    blamed: tuple[str, int | None] = ("", None),
    colour: bool = False,
    unicode: bool = True,
) -> str:
    """Return the report; it ends with a newline.

    ``last_words`` needs only the host that failed first; without it, the report quotes no log. ``diagnosis`` holds lines
    for a failed run: the first cause and its victims. ``slow`` lists slow hosts or ranks, also for a good run.
    ``missing`` lists the gaps in the record. ``blamed`` is the host and the rank that the diagnosis names.
    """
    paint = _Paint(colour)
    if outcome.ok:
        lines = [*_good(heading, outcome, paint), *(f"slow: {clean(each, colour=False)}" for each in slow)]
    else:
        lines = [
            _title(heading, state, outcome, paint, unicode=unicode),
            *(clean(line, colour=False) for line in diagnosis),
            *_last_words(heading, outcome, last_words, unicode=unicode),
            *_others(state, outcome),
            *(_fact("slow" if not at else "", clean(each, colour=False)) for at, each in enumerate(slow)),
            *_where(heading, state, outcome),
            *_missing(missing, paint),
            *_left(state, outcome, paint),
            _fact("exit status", f"{outcome.exit_code} ({_whose(outcome)})"),
            *_next(heading, outcome, blamed, paint),
        ]
    return harmless("\n".join(lines)) + "\n"


def _good(heading: Heading, outcome: RunOutcome, paint: _Paint) -> list[str]:
    left = "nothing is left on them" if len(outcome.hosts) > 1 else "nothing is left there"
    if not outcome.clean:
        unknown = fold(_unlooked(outcome))
        left = (
            f"could not verify that {unknown} is clean" if unknown else f"processes left on {fold(_leaving(outcome))}"
        )
    lines = [paint("32", f"run {heading.run_id}: {outcome.headline} after {seconds(outcome.seconds)}") + f"; {left}"]
    if heading.log_dir:
        lines.append(f"logs: {_home(heading.log_dir)}")
    return lines


def _title(heading: Heading, state: RunState, outcome: RunOutcome, paint: _Paint, *, unicode: bool) -> str:
    verdicts = {host.verdict for host in outcome.hosts}
    if outcome.exit_code == 125 and all(host.started_at is None for host in state.all):
        word = "NOT LAUNCHED"
    elif verdicts == {"ok"} and outcome.first is None and state.first_stop is None and not state.interrupts:
        word = "ENDED, LOG INCOMPLETE"
    elif outcome.hung:
        word = "HUNG, STOPPED BY YOU" if outcome.origin == "user" else "HUNG, STOPPED"
    else:
        word = "STOPPED" if outcome.origin == "user" or outcome.first is None else "FAILED"
    bar = ("━" if unicode else "=") * 3
    title = f"{bar} run {heading.run_id} {word} after {seconds(outcome.seconds)} {bar}"
    return "\n".join([paint("1;31", title), *(paint("1", line) for line in clean_lines(outcome.headline))])


def _last_words(
    heading: Heading, outcome: RunOutcome, last_words: Mapping[str, LastWords], *, unicode: bool
) -> list[str]:
    first = outcome.first
    if first is None:
        return [""]
    host = next(host for host in outcome.hosts if host.host == first)
    if host.verdict in ("unreached", "refused"):
        return [""]
    said = last_words.get(first)
    if said is None:
        return [""]
    if not said.lines:
        return ["", f"  {first} printed no output.", ""]
    rank = heading.ranks.get(first)
    node = f" (node {rank[0]})" if rank else ""
    bar = "│" if unicode else "|"
    shown, whole = _excerpt(said)
    what = "its traceback" if whole else "last lines"
    return ["", f"  {said.speaker}{node}, {what}:", *(f"    {bar} {line}".rstrip() for line in shown), ""]


def _excerpt(said: LastWords) -> tuple[tuple[str, ...], bool]:
    """Return the lines to quote, and whether they are only a traceback.

    A traceback is quoted in full. If it ends within the last lines, the lines after it are quoted too.
    """
    lines, block = said.lines[-LAST_LINES:], said.traceback
    if not block:
        return lines, False
    if block[-1] in lines:  # the end is near: the traceback and what came after it
        after = lines[len(lines) - list(reversed(lines)).index(block[-1]) :]
        return (*block, *after), False
    return block, True


def _others(state: RunState, outcome: RunOutcome) -> list[str]:
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for host in outcome.hosts:
        if host.host != outcome.first:
            reason, pid = cause(host.reason)
            groups.setdefault((host.verdict, reason), []).append((host.host, pid))
    also = " too" if outcome.first is not None else ""
    texts = [
        f"{fold(name for name, _ in those)}: {_became(verdict, whole(reason, [pid for _, pid in those]), state, also)}"
        for (verdict, reason), those in groups.items()
    ]
    name = "the others" if outcome.first is not None else "the hosts"
    return [_fact(name if not at else "", text) for at, text in enumerate(texts)]


def _became(verdict: str, reason: str, state: RunState, also: str) -> str:
    reason = sentence(reason)
    words = {
        "ok": "ended well",
        "failed": f"failed{also} ({reason})",
        "stopped": f"stopped by fanout{_how_soon(state)} ({reason})",
        "unreached": f"not reached: {reason}",
        "refused": f"refused: {reason}",
        "lost": f"lost: {reason}",
        "never-started": "never started",
    }
    return words.get(verdict, f"{verdict}: {reason}")


def _how_soon(state: RunState) -> str:
    """Return how long after the first failure fanout stopped the other hosts; "" if the stop has another reason."""
    stops = [host.stop_at for host in state.all if host.stop_at is not None]
    if state.interrupts or not state.failures or not stops:
        return ""
    later = min(stops) - state.failures[0][1]
    if later < 0:
        return ""  # it was not for a failure
    return " at once" if later < 0.1 else f" {seconds(later)} later"


def _where(heading: Heading, state: RunState, outcome: RunOutcome) -> list[str]:
    if heading.log_dir is None:
        return []
    if outcome.first is None or not state.hosts[outcome.first].received:
        return [_fact("logs", _home(heading.log_dir))]
    file = FileNames(heading.hosts).of(outcome.first, 0)
    return [_fact("logs", f"{_home(heading.log_dir)}  ({file})")]


def _missing(holes: Sequence[str], paint: _Paint) -> list[str]:
    """Return lines for the gaps in the record; the launcher's disk did not take these bytes, and the files hold zeros."""
    return [_fact("not recorded" if not at else "", paint("33", hole)) for at, hole in enumerate(holes)]


def _left(state: RunState, outcome: RunOutcome, paint: _Paint) -> list[str]:
    """Return what is left on the hosts: "nothing" only if every host was verified."""
    lines: list[str] = []
    for host in outcome.hosts:
        gone = state.hosts[host.host].gone
        for process in gone.left if gone else ():
            text = f"{host.host}: pid {process.pid} ({process.state}, {sentence(process.wchan)}) {sentence(process.command)}"
            lines.append(_fact("left behind", paint("31", text)))
    unknown = _unlooked(outcome)
    if unknown:
        text = f"unknown: could not verify {fold(unknown)}"
        lines.append(_fact("left behind", paint("33", text)))
    if lines:
        return lines
    if all(state.hosts[host.host].go_at is None for host in outcome.hosts):
        return [_fact("left behind", "nothing: train.sh was not started on any host")]
    rebooted = [
        host.host for host in outcome.hosts if state.hosts[host.host].gone is None and state.hosts[host.host].rebooted
    ]
    number = len(outcome.hosts) - len(rebooted)
    proof = f"verified on {'all ' + str(number) + ' hosts' if number > 1 else 'the host'}"
    if rebooted:
        proof = f"{fold(rebooted)} rebooted" + ("; verified on the others" if number else "")
    return [_fact("left behind", f"nothing: {proof}")]


def _unlooked(outcome: RunOutcome) -> list[str]:
    return [host.host for host in outcome.hosts if host.left is None]


def _leaving(outcome: RunOutcome) -> list[str]:
    return [host.host for host in outcome.hosts if host.left]


def _whose(outcome: RunOutcome) -> str:
    return {
        "script": f"from {_program(outcome)} on {outcome.first}",
        "ssh": f"{outcome.first} was unreachable or lost",
        "fanout": _by_fanout(outcome),
        "user": "you stopped it",
    }[outcome.origin]


def _program(outcome: RunOutcome) -> str:
    """Return the program that the exit status comes from: torchrun if it failed and train.sh exited 0."""
    first = next((host for host in outcome.hosts if host.host == outcome.first), None)
    return "torchrun" if first is not None and first.code == 0 else "train.sh"


def _by_fanout(outcome: RunOutcome) -> str:
    if outcome.exit_code == 124:
        return "the time limit"
    if all(host.verdict == "ok" for host in outcome.hosts):
        return "part of the log could not be written to the launcher's disk"
    return "fanout stopped it" if outcome.first is None else "fanout refused to start"


def _next(heading: Heading, outcome: RunOutcome, blamed: tuple[str, int | None], paint: _Paint) -> list[str]:
    """Return the commands to type next: the hint of the failed host, the log to read, and the cleanup."""
    commands: list[str] = []
    first = next((host for host in outcome.hosts if host.host == outcome.first), None)
    if first is not None and first.hint:
        commands += clean_lines(first.hint)
    elif first is not None and _has_log(first):
        host, rank = blamed if blamed[0] else (first.host, None)
        only = f" --rank {rank}" if rank is not None else ""
        commands.append(f"fanout logs {heading.run_id} --host {shlex.quote(host)}{only}")
    if not outcome.clean:
        unknown = _unlooked(outcome)
        when = f"when {fold(unknown)} is reachable: " if unknown else ""
        commands.append(f"fanout stop {heading.run_id}    ({when}checks again and kills what is left)")
    return [_fact("next" if not at else "", paint("1", command)) for at, command in enumerate(commands)]


def _has_log(host: HostOutcome) -> bool:
    return host.verdict not in ("unreached", "refused", "never-started")


def _fact(name: str, text: str) -> str:
    return f"  {name:<{_LABEL}}{text}"


def _home(path: str) -> str:
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if home != "/" and path.startswith(home + os.sep) else path
