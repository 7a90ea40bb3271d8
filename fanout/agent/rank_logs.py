"""Rank logs: one stream per rank, without support by train.sh. torchrun writes a file per rank, and the relay follows
the files.

torchrun mixes its ranks on one pipe, and its own ``--tee`` splits lines. But it takes every option that is not on its
command line from PET_<OPTION> (torch/distributed/argparse_util.py). So PET_REDIRECTS=3 and PET_LOG_DIR make it write
``DIR/<run>_<random>/attempt_<n>/<local rank>/{stdout,stderr}.log`` (torch/distributed/elastic/multiprocessing/api.py).
Those files *are* the log: the relay reads them in place, and nothing is copied.
"""

from __future__ import annotations

import os
import time

from . import processes
from .log_spool import SHM_PREFIX

REDIRECTS = {"PET_REDIRECTS": "3"}
USER_SETTINGS = ("PET_REDIRECTS", "PET_TEE", "PET_LOG_DIR")  # if one of these is set, the user has configured it
MIN_FREE_BYTES = 64 << 20
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


class RankLogs:
    """The files found so far: stream number -> (name, path, size). Numbers count from 1 in the order of finding."""

    def __init__(self, directory: str, first_rank: int) -> None:
        self.root = os.path.join(directory, "ranks")
        self._list = os.open(
            os.path.join(directory, "streams"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self._first_rank = first_rank
        self._waiting: dict = {}  # path -> when it was first seen, until its rank is known
        self.names: dict = {}
        self.paths: dict = {}
        self.sizes: dict = {}

    def scan(self, keeper: int, final: bool = False) -> list:
        """Return frames of the streams that are new since the last scan; update the sizes of all streams."""
        new = self._find_new(keeper, final)
        for number, path in self.paths.items():
            self.sizes[number] = _read_size(path)
        return [self.build_frame(number) for number in new]

    def build_frame(self, number: int) -> dict:
        """Return the frame that announces a stream to a relay."""
        return {"t": "stream_opened", "stream": number, "name": self.names[number], "path": self.paths[number]}

    def _find_new(self, keeper: int, final: bool) -> list:
        now = time.monotonic()
        known = set(self.paths.values())
        for path in _find_files(self.root):
            if path not in known and _read_size(path) > 0:  # an empty stream needs no name
                self._waiting.setdefault(path, now)
        if not self._waiting:
            return []
        ranks = read_ranks(keeper)
        new = []
        for path, since in sorted(self._waiting.items()):
            local = int(os.path.basename(os.path.dirname(path)))
            rank = ranks.get(local, -1)
            if rank < 0:
                if not final and now - since < NAMING_SECONDS:
                    continue
                rank = self._first_rank + local
            del self._waiting[path]
            new.append(self._add_stream(path, rank))
        return new

    def _add_stream(self, path: str, rank: int) -> int:
        """Give the file a number and record it: the list outlives the keeper."""
        number = len(self.paths) + 1
        attempt = os.path.basename(os.path.dirname(os.path.dirname(path)))[len("attempt_") :]
        name = "rank %d" % rank + (" err" if path.endswith("stderr.log") else "")
        if attempt not in ("", "0"):
            name += " attempt " + attempt
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


def follow_ranks(directory: str, first: int, environment: dict) -> tuple:
    """Make torchrun write a file per rank, unless the environment forbids it; return (RankLogs or None, notice)."""
    notice = explain_no_space(directory)
    if not notice and redirect_ranks(environment, directory):
        return RankLogs(directory, first), ""
    return None, notice


def read_ranks(keeper: int) -> dict:
    """Return local rank -> global rank, from the environments of the running workers below the keeper."""
    found = {}
    for pid in processes.descendants(keeper):
        try:
            env = dict(entry.partition(b"=")[::2] for entry in processes.read_environ(pid).split(b"\0"))
            found[int(env[b"LOCAL_RANK"])] = int(env[b"RANK"])
        except (OSError, KeyError, ValueError):
            continue  # not a worker, or it has ended
    return found


def _find_files(root: str) -> list:
    """Return all stdout.log and stderr.log files at torchrun's depth below ``root``."""
    found = []
    for run in _list_directories(root):
        for attempt in _list_directories(run):
            for local in _list_directories(attempt):
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
