"""``fanout ps``: list runs. With HOSTS, ask the hosts; without HOSTS, read the records on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fanout import holder
from fanout.arguments import Request
from fanout.errors import UsageError
from fanout.hosts import fold
from fanout.verbs import census
from fanout.verbs.census import Answered, RunHere, since
from fanout.verbs.common import Edge, hosts_of, on_these_hosts, runs_directory, settings_of
from fanout.verbs.runs import ORDER
from fanout.views.recorded import Recorded
from fanout.views.sanitise import sentence
from fanout.views.table import table
from fanout.views.units import seconds


def ps(request: Request, edge: Edge) -> int:
    """Run the command; return 0, or 255 if a host could not be asked."""
    if request.hosts:
        return _of_hosts(request, edge)
    return _of_records(request, edge)


def _width(edge: Edge) -> int | None:
    """Return the columns of the terminal, or None for a file or a pipe, where the table is not cut."""
    return max(80, edge.columns) if edge.stdout.isatty() else None


# -- from the hosts


def _of_hosts(request: Request, edge: Edge) -> int:
    settings = settings_of(request, edge)
    answers = census.take(hosts_of(request, settings, edge)[1], settings, edge)
    silent = [answer for answer in answers if answer.error]
    if request.given["as_json"]:
        edge.stdout.write(json.dumps([_as_dict(answer) for answer in answers], indent=2) + "\n")
        return 255 if silent else 0
    rows = [_row(run) for answer in answers for run in answer.runs]
    header = ("HOST", "RUN", "STATE", "BY", "SINCE", "RANKS", "PID", "PORT", "GPUS", "LAUNCHER")
    if rows:
        edge.stdout.write("\n".join(table(rows, header=header, whole=frozenset({1}), width=_width(edge))) + "\n")
    for answer in answers:
        for process in answer.strays:
            edge.stdout.write(f"{answer.host}: left behind: {stray(process)}\n")
    _say_where(answers, edge)
    if any(answer.stale or answer.strays for answer in answers):
        edge.say(f"finished runs left processes or records: try:  {on_these_hosts(request, settings, 'clean')}")
    return 255 if silent else 0


def _say_where(answers: Sequence[Answered], edge: Edge) -> None:
    """Print which hosts and directories were searched, because an empty list means nothing without them."""
    asked = [answer for answer in answers if not answer.error]
    if asked:
        places = sorted({path for answer in asked for path in answer.looked})
        edge.say(f"{fold(answer.host for answer in asked)}: searched for your runs in {', '.join(places)}")
    for answer in answers:
        if answer.error:
            edge.say(f"{answer.host}: could not be asked: {sentence(answer.error)}")


def _row(run: RunHere) -> tuple[str, ...]:
    about, claims = run.about, [str(claim) for claim in run.about.get("claims", ())]
    ports = [claim.removeprefix("port-") for claim in claims if claim.startswith("port-")]
    gpus = [claim.removeprefix("gpu-") for claim in claims if claim.startswith("gpu-")]
    pid = run.entry.get("main") or run.entry.get("keeper") or ""
    return (
        run.host,
        run.run,
        run.state,
        str(about.get("by", "?")),
        since(about.get("since")),
        ranks_of(run),
        str(pid),
        ",".join(ports),
        ",".join(gpus) or "-",
        run.launcher,
    )


def ranks_of(run: RunHere) -> str:
    """Return the global ranks of this host as ``8-15``; if they are not known, its node rank and the node count."""
    first, count = run.about.get("first_rank"), run.about.get("nproc")
    if not isinstance(first, int) or not isinstance(count, int):
        return f"node {run.node}/{run.about.get('nodes', '?')}"
    return str(first) if count == 1 else f"{first}-{first + count - 1}"


def stray(process: Any) -> str:
    """Return one line about an orphan process."""
    age = f", {seconds(process['age'])} old" if process.get("age") is not None else ""
    gpu = f", {process['gpu_mb']} MiB of GPU memory" if process.get("gpu_mb") else ""
    return f"pid {process['pid']} of run {process['run']}{age}{gpu}: {sentence(str(process['cmd']))}"


def _as_dict(answer: Answered) -> dict[str, Any]:
    if answer.error:
        return {"host": answer.host, "error": answer.error}
    runs = [
        {"run": run.run, "node": run.node, "state": run.state, "launcher": run.launcher, "ranks": ranks_of(run)}
        | dict(run.entry)
        for run in answer.runs
    ]
    return {"host": answer.host, "looked": list(answer.looked), "runs": runs, "left_behind": list(answer.strays)}


# -- from our own records


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    run: str
    state: str
    going: bool
    launcher: str
    since: float
    hosts: tuple[str, ...]
    title: str


def _of_records(request: Request, edge: Edge) -> int:
    root = runs_directory(settings_of(request, edge), edge)
    records = [record for name in _names(root) if (record := _record(os.path.join(root, name))) is not None]
    shown = [record for record in records if record.going or request.given["all"]]
    if request.given["as_json"]:
        told = [{name: getattr(record, name) for name in _Record.__slots__} for record in records]
        edge.stdout.write(json.dumps(told, indent=2) + "\n")
        return 0
    rows = [(r.run, r.state, since(r.since), fold(r.hosts), r.launcher, r.title) for r in shown]
    if rows:
        header = ("RUN", "STATE", "SINCE", "HOSTS", "LAUNCHER", "TASK")
        edge.stdout.write("\n".join(table(rows, header=header, whole=frozenset({0}), width=_width(edge))) + "\n")
    ended = len(records) - len(shown)
    also = f"; {ended} {'has' if ended == 1 else 'have'} ended (--all shows them)" if ended else ""
    runs = "1 run" if len(records) == 1 else f"{len(records)} runs"
    edge.say(f"{runs} recorded in {root}{also}; to ask hosts:  fanout ps HOSTS")
    return 0


def _names(root: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    except OSError:
        return []


def _record(path: str) -> _Record | None:
    try:
        recorded = Recorded(path)
    except UsageError:
        return None  # some other directory
    result, living = recorded.result(), holder.of(path)
    launcher = "-"
    if living is not None:
        how = living.user if living.ending else "detached" if living.detached else "attached"
        launcher = f"{how} (pid {living.pid} on {living.machine})"
        state = "running" if not living.ending else "ending" if result is None else f"ended ({result['exit_code']})"
    elif result is not None:
        state = f"ended ({result['exit_code']})"
    elif os.path.exists(os.path.join(path, ORDER)):
        state, launcher = "not known", "lost"
    else:
        state = "not launched"
    return _Record(
        run=recorded.heading.run_id,
        state=state,
        going=living is not None or launcher == "lost",
        launcher=launcher,
        since=recorded.began_at,
        hosts=recorded.heading.hosts,
        title=recorded.heading.title,
    )
