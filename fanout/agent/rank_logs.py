"""Rank logs: one stream per rank, without support by train.sh.

torchrun mixes its ranks on one pipe, and its own ``--tee`` splits lines. But it takes every option that is not on its
command line from PET_<OPTION> (torch/distributed/argparse_util.py). So PET_REDIRECTS=3 and PET_LOG_DIR make it write
``DIR/<run>_<random>/attempt_<n>/<local rank>/{stdout,stderr}.log`` (torch/distributed/elastic/multiprocessing/api.py).
Those files *are* the log: the relay reads them in place, and nothing is copied.

Other launchers use files elsewhere, for example `accelerate launch`, or `torchrun --log-dir`. These files are found
through the processes of the run, and copied as they grow (``file_tail``).
"""

from __future__ import annotations

import os
import re
import stat
import time

from . import rank_processes, run_files, torch_dirs
from .file_tail import FileTail
from .log_spool import SHM_PREFIX

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from .rank_processes import OpenFile, RunProcess

REDIRECTS = {"PET_REDIRECTS": "3"}
USER_SETTINGS = ("PET_REDIRECTS", "PET_TEE", "PET_LOG_DIR")  # if one of these is set, the user has configured it
MIN_FREE_BYTES = 64 << 20
HOOKED_FILE = re.compile(r"/rank-(\d{1,9})-\d+/attempt_0/")  # of a rank on the keeper's pipe: ``stack_hook``
CAPTURE_SECONDS = 3.0  # a file that a rank opens itself is its output if it is still open after this time
NAMING_SECONDS = 2.0  # after this time, a rank that was not seen running is named by counting


def explain_no_space(directory: str) -> str:
    """Return why there is no file per rank, "" if there can be: a rank whose print() finds a full disk would die."""
    if directory.startswith(SHM_PREFIX):
        return "no disk has space for a log file per rank: all ranks share one stream"
    filesystem = os.statvfs(directory)
    free = filesystem.f_bavail * filesystem.f_frsize
    if free >= MIN_FREE_BYTES:
        return ""
    return "only %d MB free in %s, too little for a log file per rank: all ranks share one stream" % (
        free >> 20,
        directory,
    )


def redirect_ranks(env: dict, directory: str) -> bool:
    """Add to ``env`` what makes torchrun write a file per rank below ``directory``. Return False if the user configured
    it."""
    if any(name in env for name in USER_SETTINGS):
        return False
    os.mkdir(os.path.join(directory, "ranks"), 0o700)
    env.update(REDIRECTS, PET_LOG_DIR=os.path.join(directory, "ranks"))
    return True


def follow_ranks(directory: str, first: int, environment: dict) -> tuple:
    """Make torchrun write a file per rank, unless the environment or a full disk forbids it; return (RankLogs, notice)."""
    notice = explain_no_space(directory)
    if not notice:
        redirect_ranks(environment, directory)
    return RankLogs(directory, first), notice


class _WaitingFile:
    """A file of a rank without a stream: it is empty, or its rank is not known yet."""

    def __init__(self, path: str, local: int | None, rank: int | None, ending: str) -> None:
        self.path = path
        self.local = local
        self.rank = rank
        self.ending = ending  # " err", " attempt 1"
        self.name = ""  # for a file of several ranks
        self.users: set = set()  # the ranks that were seen to use it
        self.is_shell_file = False  # a shell that started the rank uses it too: more ranks may follow
        self.source = -1  # the descriptor through which a file elsewhere is copied
        self.start = 0
        self.appends = False
        self.since = 0.0  # when it was first seen with content
        self.key: tuple = ()
        self.owner: tuple = ()  # (pid, descriptor) of a rank that opened the file itself, until it is sure to stay
        self.found_at = time.monotonic()

    @property
    def has_content(self) -> bool:
        """Return whether there is something to show: an empty stream needs no name."""
        return (os.fstat(self.source).st_size > self.start) if self.source >= 0 else _read_size(self.path) > 0


