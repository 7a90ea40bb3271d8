"""``fanout why``: diagnose a failed run from log files of any launcher."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, BinaryIO

from fanout.diagnose import verdict_text
from fanout.diagnose.collector import EvidenceCollector
from fanout.diagnose.first_cause import diagnose_evidence
from fanout.diagnose.import_logs import dump_files
from fanout.diagnose.import_logs.compressed_lines import BLOCK
from fanout.diagnose.import_logs.log_files import identify_files
from fanout.diagnose.import_logs.log_import import STDIN, LogFile, assign_hosts
from fanout.diagnose.signatures import SignatureSet
from fanout.diagnose.verdict import to_dict
from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.request import Request
from fanout.record.run_lookup import find_run
from fanout.record.run_reader import RunReader
from fanout.run.closing_report import measure_width
from fanout.run.command_context import CommandContext, load_command_context
from fanout.run.diagnosis import load_signatures
from fanout.run.process_context import ProcessContext
from fanout.run.recorded_report import rebuild_report
from fanout.text.paint import Painter
from fanout.text.units import count_noun
from fanout.ui.display_mode import choose_text_style
from fanout.ui.report_headline import build_headline
from fanout.ui.run_report import wrap_diagnosis

CLOCK_ERROR = 2.0  # seconds: hosts' clocks may differ, and torchrun writes whole seconds
MOST_FILES = 4096
_IN_MEMORY = 1 << 20  # bytes of stdin; more of it needs room in the directory of temporary files
_NOT_LOGS = (
    ".json",
    ".jsonl",
    ".yaml",
    ".yml",
    ".toml",
    ".py",
    ".sh",
    ".md",
    ".rst",
    ".html",
    ".pt",
    ".pth",
    ".safetensors",
    ".pid",
)


def run_why(request: Request, process: ProcessContext) -> int:
    """Run the command; return 0 if a cause is named, 1 if it is undetermined."""
    run = _find_own_run(request, process)
    if run:
        return _diagnose_own_run(run, request, process)
    paths = _list_paths(request, process)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as copy:
        if STDIN in paths:
            _keep_stdin(copy, process)
        return _of_logs(paths, copy, request, process)


def _of_logs(paths: list[str], copy: IO[bytes], request: Request, process: ProcessContext) -> int:
    """Report what the files contain; ``copy`` is the copy of stdin."""
    dumps = {path: None for path in paths if path != STDIN and dump_files.is_dump(os.path.join(process.cwd, path))}
    files = _open_logs([path for path in paths if path not in dumps], copy, process)
    context = load_command_context(request, process)
    collector = collect_lines(files, load_signatures(context))
    _add_dumps(list(dumps), collector, process)
    verdict = diagnose_evidence(collector.build_evidence())
    if request.given["as_json"]:
        process.stdout.write(json.dumps({"files": len(files) + len(dumps), **to_dict(verdict)}, indent=2) + "\n")
    else:
        process.stdout.write(_format_heading(files, len(dumps)))
        _print_lines(verdict_text.render_lines(verdict), context)
    return ExitStatus.SUCCESS if verdict.cause is not None else ExitStatus.NEGATIVE


def _print_lines(lines: Sequence[str], context: CommandContext) -> None:
    """Print the lines of a diagnosis, wrapped to the terminal."""
    process = context.process
    width = measure_width(process, is_terminal=process.stdout.isatty())
    paint = Painter(choose_text_style(process.environ, process.stdout, context.settings).colour)
    process.stdout.write("".join(f"{line}\n" for line in wrap_diagnosis(lines, width, paint)))


def collect_lines(files: list[LogFile], signatures: SignatureSet) -> EvidenceCollector:
    """Return a collector with all lines of the files; their hosts are assigned."""
    names = [name for file in files for name in file.hosts]
    places: dict[tuple[str, int], str] = {}
    collector = EvidenceCollector(
        tuple(dict.fromkeys(names)),
        book=signatures,
        file_of=lambda host, stream: places.get((host, stream), host),
        error=CLOCK_ERROR,
        live=False,
    )
    for stream, file in enumerate(files):
        for host in file.hosts:
            places[host, stream] = file.name
        for host in file.hosts:
            collector.set_rank(host, stream, rank=file.source.rank, local=file.source.local)
        for host, ranks in file.list_ranks().items():
            collector.add_ranks(host, ranks)
        file.send_lines(collector, stream)
    return collector


def _format_heading(files: list[LogFile], dumps: int) -> str:
    """Return the first line, for example ``4 files of 2 hosts, 8 dumps of flight recorders``."""
    hosts = len({name for file in files for name in file.hosts})
    parts = [f"{count_noun(len(files), 'file')} of {count_noun(hosts, 'host')}"] if files else []
    parts += [f"{count_noun(dumps, 'dump')} of flight recorders"] if dumps else []
    return f"{', '.join(parts)}\n"


def _add_dumps(paths: list[str], collector: EvidenceCollector, process: ProcessContext) -> None:
    """Read the flight recorder dumps and give them to the evidence collector."""
    hosts = dump_files.find_hosts(paths)
    for path, dump in zip(paths, dump_files.read_dumps(paths, process.cwd), strict=True):
        collector.dumps.add_dumps(hosts[path], [dump])


def _list_paths(request: Request, process: ProcessContext) -> list[str]:
    """Return the files that the arguments name."""
    return [each for word in request.task for each in _find_files(os.path.join(process.cwd, word), word)]


def _open_logs(paths: list[str], copy: IO[bytes], process: ProcessContext) -> list[LogFile]:
    """Open the log files, read each once, and assign their hosts."""

    def opener(path: str) -> Callable[[], BinaryIO]:
        if path == STDIN:
            return lambda: _from_start(copy)
        return lambda: _open_file(os.path.join(process.cwd, path), path)

    files = [LogFile(each, opener(each.path)) for each in identify_files(paths)]
    assign_hosts(files)
    return files


def _keep_stdin(copy: IO[bytes], process: ProcessContext) -> None:
    """Copy stdin to a file without a name: a log is read twice, and may be larger than the memory."""
    try:
        while block := process.stdin(BLOCK):
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


def _open_file(path: str, name: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None


def _find_own_run(request: Request, process: ProcessContext) -> str:
    """Return the directory of a recorded run, if the argument is that directory, its logs/, or a RUN; else ""."""
    paths = [os.path.normpath(os.path.join(process.cwd, word)) for word in request.task]
    if len(paths) != 1:
        return ""
    if not os.path.exists(paths[0]) and request.task[0] != STDIN:
        with contextlib.suppress(UsageError):  # then the error names the missing file
            return find_run(request.task[0], load_command_context(request, process).find_runs_directory())
    if not os.path.isdir(paths[0]):
        return ""
    place = os.path.dirname(paths[0]) if os.path.basename(paths[0]) == "logs" else paths[0]
    return place if os.path.isfile(os.path.join(place, "events.jsonl")) else ""


def _diagnose_own_run(run: str, request: Request, process: ProcessContext) -> int:
    """Diagnose a recorded run as ``fanout report`` does: unlike the logs, its record has the time of every line."""
    context = load_command_context(request, process)
    recorded = rebuild_report(RunReader(run), context)
    verdict, hosts = recorded.verdict, recorded.facts.heading.hosts
    if request.given["as_json"]:
        found = (
            to_dict(verdict) if verdict is not None else {"v": 1, "verdict": recorded.outcome.headline, "cause": None}
        )
        process.stdout.write(json.dumps({"run": recorded.facts.heading.run_id, **found}, indent=2) + "\n")
    else:
        process.stdout.write(f"run {recorded.facts.heading.run_id} on {count_noun(len(hosts), 'host')}\n")
        lines = verdict_text.render_lines(verdict) if verdict is not None else [build_headline(recorded.facts)]
        _print_lines(lines, context)
    return ExitStatus.SUCCESS if verdict is not None and verdict.cause is not None else ExitStatus.NEGATIVE


def _find_files(path: str, name: str) -> Iterator[str]:
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
