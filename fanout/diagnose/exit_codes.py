"""Text for exit codes of processes, as torchrun and Python write them (negative: a signal)."""

from __future__ import annotations

from fanout.model.outcome import signal_name

_SIGNALS = {
    1: "its session was closed",
    2: "a user or a process interrupted it",
    4: "an instruction that this CPU does not support",
    6: "it aborted itself: a failed assertion in native code, or a Python exit while gloo threads were running",
    7: "a bus error: usually a full /dev/shm, or a mapped file that was truncated",
    8: "an arithmetic error in native code",
    9: "killed from outside: by the kernel OOM killer, an out-of-memory daemon, or a user",
    11: "native code accessed invalid memory",
    15: "it received a stop signal",
}
_CODES = {124: "the timeout command stopped it", 126: "the file cannot be run", 127: "the command was not found"}


def split_exit_code(code: int) -> tuple[int | None, int | None]:
    """Return (code, signal), one of them None: -9 and 137 are both SIGKILL."""
    if code < 0:
        return None, -code
    if 128 < code < 160:
        return None, code - 128
    return code, None


def format_exit_code(code: int) -> str:
    """Return ``exit 3`` or ``SIGKILL``."""
    plain, signal = split_exit_code(code)
    return f"exit {plain}" if signal is None else signal_name(signal)


def explain_exit_code(code: int) -> str:
    """Return the usual meaning of the exit code; "" if the number alone has none."""
    plain, signal = split_exit_code(code)
    return _SIGNALS.get(signal, "") if signal is not None else _CODES.get(plain or 0, "")