class RankLogs:
    """The files found so far: stream number -> (name, path, size). Numbers count from 1 in the order of finding."""

    def __init__(self, directory: str, first_rank: int) -> None:
        self.directory = directory
        self.root = os.path.join(directory, "ranks")
        self.names: dict = {}
        self.paths: dict = {}
        self.sizes: dict = {}
        self._list = os.open(
            os.path.join(directory, "streams"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self._first_rank = first_rank
        self._ranks: dict = {}  # local rank -> global rank, from the environments of running ranks
        self._seen: set = set()  # global ranks whose processes were seen
        self._waiting: list = []
        self._own: dict = {}  # path below ``root`` -> (device, inode)
        self._elsewhere: dict = {}  # (device, inode) -> _WaitingFile, of files that are copied
        self._outputs: dict = {}  # (pid, descriptor) of ranks -> key of the file there, () for a pipe
        self._torch_runs: set = set()  # directories of a launcher's ranks elsewhere
        self._tails: dict = {}  # stream number -> FileTail
        self._began = rank_processes.read_birth(self._list)

    def scan(self, keeper: int, final: bool = False) -> list:
        """Return frames of the streams that are new since the last scan; update the sizes of all streams."""
        self._find_own_files()
        known = len(self._seen)
        self._search_processes(keeper)
        new = self._open_streams(final)
        for number, path in self.paths.items():
            tail = self._tails.get(number)
            if tail is None:
                self.sizes[number] = _read_size(path)
            else:
                try:
                    tail.copy_new(*((tail.missing,) if final else ()))
                except OSError:
                    pass  # its file server does not answer, or removed the file: the run continues
                self.sizes[number] = tail.target.size
        return self._build_ranks_frames(known) + [self.build_frame(number) for number in new]

    def count_missing(self) -> int:
        """Return the bytes of files elsewhere that the disk had no space for."""
        return sum(tail.missing for tail in self._tails.values())

    def build_all_frames(self) -> list:
        """Return the frames that a new relay has missed."""
        return self._build_ranks_frames(0) + [self.build_frame(number) for number in self.paths]

    def _build_ranks_frames(self, known: int) -> list:
        """Return the frame about the ranks that were seen, if they are more than ``known``."""
        return [{"t": "ranks_seen", "ranks": sorted(self._seen)}] if len(self._seen) > known else []

    def build_frame(self, number: int) -> dict:
        """Return the frame that announces a stream to a relay."""
        return {"t": "stream_opened", "stream": number, "name": self.names[number], "path": self.paths[number]}

    # -- finding files

    def _find_own_files(self) -> None:
        for path in _find_files(self.root):
            if path not in self._own and _read_key(path):
                self._own[path] = _read_key(path)
                attempt, local, ending = _parse_torch_path(path)
                hooked = HOOKED_FILE.search(path)
                rank = int(hooked[1]) if hooked else None
                self._waiting.append(_WaitingFile(path, local, rank, ending + attempt))

    def _search_processes(self, keeper: int) -> None:
        """Find the files of running ranks, and those that their launchers have open for them."""
        shared: dict = {}  # pid of a launcher -> keys of its stdout and stderr
        shells: set = set()
        current: dict = {}
        for process in rank_processes.iter_processes(keeper):
            found = process.find_outputs()
            outputs = [(number, file) for number, file in found if file is not None]
            if not process.is_rank:
                shared[process.pid] = {file.key for _, file in outputs}
                shells.update({process.pid} if outputs and process.is_shell else ())
                for file in process.find_torch_files():
                    self._follow_torch_file(file.key, file.path, file.link, process.pid)
                continue
            self._seen.update({process.rank} if process.rank is not None else ())
            if process.rank is not None and process.local is not None:
                self._ranks[process.local] = process.rank
            current.update({(process.pid, number): file.key if file is not None else () for number, file in found})
            for number, file in outputs:
                if rank_processes.TORCH_FILE.search(file.path):
                    self._follow_torch_file(file.key, file.path, file.link, process.parent)
                else:
                    is_shared = file.key in shared.get(process.parent, ())
                    self._follow_output(process, number, file, is_shared, process.parent in shells)
        self._outputs = current
        self._drop_captures()
        for run in self._torch_runs:  # a rank that ended at once was never seen running
            for path in _find_files(run):
                self._follow_torch_file(_read_key(path), path, path, -1)

    def _follow_torch_file(self, key: tuple, path: str, link: str, launcher: int) -> None:
        """Follow a file that torchrun made for a rank in a directory elsewhere."""
        attempt, local, ending = _parse_torch_path(path)
        if not self._follow_file(key, link, _WaitingFile(path, local, None, ending + attempt)):
            return
        run = os.path.dirname(os.path.dirname(os.path.dirname(path)))
        if run not in self._torch_runs and _read_key(path) == key:  # not deleted, and of this mount namespace
            self._torch_runs.add(run)
            torch_dirs.record_directory(self.directory, run, launcher)

    def _follow_output(self, process: RunProcess, number: int, file: OpenFile, shared: bool, by_shell: bool) -> None:
        """Follow the stdout or stderr of a rank. A file that its launcher uses too may contain lines of several ranks."""
        known = self._elsewhere.get(file.key)
        if known is not None:
            known.ending = "" if number == 1 else known.ending
            known.users.add(process.rank)
            return
        waiting = _WaitingFile(file.path, process.local, process.rank, " err" if number == 2 else "")
        waiting.users.add(process.rank)
        waiting.name = "file " + ascii(os.path.basename(file.path))[1:-1][:100] if shared else ""
        waiting.is_shell_file = shared and by_shell
        waiting.appends = file.appends
        owner = (process.pid, number)
        waiting.owner = owner if self._outputs.get(owner, file.key) != file.key else ()
        if not self._follow_file(file.key, file.link, waiting) or not file.appends:
            return
        if not self._began or rank_processes.read_birth(waiting.source) < self._began:  # it may have older lines
            waiting.start = os.fstat(waiting.source).st_size

    def _follow_file(self, key: tuple, link: str, waiting: _WaitingFile) -> bool:
        """Open a file and return True if it is new. It stays open, so no other file gets its inode."""
        if not key or key in self._elsewhere or self._is_own(key, waiting.path):
            return False
        try:
            waiting.source = os.open(link, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return False
        seen = os.fstat(waiting.source)
        if (seen.st_dev, seen.st_ino) != key:  # the process has opened another file meanwhile
            os.close(waiting.source)
            return False
        self._elsewhere[key] = waiting
        waiting.key = key
        self._waiting.append(waiting)
        return True

    def _is_own(self, key: tuple, path: str) -> bool:
        """Return whether a file is below ``root``, also if it appeared there after the last search."""
        if path.startswith(self.root + "/") and key not in self._own.values():
            self._find_own_files()
        return key in self._own.values()

    def _drop_captures(self) -> None:
        """Drop files that a rank opened as its stdout or stderr for a moment only, to read what a library prints."""
        for waiting in [each for each in self._waiting if each.owner]:
            if self._outputs.get(waiting.owner, waiting.key) != waiting.key:
                self._waiting.remove(waiting)
                del self._elsewhere[waiting.key]
                os.close(waiting.source)
            elif waiting.owner not in self._outputs or time.monotonic() - waiting.found_at >= CAPTURE_SECONDS:
                waiting.owner = ()

    # -- streams

    def _open_streams(self, final: bool) -> list:
        """Return the numbers of the streams that can be named now."""
        now = time.monotonic()
        new, kept = [], []
        for waiting in sorted(self._waiting, key=lambda each: each.path):
            waiting.since = waiting.since or (now if waiting.has_content else 0.0)
            rank = waiting.rank if waiting.rank is not None else self._ranks.get(waiting.local, -1)
            late = final or (waiting.since and now - waiting.since >= NAMING_SECONDS)
            if waiting.is_shell_file and late and len(waiting.users) < 2:
                waiting.name = ""
            is_unknown = waiting.is_shell_file or (rank < 0 and not waiting.name)
            if not waiting.since or waiting.owner or (is_unknown and not late):
                kept.append(waiting)
                continue
            if rank < 0:
                rank = self._first_rank + (waiting.local or 0)
            new.append(self._open_stream(waiting, (waiting.name or "rank %d" % rank) + waiting.ending))
        self._waiting = kept
        return new

    def _open_stream(self, waiting: _WaitingFile, name: str) -> int:
        """Give the file a number and record it: the list outlives the keeper."""
        number = len(self.paths) + 1
        path = waiting.path
        if waiting.source >= 0:
            target = run_files.StreamFile(self.directory, number)
            self._tails[number] = FileTail(waiting.source, waiting.start, waiting.appends, target)
            path = run_files.stream_path(self.directory, number)
        self.names[number], self.paths[number] = name, path
        os.write(self._list, os.fsencode("%d\t%s\t%s\n" % (number, name, path)))
        return number


def read_streams(directory: str) -> dict:
    """Return stream number -> (name, path), as a keeper recorded them."""
    streams = {}
    try:
        with open(os.path.join(directory, "streams"), encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                number, tab, rest = line.rstrip("\n").partition("\t")
                name, tab, path = rest.partition("\t")
                if tab and number.isdigit():
                    streams[int(number)] = (name, path)
    except OSError:
        pass
    return streams


def _parse_torch_path(path: str) -> tuple:
    """Return (" attempt <n>" or "", local rank, " err" or "") of a rank's file that torchrun made."""
    match = rank_processes.TORCH_FILE.search(path)
    if match is None:
        return "", None, ""
    attempt = int(match[1])
    return " attempt %d" % attempt if attempt else "", int(match[2]), " err" if match[3] == "err" else ""


def _find_files(root: str) -> list:
    """Return all stdout.log and stderr.log files at torchrun's depth: of a directory of runs, or of one run."""
    found = []
    for run in (root, *_list_directories(root)):
        for attempt in _list_directories(run):
            for local in _list_directories(attempt) if os.path.basename(attempt).startswith("attempt_") else ():
                if os.path.basename(local).isdigit():
                    found += [os.path.join(local, name) for name in ("stdout.log", "stderr.log")]
    return found


def _list_directories(path: str) -> list:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _read_size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _read_key(path: str) -> tuple:
    """Return (device, inode) of a regular file, () if there is none."""
    try:
        seen = os.lstat(path)
    except OSError:
        return ()
    return (seen.st_dev, seen.st_ino) if stat.S_ISREG(seen.st_mode) else ()
