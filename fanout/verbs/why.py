"""``fanout why``: the same diagnosis over logs that other launchers left, or that were copied from somewhere."""

from __future__ import annotations

import json
import math
import os
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from fanout.arguments import Request
from fanout.diagnose import words
from fanout.diagnose.judge import judge
from fanout.diagnose.sources import Source, label_of, labelled, sources, time_of
from fanout.diagnose.verdict import as_dict
from fanout.diagnose.witness import LONGEST_LINE, Witness
from fanout.errors import UsageError
from fanout.verbs.common import Edge, settings_of
from fanout.verbs.explain import book_of
from fanout.verbs.report import retold
from fanout.views.recorded import Recorded
from fanout.views.sanitise import clean

CLOCKS = 2.0  # seconds by which the clocks of hosts that nobody compared may differ, and torchrun's whole seconds
BLOCK = 256 * 1024
MOST_FILES = 4096
_FIRST = 200
_NOT_LOGS = (".json", ".jsonl", ".yaml", ".yml", ".py", ".pt", ".pth", ".safetensors", ".gz", ".zst", ".pid")


def why(request: Request, edge: Edge) -> int:
    """The verb: 0 where a cause is named, 1 where it stays undetermined."""
    run = _own(request, edge)
    if run:
        return _of_own(run, request, edge)
    found = sources([each for path in request.task for each in _files(os.path.join(edge.cwd, path), path)])
    files = [_File(each, os.path.join(edge.cwd, each.path)) for each in found]
    names = [name for file in files for name in file.hosts()]
    places: dict[tuple[str, int], str] = {}
    witness = Witness(
        tuple(dict.fromkeys(names)),
        book=book_of(settings_of(request, edge), edge),
        file_of=lambda host, stream: places.get((host, stream), host),
        error=CLOCKS,
        live=False,
    )
    for stream, file in enumerate(files):
        for host in file.hosts():
            places[host, stream] = file.source.path
            witness.name(host, stream, rank=file.source.rank, local=file.source.local)
        file.tell(witness, stream)
    verdict = judge(witness.evidence())
    if request.given["as_json"]:
        edge.stdout.write(json.dumps({"files": len(files), **as_dict(verdict)}, indent=2) + "\n")
    else:
        hosts = len(set(names))
        edge.stdout.write(
            f"{len(files)} file{'s' if len(files) > 1 else ''} of {hosts} host{'s' if hosts > 1 else ''}\n"
        )
        edge.stdout.write("".join(f"{clean(line, colour=False)}\n" for line in words.lines(verdict)))
    return 0 if verdict.cause is not None else 1


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
    if os.path.isfile(path):
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


class _File:
    """One log, read twice: for its labels and times, then for what it says."""

    def __init__(self, source: Source, path: str) -> None:
        self.source = source
        self._path = path
        with self._open() as file:
            first = [line.decode("utf-8", "replace") for line in islice(file, _FIRST)]
        self._binary = any("\0" in line for line in first[:20])
        self._label = None if self._binary else label_of(first)
        self._hosts: dict[str, None] = {}
        self._numbers: list[int] = []
        self._times: list[float] = []
        if not self._binary:
            self._survey()

    def hosts(self) -> tuple[str, ...]:
        return tuple(self._hosts)

    def _open(self) -> BinaryIO:
        try:
            return open(self._path, "rb")
        except OSError as error:
            raise UsageError(f"{self.source.path}: {error.strerror}") from None

    def _survey(self) -> None:
        """Whose lines are in it, and which of them say what time it was."""
        if self._label is None:
            self._hosts[self.source.host] = None
        with self._open() as file:
            for number, data in enumerate(file, 1):
                text = data[:120].decode("utf-8", "replace")
                if self._label is not None:
                    host, text = labelled(self._label, text, self.source.host)
                    self._hosts[host] = None
                at = time_of(text)
                if at is not None and (not self._times or at > self._times[-1]):  # a file never goes back in time
                    self._numbers.append(number)
                    self._times.append(at)

    def _at(self, number: int) -> float:
        """When the line was written: at the next time that the file tells, because tracebacks tell none."""
        if not self._times:
            return 0.0
        place = bisect_left(self._numbers, number)
        return self._times[min(place, len(self._times) - 1)]

    def tell(self, witness: Witness, stream: int) -> None:
        """All that it says, to the witness."""
        if not self._times:
            for host in self.hosts():
                witness.doubt(host, math.inf)
        number, rest = 0, b""
        if self._binary:
            return
        with self._open() as file:
            while block := file.read(BLOCK):
                whole, newline, tail = (rest + block).rpartition(b"\n")
                if not newline:
                    rest = tail if len(tail) < LONGEST_LINE * 64 else b""
                    continue
                rest = tail
                number = self._block(witness, stream, whole, number)
        if rest:
            self._block(witness, stream, rest, number)

    def _block(self, witness: Witness, stream: int, data: bytes, number: int) -> int:
        """Some whole lines; the number of the last."""
        if self._label is None and not witness.worth(self.source.host, data, stream):
            return number + data.count(b"\n") + 1
        for line in data.split(b"\n"):
            number += 1
            text = line[:LONGEST_LINE].decode("utf-8", "replace")
            host = self.source.host
            if self._label is not None:
                host, text = labelled(self._label, text, host)
            for part in text.split("\r"):
                if part:
                    witness.line(host, part, at=self._at(number), number=number, stream=stream)
        return number
