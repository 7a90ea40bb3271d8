"""``fanout clean``: list leftovers of finished runs on hosts, remove them after confirmation, and check again.

clean touches only processes and records that provably belong to a run of this user without a keeper. It never touches
an active run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fanout.arguments import Request
from fanout.errors import UsageError
from fanout.hosts import fold
from fanout.verbs import census
from fanout.verbs.census import Answered, RunHere
from fanout.verbs.common import Edge, hosts_of, settings_of
from fanout.verbs.ps import stray
from fanout.views.sanitise import sentence
from fanout.views.units import age, size


def clean(request: Request, edge: Edge) -> int:
    """Run the command; return 0 if nothing is left, 1 if something is left, 255 if a host could not be asked."""
    settings = settings_of(request, edge)
    hosts = hosts_of(request, settings, edge)[1]
    answers = census.take(hosts, settings, edge)
    silent = any(answer.error for answer in answers)
    _list(answers, edge)
    args = {answer.host: _orders(answer) for answer in answers if answer.stale or answer.strays}
    if not args:
        asked = [answer.host for answer in answers if not answer.error]
        if asked:
            edge.say(f"{fold(asked)}: nothing is left of ended runs")
        return 255 if silent else 0
    if not request.given["yes"] and not _agreed(edge, sorted(args)):
        edge.say("nothing was removed")
        return 1
    again = census.take(hosts, settings, edge, "clean", args)
    left = _left(again, edge)
    return 255 if silent or any(answer.error for answer in again) else int(left)


def _list(answers: Sequence[Answered], edge: Edge) -> None:
    for answer in answers:
        if answer.error:
            edge.say(f"{answer.host}: could not be asked: {sentence(answer.error)}")
        for run in answer.runs:
            if run.mute:
                edge.stdout.write(f"{answer.host}: kept run {run.run}: {_mute(run)}\n")
            elif run.alive:
                edge.stdout.write(f"{answer.host}: kept run {run.run}: it is active ({run.state})\n")
            elif run.followed:
                edge.stdout.write(
                    f"{answer.host}: kept run {run.run}: a launcher is fetching its result now ({run.state})\n"
                )
        for process in answer.strays:
            edge.stdout.write(f"{answer.host}: {stray(process)}\n")
        for run in answer.stale:
            edge.stdout.write(f"{answer.host}: {_directory(run)}\n")


def _mute(run: RunHere) -> str:
    """Return the state of a keeper that does not answer, and the command that the user can type on the host."""
    pid, state = run.entry.get("keeper") or "?", sentence(str(run.entry.get("keeper_state") or "?"))
    mend = f"kill -CONT {pid}" if state in ("T", "t") else f"kill -KILL {pid}"
    return f"its keeper (pid {pid}, state {state}) does not answer; on that host: {mend}, then run clean again"


def _directory(run: RunHere) -> str:
    ago = age(float(run.entry.get("changed") or 0.0))
    kept = size(int(run.entry.get("bytes") or 0))
    return f"record of run {run.run}, {run.state} {ago} ago, {kept}: {sentence(str(run.entry['directory']))}"


def _orders(answer: Answered) -> Mapping[str, Any]:
    return {
        "runs": [[run.run, run.node] for run in answer.stale],
        "processes": [[process["pid"], process["start"]] for process in answer.strays],
    }


def _agreed(edge: Edge, hosts: Sequence[str]) -> bool:
    """Ask for confirmation at the terminal. Raises UsageError without a terminal."""
    edge.stdout.flush()
    edge.stderr.write(f"fanout: kill these processes and delete these records on {fold(hosts)}? [y/N] ")
    edge.stderr.flush()
    if not edge.stdout.isatty():
        edge.stderr.write("\n")
        raise UsageError("clean: no terminal to ask for confirmation", hint="fanout clean --yes HOSTS")
    return edge.line().strip().lower() in ("y", "yes")


def _left(again: Sequence[Answered], edge: Edge) -> bool:
    """Report what the hosts still have; return whether anything is left."""
    left = False
    for answer in again:
        if answer.error:
            edge.say(f"{answer.host}: could not be asked again: {sentence(answer.error)}")
            continue
        for what in (*map(stray, answer.strays), *map(_directory, answer.stale)):
            edge.say(f"{answer.host}: still there: {what}")
            left = True
    whole = [answer.host for answer in again if not answer.error and not answer.strays and not answer.stale]
    if whole:
        killed = sum(answer.killed for answer in again)
        ended = "1 process was killed" if killed == 1 else f"{killed} processes were killed"
        edge.say(f"{fold(whole)}: checked again: nothing is left of ended runs ({ended})")
    return left
