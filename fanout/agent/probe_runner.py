"""Probe runner: answers each question about the host in its own child, so that a hang cannot block the relay.

An unresponsive file system or a hung tool costs no more than the question's timeout. A probe that is a generator
answers with its first yield and then lives (a listening port) until it is cancelled. A probe with an input reads on its
standard input what the launcher sends. It is not killed: it ends by itself at the end of its input, and cleans up.
"""

from __future__ import annotations

import json
import os
import signal
import time

from . import frames, probe_input, processes

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Callable


class ProbeRunner:
    """The open questions: number -> [pipe, child, deadline, bytes received so far]."""

    def __init__(self, send: Callable[[dict], None]) -> None:
        self._send = send
        self._open: dict = {}
        self._inputs: dict = {}  # number of a question -> its ProbeInput
        self._dying: list = []  # cancelled children: one that hangs in the kernel ends when the kernel call returns

    def get_descriptors(self) -> list:
        """Return the descriptors to wait for."""
        return [question[0] for question in self._open.values()]

    def get_deadlines(self) -> list:
        """Return the deadline of each question, in monotonic time."""
        return [question[2] for question in self._open.values()]

    def start_probe(self, message: dict) -> None:
        """Start a child that answers this question."""
        _load_probe(message["what"])
        answer_read, answer_write = os.pipe()
        input_read, input_write = os.pipe() if message.get("input") else (-1, -1)
        child = os.fork()
        if child == 0:
            os.close(answer_read)
            for each in (input_write, *(other.descriptor for other in self._inputs.values())):
                if each >= 0:
                    os.close(each)  # an input ends only when no process holds its writing end
            _run_probe(message, answer_write, input_read)
        os.close(answer_write)
        if input_write >= 0:
            os.close(input_read)
            self._inputs[int(message["id"])] = probe_input.ProbeInput(input_write, message["input"])
        self._open[int(message["id"])] = [answer_read, child, time.monotonic() + float(message["timeout"]), b""]

    def list_blocked_inputs(self) -> list:
        """Return the descriptors of the inputs with waiting bytes."""
        return [each.descriptor for each in self._inputs.values() if each.has_waiting]

    def add_input(self, message: tuple) -> None:
        """Pass bytes of the launcher, (stream, offset, data), to the probe with this stream; without one, drop them."""
        for each in self._inputs.values():
            if each.stream == message[0]:
                each.add_bytes(message[2])

    def receive(self, ready: list, writable: list) -> None:
        """Forward the answers that have arrived; cancel questions past their deadline."""
        now = time.monotonic()
        self._reap_children()
        for each in self._inputs.values():
            if each.descriptor in writable:
                each.write_waiting()
        for number, question in list(self._open.items()):
            if question[0] in ready:
                data = os.read(question[0], 262144)
                *lines, question[3] = (question[3] + data).split(b"\n")
                for line in lines:
                    self._send(dict(_parse_answer(line), t="answer", id=number))
                if not data:
                    self.cancel(number)
            elif now >= question[2]:
                self.cancel(number)
                self._send(
                    {"t": "answer", "id": number, "value": None, "error": "no answer in time", "reason": "timeout"}
                )

    def cancel(self, number: int) -> None:
        """Kill a question's child, if it is still open. For a child with an input, close that instead."""
        question = self._open.pop(number, None)
        if question is not None:
            os.close(question[0])
            if number in self._inputs:
                os.close(self._inputs.pop(number).descriptor)
            else:
                processes.send_signal(question[1], signal.SIGKILL)
            self._dying.append(question[1])
            self._reap_children()

    def _reap_children(self) -> None:
        """Reap the cancelled children that have ended; wait for none."""
        self._dying = [child for child in self._dying if not os.waitpid(child, os.WNOHANG)[0]]


def _parse_answer(line: bytes) -> dict:
    """Return the answer in a child's line. If it is too long for a frame, return an error instead."""
    if len(line) > frames.MAX_BODY - 1024:
        return {"value": None, "error": "an answer of %d bytes is too long to be sent" % len(line), "reason": "failed"}
    answer: dict = json.loads(line.decode())
    return answer


def _load_probe(what: str) -> None:
    """Import the probe here once: its sources are compiled in memory, which otherwise every child would repeat."""
    try:
        from . import spawn  # noqa: F401
        from .probes import registry

        registry.load_probe(what)
    except Exception:
        pass  # the child gets the same error and reports it


def _run_probe(message: dict, descriptor: int, input_read: int) -> None:
    """Run the probe in the child and write one line of JSON per result."""
    try:
        from . import spawn
        from .probes import registry

        null = os.open("/dev/null", os.O_RDWR)
        if input_read < 0:
            spawn.LIBC.prctl(spawn.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.dup2(null if input_read < 0 else input_read, 0)
        os.dup2(null, 1)
        value = registry.load_probe(message["what"])(message["args"])
        try:
            for item in value if hasattr(value, "__next__") else [value]:
                _write_answer(descriptor, {"value": item, "error": ""})
        finally:
            if hasattr(value, "close"):
                value.close()  # it cleans up, also if the answer could not be written
    except Exception as error:  # a probe must never stop the relay; its error is its answer
        text = str(error) if getattr(error, "is_reason", False) else "%s: %s" % (type(error).__name__, error)
        _write_answer(descriptor, {"value": None, "error": text, "reason": getattr(error, "reason", "failed")})
    finally:
        os._exit(0)


def _write_answer(descriptor: int, answer: dict) -> None:
    view = memoryview(json.dumps(answer).encode() + b"\n")
    while view:
        view = view[os.write(descriptor, view) :]
