"""What an exit status means, in words: of a process as torchrun and Python write it (negative: a signal)."""

from __future__ import annotations

from fanout.outcome import signal_name

_SIGNALS = {
    1: "its session was closed",
    2: "somebody interrupted it",
    4: "an instruction that this CPU does not have",
    6: "it aborted itself: a failed assertion in native code, or a Python exit while gloo's threads lived",
    7: "a bus error: mostly a full /dev/shm, or a file cut short under it",
    8: "an arithmetic error in native code",
    9: "killed from outside: the kernel short of memory, a memory daemon, or a person",
    11: "native code touched memory that is not its own",
    15: "it was told to stop",
}
_CODES = {124: "the timeout command ended it", 126: "the file cannot be run", 127: "the command was not found"}


def split(code: int) -> tuple[int | None, int | None]:
    """(code, signal), one of them None: -9 and 137 are both SIGKILL."""
    if code < 0:
        return None, -code
    if 128 < code < 160:
        return None, code - 128
    return code, None


def short(code: int) -> str:
    """``exit 3``, ``SIGKILL``."""
    plain, signal = split(code)
    return f"exit {plain}" if signal is None else signal_name(signal)


def meaning(code: int) -> str:
    """What such an end usually means; "" where the number alone says nothing."""
    plain, signal = split(code)
    return _SIGNALS.get(signal, "") if signal is not None else _CODES.get(plain or 0, "")
