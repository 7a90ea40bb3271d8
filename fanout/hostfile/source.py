"""Source of a host list: a file, standard input, a Slurm allocation or the command line. Only I/O here."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Mapping

from fanout.hostfile.other_file_types import recognize_task_file
from fanout.hostfile.parse import MOST_BYTES, decode_text, parse_hostfile
from fanout.hostfile.render import COMMAND_LINE
from fanout.model.errors import HostfileError
from fanout.model.frozen import frozen
from fanout.model.hosts import HostFile
from fanout.text.sanitize import escape_invisible
from fanout.text.suggest import suggest_nearest

_FILE_WORDS = {"hosts", "hostfile", "hostlist", "inventory", "machinefile", "machines", "nodefile", "nodes"}
_FILE_ENDINGS = {"txt", "yaml", "yml", "json", "ini", "cfg", "conf", "csv", "list", "lst", "hosts", "hostfile", "nodes"}
_SHELL_PIPE = re.compile(r"/(?:dev|proc/(?:self|\d+))/fd/\d+|/dev/stdin")


@frozen
class HostSource:
    """The bytes of a host list and its name for the user."""

    name: str
    data: bytes
    is_file: bool


def read_host_list(
    source: str, *, stdin: Callable[[int], bytes], environ: Mapping[str, str], hint_dir: str | None = None
) -> HostFile:
    """Return the hosts of HOSTS: a path, ``-``, ``@slurm``, or a host list (``gpu[01-16]``, ``user@h1:2222,h2``).

    Raise ``HostfileError`` with all problems. If a path does not exist, ``hint_dir`` is searched for similar names
    (default: the directory of the path).
    """
    return parse_source(load_source(source, stdin=stdin, environ=environ, hint_dir=hint_dir))


def parse_source(source: HostSource) -> HostFile:
    """Parse a loaded source; its includes are read from disk."""
    return parse_hostfile(source.data, file=source.name, load=read_file if source.is_file else None)


def describe_task_file(path: str) -> str:
    """Return what the file is, if it belongs to a task and is not a hostfile: ``Python, not a hostfile``; else ""."""
    if not os.path.isfile(path):
        return ""
    try:
        text = decode_text(read_file(path), file=path)
    except HostfileError:
        return ""
    found = recognize_task_file(text.splitlines(), text, path)
    return found.what if found is not None else ""


def load_source(
    source: str, *, stdin: Callable[[int], bytes], environ: Mapping[str, str], hint_dir: str | None = None
) -> HostSource:
    """Load the bytes of HOSTS. An existing path has precedence over a host of the same name."""
    if not source.strip():
        raise HostfileError("HOSTS is empty", hint="give a hostfile, or hosts such as gpu01,gpu02")
    if source == "-":
        return HostSource(name="<stdin>", data=stdin(MOST_BYTES + 1), is_file=True)
    if source.startswith("@"):
        return HostSource(name=source, data=_read_scheduler(source, environ), is_file=False)
    if os.path.exists(source):
        return HostSource(name=source, data=read_file(source), is_file=True)
    if _looks_like_a_path(source):
        raise HostfileError(f"{escape_invisible(source)}: no such file", hint=_suggest_files(source, hint_dir))
    return HostSource(name=COMMAND_LINE, data=source.encode("utf-8", "surrogateescape"), is_file=False)


def read_file(path: str) -> bytes:
    """Read a regular file, or a shell pipe from ``<(…)``. It never blocks on a fifo."""
    shown = escape_invisible(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise HostfileError(f"{shown}: {_describe_os_error(error)}") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode) and not (stat.S_ISFIFO(mode) and _SHELL_PIPE.fullmatch(path)):
            what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise HostfileError(f"{shown}: {what}", hint="to read from a pipe give - and pipe into fanout")
        os.set_blocking(descriptor, True)
        return _read_limited(descriptor, MOST_BYTES + 1)
    except OSError as error:
        raise HostfileError(f"{shown}: {_describe_os_error(error)}") from None
    finally:
        os.close(descriptor)


def _read_limited(descriptor: int, most: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while size < most:
        chunk = os.read(descriptor, min(1 << 16, most - size))
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def _describe_os_error(error: OSError) -> str:
    if error.errno == errno.ENXIO:
        return "not a regular file"
    return (error.strerror or str(error)).lower()


def _read_scheduler(source: str, environ: Mapping[str, str]) -> bytes:
    if source != "@slurm":
        raise HostfileError(
            f"{escape_invisible(source)}: unknown source",
            hint="@slurm reads the Slurm allocation; to choose a group of a file use --tag",
        )
    nodes = environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST")
    if not nodes:
        raise HostfileError(
            "@slurm: SLURM_JOB_NODELIST is not set, so this is not a Slurm allocation",
            hint="run it inside salloc or sbatch, or give the hosts: fanout hosts 'gpu[01-16]'",
        )
    gpus = environ.get("SLURM_GPUS_PER_NODE", "").rpartition(":")[2]  # "8" or "a100:8"
    slots = f" slots={gpus}" if gpus.isascii() and gpus.isdigit() and int(gpus) else ""
    return f"{nodes}{slots}".encode("utf-8", "surrogateescape")


def _looks_like_a_path(source: str) -> bool:
    ending = source.rpartition(".")[2].lower() if "." in source else ""
    return "/" in source or source.startswith(("~", ".")) or ending in _FILE_ENDINGS or source.lower() in _FILE_WORDS


def _suggest_files(source: str, hint_dir: str | None) -> str:
    folder, name = os.path.split(source)
    folder = hint_dir if hint_dir is not None else folder
    try:
        names = [entry.name for entry in os.scandir(folder or ".") if entry.is_file()]
    except OSError:
        return f"the folder {escape_invisible(folder)} does not exist either"
    prefix = folder if hint_dir is None else os.path.dirname(source)
    guess = suggest_nearest(
        os.path.join(prefix, name), [os.path.join(prefix, each) for each in names], most=3, likeness=0.45
    )
    return escape_invisible(guess) or "give a hostfile, or hosts such as gpu01,gpu02 or 'gpu[01-16]'"
