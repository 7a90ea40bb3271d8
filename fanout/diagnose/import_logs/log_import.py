"""Log files, plain or packed, or stdin. Each is read twice: first for hosts and times, then for its content."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import BinaryIO

from fanout.diagnose.collector import LONGEST_LINE, EvidenceCollector
from fanout.diagnose.import_logs.compressed_lines import BLOCK, read_lines, read_sample
from fanout.diagnose.import_logs.json_records import read_record
from fanout.diagnose.import_logs.launcher_reports import LauncherReports, is_unnamed_step, list_srun_tasks
from fanout.diagnose.import_logs.line_labels import detect_labels, strip_timestamp
from fanout.diagnose.import_logs.line_times import parse_time
from fanout.diagnose.import_logs.log_files import LogSource, choose_host_name, is_generic_name, read_host_name
from fanout.diagnose.import_logs.torchrun_report import FailureReports, LineAttribution, map_ranks_to_hosts
from fanout.logs import rank_prefix
from fanout.logs.line_splitter import split_rewritten
from fanout.text.sanitize import strip_escapes

STDIN = "-"
_TASK = re.compile(r"^task\d{1,9}$")
_HEAD = 2048  # characters of a line in which its host and its time are searched


class LogFile:
    """One log file. ``hosts`` are known after ``assign_hosts`` on all files."""

    def __init__(self, source: LogSource, open_: Callable[[], BinaryIO]) -> None:
        self.source = source
        self._open = open_
        with closing(self._open()) as file:
            sample = [strip_escapes(line.decode("utf-8", "replace")) for line in read_sample(file, self.name)]
        self._binary = any("\0" in line for line in sample[:20])
        plain = [line for line in sample if read_record(line) is None]
        plan = None if self._binary else detect_labels(plain, read_host_name(source.host))
        self._split = plan.build if plan is not None else None
        self._own = plan is not None and plan.own_lines
        self.tasks: dict[str, str] = {}  # label of a task -> its host, as srun names it
        self._step_host = ""  # the only host with a task that failed, as srun names it
        self._packed_lines = len(plain) < len(sample)
        self.parts: dict[str, FailureReports] = {}  # label -> facts about hosts in its lines
        self.names: dict[str, str] = {}  # label -> host
        self._whose: dict[str, LineAttribution] = {}
        self._numbers: list[int] = []
        self._times: list[float] = []
        if not self._binary:
            self._scan_lines()

    @property
    def name(self) -> str:
        return "stdin" if self.source.path == STDIN else self.source.path

    @property
    def hosts(self) -> tuple[str, ...]:
        mixed = [host for label in self._whose for host in self.parts[label].hosts]
        return tuple(dict.fromkeys([*(name for label, name in self.names.items() if label not in self._whose), *mixed]))

    def set_mixed_hosts(self, label: str, whose: LineAttribution) -> None:
        """Note that lines with this label belong to several hosts."""
        self._whose[label] = whose

    def find_task_rank(self, label: str) -> int | None:
        """Return the rank of a task that is itself a rank, because no launcher started ranks in it."""
        if not _TASK.match(label) or any(part.agents or part.blocks for part in self.parts.values()):
            return None
        number = int(label[4:])
        return number if self.parts[label].spoke <= {number} else None

    def list_ranks(self) -> dict[str, set[int]]:
        """Return host -> the ranks that wrote to this file, as far as its lines or its name show them."""
        found: dict[str, set[int]] = {}
        for label, host in self.names.items():
            task = self.find_task_rank(label)
            named = self.source.rank if task is None else task
            ranks = self.parts[label].spoke | ({named} if named is not None else set())
            if ranks and label not in self._whose:
                found.setdefault(host, set()).update(ranks)
        return found

    def _read_lines(self) -> Generator[bytes, None, None]:
        """Yield the lines; if the packed file is truncated, only the complete ones."""
        with closing(self._open()) as file:
            yield from read_lines(file, self.name)

    def _scan_lines(self) -> None:
        """Find the hosts of the lines, and the lines with a time."""
        split = self._split() if self._split else None
        reports = LauncherReports(is_labelled=split is not None)
        counts: Counter[str] = Counter()
        failed: set[str] = set()
        for number, data in enumerate(self._read_lines(), 1):
            text = whole = reports.join_wrapped(strip_escapes(data[:_HEAD].decode("utf-8", "replace")))
            about, label = reports.find_host(text), ""
            if not reports.is_consequence(text):
                failed |= {*list_srun_tasks(text).values()}
            if split is not None:
                self.tasks |= list_srun_tasks(text)
                label, text = split(text)
            record = read_record(text)
            text = strip_timestamp(text)
            label = about or (record.host if record is not None else "") or label
            if split is not None and not label and not self._own:
                continue
            counts[label] += 1
            for line in record.lines if record is not None else (text,):
                self.parts.setdefault(label, FailureReports()).add_line(line, number, counts[label])
            at = parse_time(whole) or parse_time(text if record is None else record.time)
            if at is not None and (not self._times or at > self._times[-1]):  # a file never goes back in time
                self._numbers.append(number)
                self._times.append(at)
        if not self.parts:
            self.parts[""] = FailureReports()
        self._step_host = failed.pop() if len(failed) == 1 else ""

    def _find_time(self, number: int) -> float:
        """Return the time of a line, which is the next time in the file, because traceback lines have none."""
        if not self._times:
            return 0.0
        place = bisect_left(self._numbers, number)
        return self._times[min(place, len(self._times) - 1)]

    def send_lines(self, collector: EvidenceCollector, stream: int) -> None:
        """Send all lines to the evidence collector."""
        if not self._times:
            for host in self.hosts:
                collector.add_time_error(host, math.inf)
        if self._binary:
            return
        split = self._split() if self._split else None
        reports = LauncherReports(is_labelled=split is not None)
        ranks = {label: self.find_task_rank(label) for label in self.names}
        marks = {label: f"[rank{rank}]: " for label, rank in ranks.items() if rank is not None}
        number = 0
        for lines in _group_lines(self._read_lines()):
            plain = split is None and not self._whose and not self._packed_lines and "" in self.names
            if plain and not collector.may_contain_evidence(self.names[""], block := b"".join(lines), stream):
                number += len(lines)
                collector.skip_bytes(self.names[""], block, at=self._find_time(number), stream=stream)
                continue
            for data in lines:
                number += 1
                text = reports.join_wrapped(strip_escapes(data.decode("utf-8", "replace").rstrip("\n")))
                about = reports.find_host(text[:_HEAD]) or (self._step_host if is_unnamed_step(text) else "")
                if reports.is_consequence(text):
                    continue
                label, text = split(text) if split is not None else ("", text)
                record = read_record(text)
                text = strip_timestamp(text)
                if record is not None:
                    label, text = record.host or label, "\r".join(record.lines)
                host = about or self._find_host(label, text[:LONGEST_LINE], number)
                mark = marks.get(label, "")
                for part in split_rewritten(text) if host else ():
                    part = mark + part if mark and not rank_prefix.has_rank(part) else part
                    at = self._find_time(number)
                    collector.add_line(host, part[:LONGEST_LINE], at=at, number=number, stream=stream)

    def _find_host(self, label: str, text: str, number: int) -> str:
        """Return the host of the line, or "" if it is not known."""
        if label in self._whose:
            return self._whose[label](text, number)
        return self.names.get(label, "")


def _group_lines(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield lists of lines, each of about ``BLOCK`` bytes."""
    block: list[bytes] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line)
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def assign_hosts(files: Sequence[LogFile]) -> None:
    """Assign a host to every file and every label: its own name if that is a host name, else the name from torchrun."""
    parts = [(file, label, register) for file in files for label, register in file.parts.items()]
    parts_of = Counter(part.hosts[0] for file, _, part in parts if len(part.hosts) == 1 and file.source.local is None)
    for file, label, part in parts:
        own = file.find_task_rank(label) is not None  # a task that is a rank: its number names no host
        name = file.tasks.get(label) or ("" if own else label) or file.source.host
        if is_generic_name(name) and len(part.hosts) == 1 and parts_of[part.hosts[0]] == 1:
            name = choose_host_name(name, part.hosts[0])
        file.names[label] = name
    known = map_ranks_to_hosts((part, "" if len(part.hosts) > 1 else file.names[label]) for file, label, part in parts)
    owners: dict[str, set[str | None]] = {}  # hosts of the ranks that write to the logs of one name
    for file, label, part in parts:
        owners.setdefault(file.names[label], set()).update(known.get(rank) for rank in part.spoke)
    for file, label, part in parts:
        owner, *others = owners[file.names[label]] or {None}
        if len(part.hosts) > 1:
            file.set_mixed_hosts(label, LineAttribution(part, known))
        elif owner and not others and (file.source.local is not None or is_generic_name(file.names[label])):
            file.names[label] = owner
    _assign_worker_files(files)


def _assign_worker_files(files: Sequence[LogFile]) -> None:
    """Assign the files of torchrun's log folder to the one host with a report, if their folder has no host name."""
    reported = {host for file in files for part in file.parts.values() for host in part.hosts}
    folders = {file.source.host for file in files if file.source.local is not None}
    if len(reported) != 1 or len(folders) != 1 or not all(map(is_generic_name, folders)):
        return
    named = {file.names[label] for file in files for label, part in file.parts.items() if part.hosts}
    for file in files:
        if file.source.local is not None:
            file.names = dict.fromkeys(file.names, next(iter(named)))
