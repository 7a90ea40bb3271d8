"""Hook: the user's command, which is called for each message with the message on its standard input.

A hook never delays or stops the run. It is called in a thread of its own, in a process group of its own, and is killed after
``HOOK_SECONDS``. Texts from hosts reach it as data only: on stdin, and in the environment.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping

from fanout.notify.message import RunMessage

HOOK_SECONDS = 20.0
KILL_SECONDS = 2.0
OUTPUT_BYTES = 64 * 1024  # kept of each call
LOG_BYTES = 1024 * 1024  # kept of all calls of a run
HOOK_LOG = "hook.log"


def call_hook(command: str, message: RunMessage, environ: Mapping[str, str], directory: str) -> str:
    """Call the hook and wait for its end; append its output to the log in ``directory``. Return why it failed, or ""."""
    try:
        child = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environ, **message.to_environ()},
            start_new_session=True,
        )
    except OSError as error:
        return f"cannot start: {error.strerror}"
    output, is_late = _exchange(child, message.to_json().encode() + b"\n")
    why = ""
    if is_late:
        _kill_group(child.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that hangs in the kernel ends later
            child.wait(KILL_SECONDS)
        why = f"killed after {HOOK_SECONDS:.0f} s"
    elif child.returncode:
        why = f"exit {child.returncode}"
    _append_log(os.path.join(directory, HOOK_LOG), message, output, why)
    return why


def _exchange(child: subprocess.Popen[bytes], text: bytes) -> tuple[bytes, bool]:
    """Write ``text``, and read until the child exits or is late; return (the first bytes of its output, is late).

    A process that the hook left in the background may hold the pipe open, so the end of the output is not waited for.
    """
    assert child.stdin is not None
    assert child.stdout is not None
    until, output = time.monotonic() + HOOK_SECONDS, b""
    with child.stdout, contextlib.suppress(OSError), child.stdin:  # a pipe may break while it is closed
        sources, sinks = [child.stdout.fileno()], [child.stdin.fileno()]
        for descriptor in (*sources, *sinks):
            os.set_blocking(descriptor, False)
        while time.monotonic() < until:
            has_ended = child.poll() is not None
            readable, writable, _ = select.select(sources, sinks, [], 0.0 if has_ended else 0.05)
            for sink in writable:
                text = _write_some(sink, text)
                if not text:
                    sinks.clear()
                    child.stdin.close()
            data = _read_some(readable[0]) if readable else None
            output += (data or b"")[: OUTPUT_BYTES - len(output)]
            if data == b"":
                sources.clear()
            if has_ended and not data:
                return output, False
            if not sources and not sinks and not has_ended:
                time.sleep(0.05)
    return output, True


def _write_some(sink: int, text: bytes) -> bytes:
    """Write as much as the pipe takes; return the rest. A hook that does not read its input gets none."""
    try:
        return text[os.write(sink, text[:4096]) :]
    except BlockingIOError:
        return text
    except OSError:
        return b""


def _read_some(source: int) -> bytes | None:
    """Return what the pipe has, b"" at its end, None if it has nothing yet."""
    try:
        return os.read(source, 65536)
    except BlockingIOError:
        return None


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _append_log(path: str, message: RunMessage, output: bytes, why: str) -> None:
    """Append the output of a call. A full disk must not disturb the run."""
    text = f"== {time.strftime('%Y-%m-%d %H:%M:%S')} {message.event}{f': {why}' if why else ''}\n".encode() + output
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size < LOG_BYTES:
                os.write(descriptor, text if text.endswith(b"\n") else text + b"\n")
        finally:
            os.close(descriptor)
