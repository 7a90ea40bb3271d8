"""The process in a shell's foreground that only waits for the launcher behind it, so that a run can be left at any time.

A shell waits for the process that it started, and one with threads and connections cannot be swapped for another. So
where keys are read the launcher is a child, in the same process group: whoever leaves ends the waiting process alone,
and links, record and guardian stay what they are. Nothing is handed over that could be lost or come twice.

The waiting process passes on what reaches it alone, stops and goes on with its child, and puts the terminal in order
after one that was killed.
"""

from __future__ import annotations

import mmap
import os
import signal
import termios
from collections.abc import Callable
from types import FrameType
from typing import Any

from fanout.verbs.common import SIGNALS, Edge, Handler, heeded
from fanout.verbs.detach import Door, leave_terminal

_PASSED_ON = signal.SIGUSR1  # to the launcher: look at the counts


class Counts:
    """How often each signal reached the process in front (shared memory), and the launcher itself.

    ``kill PID`` reaches one of the two, Ctrl-C and ``kill %1`` reach both: the greater count is what was meant.
    """

    def __init__(self) -> None:
        self._front = mmap.mmap(-1, mmap.PAGESIZE)
        self._own: dict[int, int] = {}
        self._dealt: dict[int, int] = {}

    def in_front(self, number: int) -> None:
        self._front[number] = min(255, self._front[number] + 1)

    def here(self, number: int) -> None:
        self._own[number] = self._own.get(number, 0) + 1

    def news(self, number: int) -> bool:
        """Is there one that was not dealt with? Now it is."""
        meant = max(self._front[number], self._own.get(number, 0))
        if self._dealt.get(number, 0) >= meant:
            return False
        self._dealt[number] = self._dealt.get(number, 0) + 1
        return True


class Behind(Door):
    """The launcher's side. ``shut`` lets the process in front end; the launcher leaves the terminal to the shell."""

    at_start = False

    def __init__(self, write: int, counts: Counts, front: int) -> None:
        super().__init__(write)
        self._counts, self._front = counts, front
        signal.signal(_PASSED_ON, self._passed_on)
        for number in heeded(SIGNALS):
            signal.signal(number, self.once(_too_early))

    @property
    def alone(self) -> bool:
        """Was the process in front killed? Nobody can leave, or end, a run that way."""
        return os.getppid() != self._front

    def shut(self) -> bool:
        leave_terminal()
        return super().shut()

    def once(self, heard: Handler) -> Handler:
        return _Once(self._counts, heard)

    def _passed_on(self, number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            handler = signal.getsignal(each)
            if isinstance(handler, _Once):
                handler.deal(each, frame)


class _Once:
    """A handler that hears of each signal once, whichever of the two processes it reached."""

    def __init__(self, counts: Counts, heard: Handler) -> None:
        self._counts, self._heard = counts, heard

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._counts.here(number)
        self.deal(number, frame)

    def deal(self, number: int, frame: FrameType | None) -> None:
        while self._counts.news(number):
            self._heard(number, frame)


def _too_early(number: int, frame: FrameType | None) -> None:
    """Nothing was begun that would have to be ended in order."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def wait(edge: Edge, work: Callable[[Behind], int]) -> int:
    """Do ``work`` in a child and wait for it: its exit status, or 0 when the run was left to itself."""
    edge.stdout.flush()
    edge.stderr.flush()
    counts, front = Counts(), os.getpid()
    read, write = os.pipe()
    modes = _modes(edge.keyboard)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*SIGNALS, _PASSED_ON, signal.SIGCHLD, signal.SIGCONT})
    child = os.fork()  # before there is any thread or connection
    if child == 0:
        os.close(read)
        behind = Behind(write, counts, front)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return work(behind)
    os.close(write)
    with _Front(child, counts) as waiting:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        left = bool(os.read(read, 16))
        os.close(read)
        code = 0 if left else waiting.end()
    if code >= 0:
        return code
    if -code in SIGNALS:
        return 128 - code  # it had not begun
    _restore(edge.keyboard, modes)
    edge.stderr.write("\n")
    edge.say(f"the launcher was killed ({signal.Signals(-code).name}); its guardian ends the run on all hosts")
    edge.stderr.write("        fanout ps shows what became of it\n")
    return 128 - code


class _Front:
    """How the waiting process takes signals, until the ``with`` is over."""

    def __init__(self, child: int, counts: Counts) -> None:
        self._child, self._counts = child, counts
        self._status: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Front:
        handlers: dict[int, Any] = dict.fromkeys(heeded(SIGNALS), self._pass_on)
        handlers |= dict.fromkeys(heeded([signal.SIGQUIT, signal.SIGTSTP]), _nothing)
        handlers |= {signal.SIGCHLD: self._child_changed, signal.SIGCONT: self._go_on}
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._counts.in_front(number)
        self._tell(_PASSED_ON)

    def end(self) -> int:
        """The child's exit status; of one that was killed, the signal's number below zero."""
        while self._status is None:
            self._look(0)
        return os.waitstatus_to_exitcode(self._status)

    def _child_changed(self, number: int, frame: FrameType | None) -> None:
        self._look(os.WNOHANG)

    def _look(self, flags: int) -> None:
        """It ended; or it stopped for Ctrl-Z, and gave the terminal back before: now the shell may have it."""
        try:
            found, status = os.waitpid(self._child, flags | os.WUNTRACED)
        except ChildProcessError:
            return  # seen already, by a signal's handler in the middle of this
        if found and not os.WIFSTOPPED(status):
            self._status = status
        elif found and os.WSTOPSIG(status) == signal.SIGTSTP:
            before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, before)
            self._tell(signal.SIGCONT)

    def _go_on(self, number: int, frame: FrameType | None) -> None:
        self._tell(signal.SIGCONT)

    def _tell(self, number: int) -> None:
        try:
            os.kill(self._child, number)
        except ProcessLookupError:
            return


def _nothing(number: int, frame: FrameType | None) -> None:
    """Handler, and left to the child, which it reached too."""


def _modes(keyboard: int | None) -> list[Any] | None:
    try:
        return termios.tcgetattr(keyboard) if keyboard is not None else None
    except (OSError, termios.error):
        return None


def _restore(keyboard: int | None, modes: list[Any] | None) -> None:
    """A launcher that was killed could not: lines edited and echoed again, if the terminal is still ours."""
    try:
        if keyboard is not None and modes is not None and os.tcgetpgrp(keyboard) == os.getpgrp():
            termios.tcsetattr(keyboard, termios.TCSANOW, modes)
    except (OSError, termios.error):
        return
