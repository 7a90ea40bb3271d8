"""Questions about the host: each answered in a child of its own, so that nothing that hangs can hang the relay.

A dead file system or a wedged tool costs no more than the question's time-out. A probe that is a generator answers
with what it yields first and then lives on (a listening port) until it is cancelled.
"""

from __future__ import annotations

import json
import os
import signal
import time

from . import frames, procs

TYPE_CHECKING = False  # what typing says, without the price of importing it on a host
if TYPE_CHECKING:
    from typing import Callable


class Questions:
    """Those that are open: number -> [pipe, child, when it is given up, what came so far]."""

    def __init__(self, tell: Callable[[dict], None]) -> None:
        self._tell = tell
        self._open: dict = {}
        self._dying: list = []  # killed children: one that hangs in the kernel ends when the kernel lets it go

    def descriptors(self) -> list:
        """What to wait for."""
        return [question[0] for question in self._open.values()]

    def ends(self) -> list:
        """When each is given up, in monotonic time."""
        return [question[2] for question in self._open.values()]

    def ask(self, message: dict) -> None:
        _load(message["what"])
        answer_read, answer_write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(answer_read)
            _answer(message, answer_write)
        os.close(answer_write)
        self._open[int(message["id"])] = [answer_read, child, time.monotonic() + float(message["timeout"]), b""]

    def hear(self, ready: list) -> None:
        """Pass on what has been answered; give up what took too long."""
        now = time.monotonic()
        self._reap()
        for number, question in list(self._open.items()):
            if question[0] in ready:
                data = os.read(question[0], 262144)
                *lines, question[3] = (question[3] + data).split(b"\n")
                for line in lines:
                    self._tell(dict(_parse_answer(line), t="answer", id=number))
                if not data:
                    self.cancel(number)
            elif now >= question[2]:
                self.cancel(number)
                self._tell({"t": "answer", "id": number, "value": None, "error": "no answer in time"})

    def cancel(self, number: int) -> None:
        question = self._open.pop(number, None)
        if question is not None:
            os.close(question[0])
            procs.send(question[1], signal.SIGKILL)
            self._dying.append(question[1])
            self._reap()

    def _reap(self) -> None:
        """Collect the killed children that have ended; wait for none."""
        self._dying = [child for child in self._dying if not os.waitpid(child, os.WNOHANG)[0]]


def _parse_answer(line: bytes) -> dict:
    """Return the answer in a line of a child's; one that fits in no frame is replaced by an error that says so."""
    if len(line) > frames.MAX_BODY - 1024:
        return {"value": None, "error": "an answer of %d bytes is too long to be sent" % len(line)}
    answer: dict = json.loads(line.decode())
    return answer


def _load(what: str) -> None:
    """Take in here, once, who answers it: the sources are compiled in memory, which every child would have to do anew."""
    try:
        from . import probes, spawn  # noqa: F401

        probes.probe(what)
    except Exception:
        pass  # the child meets the same, and its answer says so


def _answer(message: dict, descriptor: int) -> None:
    """In the child: one line of JSON for each thing that the probe has to say."""
    try:
        from . import probes, spawn

        spawn.LIBC.prctl(spawn.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        value = probes.probe(message["what"])(message["args"])
        for item in value if hasattr(value, "__next__") else [value]:
            _say(descriptor, {"value": item, "error": ""})
    except Exception as error:  # a probe must never take the relay down; its error is its answer
        kind = type(error).__name__
        _say(descriptor, {"value": None, "error": str(error) if kind == "NotHad" else "%s: %s" % (kind, error)})
    finally:
        os._exit(0)


def _say(descriptor: int, answer: dict) -> None:
    view = memoryview(json.dumps(answer).encode() + b"\n")
    while view:
        view = view[os.write(descriptor, view) :]
