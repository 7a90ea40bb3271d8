"""Helpers of all probes: an error with the reason of a missing fact, a child with a timeout, a program's output."""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import subprocess
import time

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Callable


class FactUnavailable(Exception):
    """A fact that is not available on this host; the text contains the reason for the user.

    ``reason`` is the same for programs, a value of AnswerReason in the launcher's events.
    """

    is_reason = True  # the text is for the user as it is, without the name of this class

    def __init__(self, text: str, reason: str = "unavailable") -> None:
        Exception.__init__(self, text)
        self.reason = reason


_PATH_BYTES = 1024
_looking: list[mmap.mmap] = []  # in the child of an Aside: where it notes its path


class ForkedCall:
    """A section in a forked child, so that an unresponsive file server does not block this process."""

    def __init__(self, section: Callable[[], Any], seconds: float) -> None:
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._reader, writer = os.pipe()
        self._path = mmap.mmap(-1, _PATH_BYTES)  # shared with the child
        self._child = os.fork()
        if self._child == 0:
            _looking.append(self._path)
            _run_section(section, writer)
        os.close(writer)

    def get_result(self) -> Any:
        """Return what the section returned. Raises FactUnavailable with its reason, or when the time is over."""
        try:
            text = _read_until(self._reader, self._deadline)
        finally:
            os.close(self._reader)
        if text is None:
            asleep = _describe_wait(self._child)
            os.kill(self._child, signal.SIGKILL)  # in state D it dies when its server answers
            os.waitpid(self._child, os.WNOHANG)
            path = self._path[:].rstrip(b"\0").decode("utf-8", "replace")
            raise FactUnavailable(
                "no answer within %g s%s%s" % (self._seconds, " from " + path if path else "", asleep),
                "stuck" if asleep.startswith(" (state D") else "timeout",
            )
        os.waitpid(self._child, 0)
        had, value, reason = json.loads(text) if text else (False, "the probe died", "failed")
        if not had:
            raise FactUnavailable(value, reason)
        return value


def note_path(path: str) -> None:
    """Note which path the section looks at next: the answer names it if the look never ends."""
    for shared in _looking[-1:]:
        shared[:] = os.fsencode(path)[:_PATH_BYTES].ljust(_PATH_BYTES, b"\0")


def _run_section(section: Callable[[], Any], writer: int) -> None:
    try:
        try:
            text = json.dumps([True, section(), ""])
        except FactUnavailable as error:
            text = json.dumps([False, str(error), error.reason])
        except Exception as error:
            text = json.dumps([False, "%s: %s" % (type(error).__name__, error), "failed"])
        data = text.encode()
        while data:
            data = data[os.write(writer, data) :]
    finally:
        os._exit(0)


def _read_until(reader: int, deadline: float) -> bytes | None:
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        part = os.read(reader, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _describe_wait(pid: int) -> str:
    """Return `` (state D in nfs4_wait)`` if the kernel reports it."""
    try:
        state = read_start("/proc/%d/stat" % pid).rpartition(")")[2].split()[0]
        wchan = read_start("/proc/%d/wchan" % pid).strip("\0 \n0")
    except OSError:
        return ""
    return " (state %s%s)" % (state, " in " + wchan if wchan else "")


def read_start(path: str, limit: int = 1 << 16) -> str:
    """Return the beginning of a small text file. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(limit).decode("utf-8", "replace")


def read_or_empty(path: str, limit: int = 1 << 16) -> str:
    try:
        return read_start(path, limit)
    except OSError:
        return ""


class ToolProcess:
    """A program that runs in the background. Its output goes to a memory file, so it never blocks."""

    def __init__(self, argv: list[str], env: dict[str, str], seconds: float) -> None:
        self.path, self.name = argv[0], os.path.basename(argv[0])
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._out = os.memfd_create("probe")
        try:
            self._child = subprocess.Popen(
                argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._out)
            raise FactUnavailable("%s: %s" % (argv[0], error.strerror or error)) from None

    def get_output(self) -> tuple[int, str]:
        """Return (exit status, text). On timeout, kill the program's group and raise FactUnavailable."""
        try:
            status = self._child.wait(max(0.0, self._deadline - time.monotonic()))
            return status, os.pread(self._out, 1 << 22, 0).decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            self._kill_group()
            raise FactUnavailable("%s gave no answer within %g s" % (self.name, self._seconds), "timeout") from None
        finally:
            os.close(self._out)

    def discard(self) -> None:
        """Kill the program, because its answer is no longer needed."""
        self._kill_group(0.1)
        os.close(self._out)

    def _kill_group(self, patience: float = 1.0) -> None:
        """Kill the program's group. A process that hangs in the kernel may die later; do not wait for it."""
        os.killpg(self._child.pid, signal.SIGKILL)
        try:
            self._child.wait(patience)
        except subprocess.TimeoutExpired:
            pass


def search_path(args: dict[str, Any]) -> str:
    """Return train.sh's PATH: that of the login, after the virtual environment's if one is configured."""
    login = os.environ.get("PATH") or os.defpath
    venv = args.get("venv")
    return "%s/bin:%s" % (os.path.expanduser(venv), login) if venv else login


def add_section(answer: dict[str, Any], name: str, had: Callable[[], Any]) -> None:
    """Add one section to ``answer``. A failure affects only this section, and goes to ``missing`` and ``reasons``."""
    try:
        answer[name] = had()
    except FactUnavailable as error:
        add_missing(answer, name, str(error), error.reason)
    except Exception as error:
        add_missing(answer, name, "%s: %s" % (type(error).__name__, error), "failed")


def add_missing(answer: dict[str, Any], name: str, text: str, reason: str) -> None:
    """Note why a section is missing: ``text`` for people, ``reason`` for programs."""
    answer.setdefault("missing", {})[name] = text
    answer.setdefault("reasons", {})[name] = reason
