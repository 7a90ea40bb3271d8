"""``fanout why``: the same diagnosis over logs that other launchers left, or that were copied from somewhere."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

from fanout.arguments import Request
from fanout.diagnose import words
from fanout.diagnose.judge import judge
from fanout.diagnose.sources import sources
from fanout.diagnose.verdict import as_dict
from fanout.diagnose.witness import Witness
from fanout.errors import UsageError
from fanout.verbs import dumpfiles
from fanout.verbs.common import Edge, settings_of
from fanout.verbs.explain import book_of
from fanout.verbs.logfiles import STDIN, LogFile, settle
from fanout.verbs.report import retold
from fanout.views.recorded import Recorded
from fanout.views.sanitise import clean

CLOCKS = 2.0  # seconds by which the clocks of hosts that nobody compared may differ, and torchrun's whole seconds
MOST_FILES = 4096
_NOT_LOGS = (".json", ".jsonl", ".yaml", ".yml", ".py", ".pt", ".pth", ".safetensors", ".pid")


def why(request: Request, edge: Edge) -> int:
    """The verb: 0 where a cause is named, 1 where it stays undetermined."""
    run = _own(request, edge)
    if run:
        return _of_own(run, request, edge)
    paths = _paths(request, edge)
    dumps = {path: None for path in paths if path != STDIN and dumpfiles.is_dump(os.path.join(edge.cwd, path))}
    files = _read([path for path in paths if path not in dumps], edge)
    names = [name for file in files for name in file.hosts]
    places: dict[tuple[str, int], str] = {}
    witness = Witness(
        tuple(dict.fromkeys(names)),
        book=book_of(settings_of(request, edge), edge),
        file_of=lambda host, stream: places.get((host, stream), host),
        error=CLOCKS,
        live=False,
    )
    for stream, file in enumerate(files):
        for host in file.hosts:
            places[host, stream] = file.name
        for label, host in file.names.items():
            witness.name(host, stream, rank=file.rank_of(label), local=file.source.local)
        file.tell(witness, stream)
    _fly(list(dumps), witness, edge)
    verdict = judge(witness.evidence())
    if request.given["as_json"]:
        edge.stdout.write(json.dumps({"files": len(files) + len(dumps), **as_dict(verdict)}, indent=2) + "\n")
    else:
        edge.stdout.write(_heading(files, len(dumps)))
        edge.stdout.write("".join(f"{clean(line, colour=False)}\n" for line in words.lines(verdict)))
    return 0 if verdict.cause is not None else 1


def _heading(files: list[LogFile], dumps: int) -> str:
    """``4 files of 2 hosts, 8 dumps of flight recorders``."""
    hosts = len({name for file in files for name in file.hosts})
    parts = (
        [f"{len(files)} file{'s' if len(files) > 1 else ''} of {hosts} host{'s' if hosts > 1 else ''}"] if files else []
    )
    parts += [f"{dumps} dump{'s' if dumps > 1 else ''} of flight recorders"] if dumps else []
    return f"{', '.join(parts)}\n"


def _fly(paths: list[str], witness: Witness, edge: Edge) -> None:
    """What the dumps among the files hold."""
    hosts = dumpfiles.hosts(paths)
    for path, told in zip(paths, dumpfiles.read(paths, edge.cwd), strict=True):
        witness.dumps.add(hosts[path], [told])


def _paths(request: Request, edge: Edge) -> list[str]:
    """The files that the words mean."""
    return [each for word in request.task for each in _files(os.path.join(edge.cwd, word), word)]


def _read(paths: list[str], edge: Edge) -> list[LogFile]:
    """The logs among them, each looked through once."""
    data = edge.stdin() if STDIN in paths else b""

    def opener(path: str) -> Callable[[], BinaryIO]:
        return lambda: io.BytesIO(data) if path == STDIN else _open(os.path.join(edge.cwd, path), path)

    files = [LogFile(each, opener(each.path)) for each in sources(paths)]
    settle(files)
    return files


def _open(path: str, name: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None


def _own(request: Request, edge: Edge) -> str:
    """The run of fanout's own that the words mean: its directory, the logs in it, or all of these; "" if none."""
    paths = [os.path.normpath(os.path.join(edge.cwd, word)) for word in request.task]
    if len(paths) != 1 or not os.path.isdir(paths[0]):
        return ""
    place = os.path.dirname(paths[0]) if os.path.basename(paths[0]) == "logs" else paths[0]
    return place if os.path.isfile(os.path.join(place, "events.jsonl")) else ""


def _of_own(run: str, request: Request, edge: Edge) -> int:
    """Its record knows when every line came, which no log says: so it is read, as ``fanout report`` does."""
    told = retold(Recorded(run), settings_of(request, edge), edge)
    verdict, hosts = told.verdict, told.heading.hosts
    if request.given["as_json"]:
        found = as_dict(verdict) if verdict is not None else {"v": 1, "verdict": told.outcome.headline, "cause": None}
        edge.stdout.write(json.dumps({"run": told.heading.run_id, **found}, indent=2) + "\n")
    else:
        edge.stdout.write(f"run {told.heading.run_id} on {len(hosts)} host{'s' if len(hosts) > 1 else ''}\n")
        lines = words.lines(verdict) if verdict is not None else [told.outcome.headline]
        edge.stdout.write("".join(f"{clean(line, colour=False)}\n" for line in lines))
    return 0 if verdict is not None and verdict.cause is not None else 1


def _files(path: str, name: str) -> Iterator[str]:
    """The files that an argument means: itself, or all logs below a directory."""
    if name == STDIN or os.path.isfile(path):
        yield name
        return
    if not os.path.isdir(path):
        raise UsageError(f"{name}: no such file or directory")
    below = []
    for folder, folders, files in os.walk(path):
        folders.sort()
        below += [os.path.join(name, os.path.relpath(os.path.join(folder, file), path)) for file in sorted(files)]
    logs = [each for each in below if not each.endswith(_NOT_LOGS) and not os.path.basename(each).startswith(".")]
    if not logs:
        raise UsageError(f"{name}: no log files in it")
    if len(logs) > MOST_FILES:
        raise UsageError(f"{name}: {len(logs)} files, more than {MOST_FILES}", hint="name the ones of one run")
    yield from logs
