"""fanout on a terminal of its own, as a shell would start it: what it shows, keys for it, and the modes it leaves."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.processes import end_process
from tests.ui.goldens import Terminal

PATIENCE = 90.0  # far more than anything here takes on an idle machine
SIZE = (100, 30)
#: A session leader that holds the terminal as a shell does: its job is the process group in the foreground.
SHELL = """
import fcntl, os, signal, sys, termios
told, wished = int(sys.argv[1]), int(sys.argv[2])
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
while True:
    status = os.waitpid(child, os.WUNTRACED)[1]
    if not os.WIFSTOPPED(status):
        break
    os.tcsetpgrp(0, os.getpgrp())
    os.write(told, b"stopped %d\\n" % child)
    if os.read(wished, 1):
        os.tcsetpgrp(0, child)
        os.killpg(child, signal.SIGCONT)
os.write(told, b"ended %d\\n" % os.waitstatus_to_exitcode(status))
"""


class Watched:
    """A fanout on a terminal; ``screen`` is what a person sees."""

    def __init__(self, master: int, slave: int, child: subprocess.Popen[bytes], words: int, wishes: int) -> None:
        self.master, self.slave, self.child = master, slave, child
        self._words, self._wishes = words, wishes
        self.raw = b""
        self.told = b""

    def wait_for_text(self, text: str) -> None:
        """Read until this has been written since the run began."""
        self._read_while(lambda: text.encode() not in self.raw, text)

    def wait_for_new_text(self, text: str) -> None:
        """Read until this is written after the call."""
        begin = len(self.raw)
        self._read_while(lambda: text.encode() not in self.raw[begin:], text)

    def wait_for_word(self, word: bytes) -> None:
        """Read until the shell reports that its job stopped or ended, and all that the job had written by then."""
        self._read_while(lambda: word not in self.told, word.decode())
        while select.select([self.master], [], [], 0.0)[0]:
            with suppress(OSError):
                self.raw += os.read(self.master, 65536)
                continue
            break

    def _read_while(self, waiting: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while waiting():
            ready = select.select([self.master, self._words], [], [], max(0.0, end - time.monotonic()))[0]
            assert ready, f"no {what!r} in:\n{self.raw.decode(errors='replace')[-3000:]}"
            if self._words in ready:
                self.told += os.read(self._words, 100)
            if self.master in ready:
                with suppress(OSError):
                    self.raw += os.read(self.master, 65536)

    def press_keys(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def resume_process(self) -> None:
        self.told = b""
        os.write(self._wishes, b"x")

    def send_signal(self, number: int) -> None:
        os.killpg(os.tcgetpgrp(self.master), number)

    @property
    def cooked(self) -> bool:
        """Return whether lines are edited and echoed, as before."""
        modes = termios.tcgetattr(self.slave)[3]
        return bool(modes & termios.ICANON and modes & termios.ECHO and modes & termios.ISIG)

    @property
    def screen(self) -> Terminal:
        terminal = Terminal(*SIZE)
        terminal.feed_text(self.raw.decode(errors="replace"))
        return terminal


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def build_environment(project: Path) -> dict[str, str]:
    """Return the environment of a user with a good terminal, whose runs are recorded in the project."""
    env = {name: value for name, value in os.environ.items() if name not in ("CI", "GITHUB_ACTIONS", "NO_COLOR")}
    env |= {"TERM": "xterm-256color", "XDG_STATE_HOME": str(project / "state"), "FANOUT_STATE": str(project / "agent")}
    return env | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def run_fanout(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a user who looks at that run from elsewhere."""
    argv = [sys.executable, "-m", "fanout", *words]
    return subprocess.run(
        argv, cwd=project, env=build_environment(project), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@contextmanager
def fanout_on_a_terminal(project: Path, script: str, *flags: str, verb: tuple[str, ...] = ()) -> Iterator[Watched]:
    """``fanout run FLAGS localhost task.py`` with this train.sh; or another ``verb`` with its words."""
    (project / "train.sh").write_text(script)
    (project / "task.py").write_text("")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))
    words, told = os.pipe()
    wished, wishes = os.pipe()
    run = ["run", "--skip-check", "--nproc-per-node", "1", "--master-port", str(free_port()), *flags]
    words_of = [*verb, *flags] if verb else [*run, "localhost", "task.py"]
    child = subprocess.Popen(
        [sys.executable, "-c", SHELL, str(told), str(wished), "-m", "fanout", *words_of],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=project,
        env=build_environment(project),
        start_new_session=True,
        pass_fds=(told, wished),
    )
    try:
        yield Watched(master, slave, child, words, wishes)
    finally:
        with suppress(OSError, ProcessLookupError):
            os.killpg(os.tcgetpgrp(master), signal.SIGCONT)
        end_process(child, kill=True)
        for descriptor in (master, slave, words, told, wished, wishes):
            os.close(descriptor)
