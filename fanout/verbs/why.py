"""``fanout why``: diagnose a failed run from log files of any launcher."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, BinaryIO

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
from fanout.verbs.packed import BLOCK
from fanout.verbs.report import retold
from fanout.views.recorded import Recorded
from fanout.views.sanitise import clean

CLOCKS = 2.0  # seconds: hosts' clocks may differ, and torchrun writes whole seconds
MOST_FILES = 4096
_IN_MEMORY = 1 << 20  # bytes of stdin; more of it needs room in the directory of temporary files
_NOT_LOGS = (".json", ".jsonl", ".yaml", ".yml", ".py", ".pt", ".pth", ".safetensors", ".pid")


def why(request: Request, edge: Edge) -> int:
    """Run the command; return 0 if a cause is named, 1 if it is undetermined."""
    run = _own(request, edge)
    if run:
        return _of_own(run, request, edge)
    paths = _paths(request, edge)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as copy:
        if STDIN in paths:
            _keep_stdin(copy, edge)
        return _of_logs(paths, copy, request, edge)


def _of_logs(paths: list[str], copy: IO[bytes], request: Request, edge: Edge) -> int:
    """Tell what the files hold; ``copy`` is that of stdin."""
    dumps = {path: None for path in paths if path != STDIN and dumpfiles.is_dump(os.path.join(edge.cwd, path))}
    files = _read([path for path in paths if path not in dumps], copy, edge)
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
    """Return the first line, for example ``4 files of 2 hosts, 8 dumps of flight recorders``."""
    hosts = len({name for file in files for name in file.hosts})
    parts = (
        [f"{len(files)} file{'s' if len(files) > 1 else ''} of {hosts} host{'s' if hosts > 1 else ''}"] if files else []
    )
    parts += [f"{dumps} dump{'s' if dumps > 1 else ''} of flight recorders"] if dumps else []
    return f"{', '.join(parts)}\n"


def _fly(paths: list[str], witness: Witness, edge: Edge) -> None:
    """Read the flight recorder dumps and give them to the evidence collector."""
    hosts = dumpfiles.hosts(paths)
    for path, told in zip(paths, dumpfiles.read(paths, edge.cwd), strict=True):
        witness.dumps.add(hosts[path], [told])


def _paths(request: Request, edge: Edge) -> list[str]:
    """Return the files that the arguments name."""
    return [each for word in request.task for each in _files(os.path.join(edge.cwd, word), word)]


def _read(paths: list[str], copy: IO[bytes], edge: Edge) -> list[LogFile]:
    """Open the log files, read each once, and assign their hosts."""

    def opener(path: str) -> Callable[[], BinaryIO]:
        if path == STDIN:
            return lambda: _from_start(copy)
        return lambda: _open(os.path.join(edge.cwd, path), path)

    files = [LogFile(each, opener(each.path)) for each in sources(paths)]
    settle(files)
    return files


def _keep_stdin(copy: IO[bytes], edge: Edge) -> None:
    """Copy stdin to a file without a name: a log is read twice, and may be larger than the memory."""
    try:
        while block := edge.stdin(BLOCK):
            copy.write(block)
        copy.flush()
    except OSError as error:
        raise UsageError(
            f"stdin: cannot be copied to {tempfile.gettempdir()}: {error.strerror}",
            hint="write it to a file:  COMMAND > train.log; fanout why train.log",
        ) from None


def _from_start(copy: IO[bytes]) -> BinaryIO:
    """Open the copy once more; only one reader at a time, since all share one position."""
    copy.seek(0)
    return open(os.dup(copy.fileno()), "rb")


def _open(path: str, name: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None


def _own(request: Request, edge: Edge) -> str:
    """Return the directory of a run recorded by fanout, if the argument is that directory or its logs/; else ""."""
    paths = [os.path.normpath(os.path.join(edge.cwd, word)) for word in request.task]
    if len(paths) != 1 or not os.path.isdir(paths[0]):
        return ""
    place = os.path.dirname(paths[0]) if os.path.basename(paths[0]) == "logs" else paths[0]
    return place if os.path.isfile(os.path.join(place, "events.jsonl")) else ""


def _of_own(run: str, request: Request, edge: Edge) -> int:
    """Diagnose a recorded run as ``fanout report`` does: unlike the logs, its record has the time of every line."""
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
    """Yield the files that an argument names: itself, or all logs below a directory. Raises UsageError."""
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
        raise UsageError(f"{name}: no log files in this directory")
    if len(logs) > MOST_FILES:
        raise UsageError(f"{name}: {len(logs)} files, more than {MOST_FILES}", hint="name the files of one run")
    yield from logs
