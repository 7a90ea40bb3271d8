"""Foreground parent: a process in the shell's foreground that waits for the launcher, so that the user can detach.

A shell waits for the process that it started, and a launcher with threads and connections cannot move to another
process. So in the live view the launcher is a child in the same process group. To detach, only the waiting parent
exits; connections, record and guardian stay as they are.

The parent forwards signals that reach it alone, stops and continues together with its child, and restores the terminal
if the launcher was killed.
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

_PASSED_ON = signal.SIGUSR1  # sent to the launcher: compare the counts


class Counts:
    """Counts of each signal in the parent (shared memory) and in the launcher.

    ``kill PID`` reaches one of the two processes; Ctrl-C and ``kill %1`` reach both. So the larger count is the right one.
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
        """Return whether a signal is not handled yet, and count it as handled."""
        meant = max(self._front[number], self._own.get(number, 0))
        if self._dealt.get(number, 0) >= meant:
            return False
        self._dealt[number] = self._dealt.get(number, 0) + 1
        return True


class Behind(Door):
    """Pipe to the foreground parent. ``shut`` lets the parent exit; the launcher leaves the terminal to the shell."""

    at_start = False

    def __init__(self, write: int, counts: Counts, front: int) -> None:
        super().__init__(write)
        self._counts, self._front = counts, front
        signal.signal(_PASSED_ON, self._passed_on)
        for number in heeded(SIGNALS):
            signal.signal(number, self.once(_too_early))

    @property
    def alone(self) -> bool:
        """Return whether the parent was killed; that neither detaches nor stops a run in order."""
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
    """Handler that handles each signal once, whether it reached the parent, the launcher or both."""

    def __init__(self, counts: Counts, heard: Handler) -> None:
        self._counts, self._heard = counts, heard

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._counts.here(number)
        self.deal(number, frame)

    def deal(self, number: int, frame: FrameType | None) -> None:
        while self._counts.news(number):
            self._heard(number, frame)


def _too_early(number: int, frame: FrameType | None) -> None:
    """Exit at once: the run has not begun, so there is nothing to stop."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def wait(edge: Edge, work: Callable[[Behind], int]) -> int:
    """Do ``work`` in a child and wait for it; return its exit status, or 0 if the user detached."""
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
        return 128 - code  # the run had not begun
    _restore(edge.keyboard, modes)
    edge.stderr.write("\n")
    edge.say(f"the launcher was killed ({signal.Signals(-code).name}); its guardian stops the run on all hosts")
    edge.stderr.write("        try:  fanout ps --all   # shows how the run ended\n")
    return 128 - code


class _Front:
    """Signal handlers of the waiting parent, for the time of the ``with``."""

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
        """Wait for the child; return its exit status, or the negative number of the signal that killed it."""
        while self._status is None:
            self._look(0)
        return os.waitstatus_to_exitcode(self._status)

    def _child_changed(self, number: int, frame: FrameType | None) -> None:
        self._look(os.WNOHANG)

    def _look(self, flags: int) -> None:
        """Record the child's end; if it stopped for Ctrl-Z, stop too, so that the shell gets the terminal."""
        try:
            found, status = os.waitpid(self._child, flags | os.WUNTRACED)
        except ChildProcessError:
            return  # a signal handler has reaped the child meanwhile
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
    """Ignore a signal that reached the child too; the child handles it."""


def _modes(keyboard: int | None) -> list[Any] | None:
    try:
        return termios.tcgetattr(keyboard) if keyboard is not None else None
    except (OSError, termios.error):
        return None


def _restore(keyboard: int | None, modes: list[Any] | None) -> None:
    """Restore the terminal's modes after a killed launcher, if this process is still in the foreground."""
    try:
        if keyboard is not None and modes is not None and os.tcgetpgrp(keyboard) == os.getpgrp():
            termios.tcsetattr(keyboard, termios.TCSANOW, modes)
    except (OSError, termios.error):
        return
