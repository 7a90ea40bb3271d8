"""Tools that print again and again: one program that loops, or a program that is started again after each answer.

A program ends with this process. A program that hangs in the kernel is not started a second time. The share of the
processor that repeated starts use is bounded.
"""

from __future__ import annotations

import os
import signal
import time

from .. import spawn

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Callable

SILENT_SECONDS = 15.0  # without output, a program counts as hung
RESTART_SECONDS = 10.0
LONGEST_PAUSE = 600.0
COST_FACTOR = 100.0  # one second of processor time is followed by 100 seconds without
MOST_TEXT = 1 << 22  # of one answer


class ToolLoop:
    """A tool that prints until it is killed; ``commands`` are tried in order until one prints a line that ``accepts``.

    With ``repeats``, each start gives one answer, and ``get_text`` returns the last one. ``problem`` is why there is
    none, or "".
    """

    def __init__(
        self,
        commands: list[list[str]],
        env: dict[str, str],
        accepts: Callable[[str], bool],
        *,
        repeats: float = 0.0,
    ) -> None:
        self.name = os.path.basename(commands[0][0])
        self.problem = ""
        self.is_hung = False
        self._commands, self._env, self._accepts, self._repeats = commands, env, accepts, repeats
        self._at = 0  # of the command in use
        self._child, self._reader = 0, -1
        self._next, self._pause = 0.0, 0.0
        self._output_at = time.monotonic()
        self._rest, self._text, self._last = b"", "", ""
        self._accepted = False

    def get_descriptors(self) -> list[int]:
        """Return the descriptors to wait for."""
        return [self._reader] if self._reader >= 0 else []

    @property
    def is_settled(self) -> bool:
        """Return whether the tool has answered, or has failed to."""
        return self._accepted or bool(self.problem)

    def get_text(self) -> str:
        """Return the last complete answer of a tool that is started again and again."""
        return self._text

    def read_lines(self) -> list[str]:
        """Return the new accepted lines. Start the tool if that is due, and end one that hangs."""
        now = time.monotonic()
        if self._child and self._reader < 0:
            self._end_program(0.0)  # it was killed, and hung in the kernel
        if not self._child and now >= self._next:
            self._start_program()
        lines, ended = self._read_available()
        found = [line for line in lines if self._accepts(line)]
        self._last = "\n".join(([*lines] or [self._last])[-3:])[-300:]
        if lines:
            self._output_at = now
        if found:
            self._accepted, self._pause, self.is_hung = True, 0.0, False
            if not self._repeats:
                self.problem = ""
        if ended and not self._repeats:  # its last lines may have come with its end
            self._arrange_restart()
        if self._reader >= 0 and now - self._output_at > SILENT_SECONDS:
            self._give_up_hung()
        return found

    def _start_program(self) -> None:
        output, inner = _open_terminal() if not self._repeats else os.pipe()
        parent = os.getpid()
        self._child = os.fork()
        if self._child == 0:
            try:
                spawn.LIBC.prctl(spawn.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() == parent:
                    os.dup2(inner, 1)
                    os.dup2(inner, 2)
                    os.closerange(3, 256)
                    argv = self._commands[self._at]
                    os.execve(argv[0], argv, self._env)
            finally:
                os._exit(127)
        os.close(inner)
        os.set_blocking(output, False)
        self._reader, self._rest, self._accepted = output, b"", False
        self._output_at = time.monotonic()

    def _read_available(self) -> tuple[list[str], bool]:
        """Return the lines that have arrived, and whether the program has closed its output."""
        ended = False
        while self._reader >= 0 and len(self._rest) < MOST_TEXT:
            try:
                data = os.read(self._reader, 65536)
            except BlockingIOError:
                break
            except OSError:  # a terminal whose program has exited
                data = b""
            self._rest += data
            if not data:
                ended = True
                os.close(self._reader)
                self._reader = -1
        if self._repeats:
            return (self._take_answer() if ended else []), ended
        *lines, self._rest = self._rest.split(b"\n")
        if ended:
            lines, self._rest = [*lines, self._rest], b""
        return [text for line in lines if (text := line.decode("utf-8", "replace").strip())], ended

    def _take_answer(self) -> list[str]:
        """Keep the answer of a program that has ended, and arrange its next start."""
        text, self._rest = self._rest.decode("utf-8", "replace"), b""
        used = self._end_program()
        good = any(self._accepts(line) for line in text.splitlines())
        if good:
            self._text, self.problem = text, ""
            self._next = time.monotonic() + min(LONGEST_PAUSE, max(self._repeats, COST_FACTOR * used))
        else:
            self._text = ""
            self._last = " ".join(text.split())[:300]
            self._give_up()
        return text.splitlines()

    def _arrange_restart(self) -> None:
        """Start the same command again if it had printed something; else the next one."""
        self._end_program()
        if self._accepted:
            self._next = time.monotonic() + RESTART_SECONDS
        elif self._at + 1 < len(self._commands):
            self._at += 1
            self._next = 0.0
        else:
            self._at = 0
            self._give_up()

    def _give_up(self) -> None:
        """Wait longer after each failure. The last text of the program is the reason."""
        self.problem = self._last or "%s printed nothing" % self.name
        self._pause = min(LONGEST_PAUSE, max(RESTART_SECONDS, self._pause * 2))
        self._next = time.monotonic() + self._pause

    def _give_up_hung(self) -> None:
        os.close(self._reader)
        self._reader, self._accepted, self._text, self.is_hung = -1, False, "", True
        self._last = "%s has not answered for %d s" % (self.name, SILENT_SECONDS)
        self._give_up()
        self._end_program()

    def _end_program(self, patience: float = 0.5) -> float:
        """Kill and reap the program; return its processor time in seconds. One that hangs in the kernel stays.

        The program has closed its output, or has not answered, so it has nothing to lose.
        """
        os.kill(self._child, signal.SIGKILL)
        until = time.monotonic() + patience
        while True:
            pid, _, usage = os.wait4(self._child, os.WNOHANG)
            if pid:
                self._child = 0
                return float(usage.ru_utime + usage.ru_stime)
            if time.monotonic() >= until:
                return 0.0
            time.sleep(0.01)


def _open_terminal() -> tuple[int, int]:
    """Return a pseudo-terminal, so that the program sends each line at once; a pipe if the host has none."""
    import tty

    try:
        outer, inner = os.openpty()
    except OSError:
        return os.pipe()
    tty.setraw(inner)
    return outer, inner
