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

from fanout.model.exit_status import status_of_signal
from fanout.run.detach import ParentPipe, leave_terminal
from fanout.run.process_context import ProcessContext
from fanout.run.stop_signals import SIGNALS, Handler, filter_handled_signals

PLAIN_PASTE = "\x1b[?2004l"  # the killed launcher asked the terminal to mark pasted text
_FORWARDED = signal.SIGUSR1  # sent to the launcher: compare the counts


class SignalCounts:
    """Counts of each signal in the parent (shared memory) and in the launcher.

    ``kill PID`` reaches one of the two processes; Ctrl-C and ``kill %1`` reach both. So the larger count is the right one.
    """

    def __init__(self) -> None:
        self._front = mmap.mmap(-1, mmap.PAGESIZE)
        self._own: dict[int, int] = {}
        self._handled: dict[int, int] = {}

    def count_in_parent(self, number: int) -> None:
        self._front[number] = min(255, self._front[number] + 1)

    def count_in_launcher(self, number: int) -> None:
        self._own[number] = self._own.get(number, 0) + 1

    def take_unhandled(self, number: int) -> bool:
        """Return whether a signal is not handled yet, and count it as handled."""
        meant = max(self._front[number], self._own.get(number, 0))
        if self._handled.get(number, 0) >= meant:
            return False
        self._handled[number] = self._handled.get(number, 0) + 1
        return True


class ForegroundPipe(ParentPipe):
    """Pipe to the foreground parent. ``release_parent`` lets the parent exit; the launcher leaves the terminal to the shell."""

    at_start = False

    def __init__(self, write: int, counts: SignalCounts, front: int) -> None:
        super().__init__(write)
        self._counts, self._front = counts, front
        signal.signal(_FORWARDED, self._handle_forwarded)
        for number in filter_handled_signals(SIGNALS):
            signal.signal(number, self.deliver_once(_exit_at_once))

    @property
    def is_parent_gone(self) -> bool:
        """Return whether the parent was killed; that neither detaches nor stops a run in order."""
        return os.getppid() != self._front

    def release_parent(self) -> bool:
        leave_terminal()
        return super().release_parent()

    def deliver_once(self, handler: Handler) -> Handler:
        return _OnceHandler(self._counts, handler)

    def _handle_forwarded(self, number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            handler = signal.getsignal(each)
            if isinstance(handler, _OnceHandler):
                handler.deliver_signal(each, frame)


class _OnceHandler:
    """Handler that handles each signal once, whether it reached the parent, the launcher or both."""

    def __init__(self, counts: SignalCounts, handler: Handler) -> None:
        self._counts, self._handler = counts, handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._counts.count_in_launcher(number)
        self.deliver_signal(number, frame)

    def deliver_signal(self, number: int, frame: FrameType | None) -> None:
        while self._counts.take_unhandled(number):
            self._handler(number, frame)


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    """Exit at once: the run has not begun, so there is nothing to stop."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def wait_for_launcher(process: ProcessContext, work: Callable[[ForegroundPipe], int]) -> int:
    """Run ``work`` in a child and wait for it; return its exit status, or 0 if the user detached."""
    process.stdout.flush()
    process.stderr.flush()
    counts, front = SignalCounts(), os.getpid()
    read, write = os.pipe()
    modes = _read_terminal_modes(process.keyboard)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*SIGNALS, _FORWARDED, signal.SIGCHLD, signal.SIGCONT})
    child = os.fork()  # before there is any thread or connection
    if child == 0:
        os.close(read)
        behind = ForegroundPipe(write, counts, front)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return work(behind)
    os.close(write)
    with _ForegroundParent(child, counts) as waiting:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        left = bool(os.read(read, 16))
        os.close(read)
        code = 0 if left else waiting.wait_for_exit()
    if code >= 0:
        return code
    if -code in SIGNALS:
        return status_of_signal(-code)  # the run had not begun
    _restore_terminal(process.keyboard, modes)
    process.stderr.write(f"{PLAIN_PASTE}\n" if process.keyboard is not None else "\n")
    process.print_message(
        f"the launcher was killed ({signal.Signals(-code).name}); its guardian stops the run on all hosts"
    )
    process.stderr.write("        try:  fanout ps --all   # shows how the run ended\n")
    return status_of_signal(-code)


class _ForegroundParent:
    """Signal handlers of the waiting parent, for the time of the ``with``."""

    def __init__(self, child: int, counts: SignalCounts) -> None:
        self._child, self._counts = child, counts
        self._status: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _ForegroundParent:
        handlers: dict[int, Any] = dict.fromkeys(filter_handled_signals(SIGNALS), self._forward_signal)
        handlers |= dict.fromkeys(filter_handled_signals([signal.SIGQUIT, signal.SIGTSTP]), _ignore_signal)
        handlers |= {signal.SIGCHLD: self._child_changed, signal.SIGCONT: self._continue_child}
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _forward_signal(self, number: int, frame: FrameType | None) -> None:
        self._counts.count_in_parent(number)
        self._signal_child(_FORWARDED)

    def wait_for_exit(self) -> int:
        """Wait for the child; return its exit status, or the negative number of the signal that killed it."""
        while self._status is None:
            self._reap_child(0)
        return os.waitstatus_to_exitcode(self._status)

    def _child_changed(self, number: int, frame: FrameType | None) -> None:
        self._reap_child(os.WNOHANG)

    def _reap_child(self, flags: int) -> None:
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
            self._signal_child(signal.SIGCONT)

    def _continue_child(self, number: int, frame: FrameType | None) -> None:
        self._signal_child(signal.SIGCONT)

    def _signal_child(self, number: int) -> None:
        try:
            os.kill(self._child, number)
        except ProcessLookupError:
            return


def _ignore_signal(number: int, frame: FrameType | None) -> None:
    """Ignore a signal that reached the child too; the child handles it."""


def _read_terminal_modes(keyboard: int | None) -> list[Any] | None:
    try:
        return termios.tcgetattr(keyboard) if keyboard is not None else None
    except (OSError, termios.error):
        return None


def _restore_terminal(keyboard: int | None, modes: list[Any] | None) -> None:
    """Restore the terminal's modes after a killed launcher, if this process is still in the foreground."""
    try:
        if keyboard is not None and modes is not None and os.tcgetpgrp(keyboard) == os.getpgrp():
            termios.tcsetattr(keyboard, termios.TCSANOW, modes)
    except (OSError, termios.error):
        return
