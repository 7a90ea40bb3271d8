"""The guardian: a tiny child of the launcher that ends the run on all hosts when the launcher dies without a word.

It sits in a session of its own and reads a pipe whose other end the launcher holds. ``bye`` means that all is done;
the end of the pipe without it means SIGKILL, the OOM killer, a crash: then it ends the run everywhere (rejoin.py).
The death of the whole machine, or of the network, is the lease's business. It imports nothing until it has to act.

    python -m fanout.guardian < one line of JSON, then a held-open pipe
"""

from __future__ import annotations

import os
import subprocess
import sys

BYE = b"bye\n"


class Guardian:
    """The launcher's end of the pipe. Started before there is any thread or connection that it could inherit."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "fanout.guardian"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch(self, order: str) -> None:
        """From now on there is something to guard: ``order`` is rejoin.Order as JSON."""
        self._write(order.encode() + b"\n")

    def dismiss(self) -> None:
        """All is done: it leaves, and is waited for."""
        self._write(BYE)
        self.leave_to_it()
        self._child.wait()

    def leave_to_it(self) -> None:
        """We go although something may still run somewhere: let it finish that."""
        assert self._child.stdin is not None
        self._child.stdin.close()

    def _write(self, data: bytes) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(data)
            self._child.stdin.flush()
        except BrokenPipeError:
            return  # it was killed: the lease remains


def main() -> None:
    """Wait for the word; act on silence."""
    order = b""
    while data := os.read(0, 65536):
        order += data
    if order.endswith(BYE) or b"\n" not in order:
        return
    import time

    from fanout import holder, rejoin

    wanted = rejoin.Order.from_json(order.split(b"\n", 1)[0].decode())
    ours = holder.Holder(pid=os.getpid(), user="the guardian", machine=os.uname().nodename, since=time.time(),
                         ending=True)  # fmt: skip
    if holder.take(wanted.directory, ours) is None:
        return  # somebody has taken the run up already
    rejoin.end(wanted, by="the guardian", agent=False, why="the launcher died")


if __name__ == "__main__":
    main()
