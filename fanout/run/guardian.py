"""Guardian: a small child of the launcher that stops the run on all hosts if the launcher dies.

It runs in a session of its own and reads a pipe from the launcher. ``bye`` means that the run is over. If the pipe
ends without ``bye``, the launcher crashed or was killed, and the guardian stops the run on all hosts (takeover.py).
If the whole machine or the network fails, the lease stops the run. The guardian imports nothing until it must act.

    python -m fanout.run.guardian < one line of JSON, then a held-open pipe
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

from fanout.record import run_handle

BYE = b"bye\n"
END_SECONDS = 10.0


class Guardian:
    """The launcher's end of the pipe. Create it before any thread or connection that the child could inherit."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "fanout.run.guardian"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch_run(self, order: str) -> None:
        """Send the run to guard: ``order`` is a RunHandle as JSON."""
        self._write(order.encode() + b"\n")

    def end_watch(self) -> None:
        """Send ``bye`` and wait until the guardian exits: the run is over. A stopped guardian reads it later."""
        self._write(BYE)
        self.close_pipe()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(END_SECONDS)

    def close_pipe(self) -> None:
        """Close the pipe without ``bye``: the guardian stops what still runs on the hosts."""
        assert self._child.stdin is not None
        self._child.stdin.close()

    def _write(self, data: bytes) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(data)
            self._child.stdin.flush()
        except BrokenPipeError:
            return  # the guardian was killed; the lease remains


def main() -> None:
    """Wait for the end of the pipe; stop the run if it ended without ``bye``."""
    order = b""
    while data := os.read(0, 65536):
        order += data
    if order.endswith(BYE) or b"\n" not in order:
        return
    import time

    from fanout.model.actions import StopReason
    from fanout.record import writer_lock
    from fanout.record.index import split_attempt_path
    from fanout.record.stop_request import read_requester
    from fanout.run import takeover

    wanted = run_handle.RunHandle.from_json(order.split(b"\n", 1)[0].decode())
    ours = writer_lock.LockOwner(
        pid=os.getpid(), user="the guardian", machine=os.uname().nodename, since=time.time(), ending=True
    )
    if writer_lock.acquire_lock(wanted.directory, ours) is None:
        return  # another launcher has resumed the run already
    # ``fanout stop`` may have ended a launcher that handles no signals.
    requester = read_requester(split_attempt_path(wanted.directory)[0])
    reason: StopReason = "stop-command" if requester else "launcher-died"
    why = f"stopped by {requester} with fanout stop" if requester else "the launcher died"
    takeover.end_run(wanted, os.environ, by="the guardian", agent=False, reason=reason, why=why)


if __name__ == "__main__":
    main()
