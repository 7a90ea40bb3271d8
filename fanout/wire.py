"""Protocol: decode the bytes of a host into events, and encode the plan into frames. No I/O.

``Decoder`` accepts the bytes of a host in any chunking: first the login output, up to the agent's line
``@nonce READY``, then frames. It limits and checks everything, because a host can be broken or hostile, and raises
``BadHost`` for anything else.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fanout import answers, schema
from fanout.agent import frames
from fanout.agent.frames import BadFrame
from fanout.events import (
    Answered,
    Beat,
    Chunk,
    Cramped,
    Event,
    Examine,
    Exited,
    Forgotten,
    Gone,
    Joined,
    Leftover,
    Noise,
    Prepared,
    Refused,
    Started,
    StreamOpened,
    Trimmed,
)
from fanout.messages import MESSAGES, MOST_BYTES
from fanout.plan import Default, EnvValue, LaunchPlan, NodePlan, PathList

PIECE = 8 << 10  # bytes from a host that are decoded at a time: they inflate to at most 8 MB of log
MAX_NOISE = 64 << 10
#: Events other than log chunks; only a limited number of them may wait for the launcher.
SAID = (Answered, Beat, Cramped, Exited, Forgotten, Gone, Joined, Prepared, Refused, Started, StreamOpened, Trimmed)


class BadHost(Exception):
    """The host violates the protocol; the text states how."""


class Decoder:
    """Decoder of the bytes of one connection."""

    def __init__(self, host: str, nonce: str, clock: Callable[[], float]) -> None:
        self._host = host
        self._clock = clock
        self._mark = f"@{nonce} READY ".encode()
        self._before = b""  # bytes before the agent's first line
        self._splitter = frames.Splitter()
        self.python = ""  # version of the agent's Python; "" before its first line
        self.hello: Mapping[str, Any] = {}
        self.totals: Mapping[int, tuple[int, int | None]] = {}  # of each stream, after the message "gone"
        self._asked: dict[int, str] = {}  # number -> name of each open question

    def expect(self, number: int, what: str) -> None:
        """Accept one answer to this question. An answer to no open question is dropped."""
        self._asked[number] = what

    def forget(self, number: int) -> None:
        """Accept no answer to this question any more."""
        self._asked.pop(number, None)

    @property
    def noise(self) -> bytes:
        """Return what the login printed before the agent's first line."""
        return self._before

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that ``data`` completes. Raises BadHost."""
        if self.python:
            return self._frames(data)
        self._before += data
        start = self._before.find(self._mark)
        end = self._before.find(b"\n", start) if start >= 0 else -1
        if end < 0:
            if len(self._before) > MAX_NOISE:
                raise BadHost(f"printed {len(self._before)} bytes at login and never started the agent")
            return []
        noise, rest = self._before[:start], self._before[end + 1 :]
        self.python = self._before[start + len(self._mark) : end].decode("ascii", "replace").strip()
        self._before = noise
        events: list[Event] = [Noise(at=self._clock(), host=self._host, data=noise)] if noise.strip() else []
        return events + self._frames(rest)

    def each(self, data: bytes) -> Iterator[Event]:
        """Yield the same events piece by piece: deflated data, inflated at once, can be a thousand times as large."""
        for start in range(0, len(data), PIECE):
            yield from self.feed(data[start : start + PIECE])

    def _frames(self, data: bytes) -> list[Event]:
        try:
            messages = self._splitter.feed(data)
        except BadFrame as error:
            raise BadHost(f"sent data that does not follow fanout's protocol: {error}") from None
        events = []
        for message in messages:
            try:
                event = self._event(message)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise BadHost(f"sent a message that cannot be read: {str(message)[:200]} ({error})") from None
            if event is not None:
                events.append(event)
        return events

    def _answered(self, message: Mapping[str, Any], at: float) -> Answered | None:
        """Return the answer to an open question, with only its valid part; None for any other answer."""
        number = int(message["id"])
        what = self._asked.pop(number, None)
        if what is None:
            return None
        value, error = (None, str(message["error"])) if message["error"] else answers.checked(what, message["value"])
        return Answered(at=at, host=self._host, ask=number, value=value, error=error)

    def _event(self, message: Any) -> Event | None:
        at, host = self._clock(), self._host
        if isinstance(message, tuple):
            stream, offset, data = message
            if offset + len(data) > MOST_BYTES:
                raise ValueError(f"log bytes at offset {offset}")
            return Chunk(at=at, host=host, stream=stream, offset=offset, data=data)
        kind = message["t"]
        if not isinstance(kind, str) or kind not in MESSAGES:
            raise ValueError(f"no message is called {str(kind)[:40]!r}")
        schema.check(MESSAGES[kind], message)
        match kind:
            case "hello":
                self.hello = message
                return None
            case "beat":
                return Beat(at=at, host=host, load=dict(message.get("load", {})))
            case "answer":
                return self._answered(message, at)
            case "prepared":
                return Prepared(at=at, host=host, pid=int(message["pid"]))
            case "refused":
                return Refused(
                    at=at,
                    host=host,
                    kind=str(message["kind"]),
                    message=str(message["message"]),
                    hint=str(message["hint"]),
                )
            case "started":
                return Started(at=at, host=host, pid=int(message["pid"]))
            case "joined":
                return Joined(at=at, host=host, how=str(message["how"]))
            case "trimmed":
                return Trimmed(at=at, host=host, stream=int(message["stream"]), upto=int(message["upto"]))
            case "cramped":
                return Cramped(at=at, host=host, message=str(message["message"]))
            case "stream":
                return StreamOpened(at=at, host=host, stream=int(message["id"]), name=str(message["name"]))
            case "exited":
                return _exited(message, at, host)
            case "gone":
                self.totals = totals(message)
                return _gone(message, at, host)
            case "forgotten":
                return Forgotten(at=at, host=host)
            case "crash":
                raise BadHost(f"the agent failed, which is a bug in fanout:\n{message['text']}")
            case _:
                raise ValueError(f"no event for {kind!r}")


def _exited(message: Mapping[str, Any], at: float, host: str) -> Exited:
    code, signal = message["code"], message["signal"]
    if code is not None and signal is not None:
        raise ValueError("both a code and a signal")
    return Exited(
        at=at,
        host=host,
        code=None if code is None else int(code),
        signal=None if signal is None else int(signal),
        why=str(message.get("why", "")),
        oom=bool(message.get("oom", False)),
    )


def _gone(message: Mapping[str, Any], at: float, host: str) -> Gone:
    left = tuple(
        Leftover(pid=int(one["pid"]), state=str(one["state"]), wchan=str(one["wchan"]), command=str(one["cmd"]))
        for one in message["left"]
    )
    return Gone(at=at, host=host, killed=int(message["killed"]), left=left, dropped=int(message["dropped"]))


def totals(message: Mapping[str, Any]) -> dict[int, tuple[int, int | None]]:
    """Return (size, CRC-32) of each stream in a ``gone`` message. The CRC is None if the host has none."""
    crc = message.get("crc", {})
    return {int(key): (int(size), crc.get(key)) for key, size in message["sizes"].items()}


# -- the plan as frames


def prepare_frame(plan: LaunchPlan, node: NodePlan, *, by: str, cursors: Mapping[int, int]) -> bytes:
    """Encode Prepare: the host's part of the plan, and the offsets up to which the launcher has its log."""
    return frames.pack(
        {
            "op": "prepare",
            "run": plan.run_id,
            "node": node.rank,
            "mark": list(node.mark),
            "argv": list(node.argv),
            "cwd": node.cwd,
            "needs": list(node.needs),
            "claims": list(node.claims),
            "ranks": -1 if node.first_rank is None else node.first_rank,
            "stacks": plan.stacks,
            "about": {"by": by},
            "card": {
                "title": shlex.join(plan.task),
                "nodes": len(plan.nodes),
                "nproc": node.nproc,
                "first_rank": node.first_rank,
                "detached": plan.detached,
            },
            "port": plan.master_port if len(plan.nodes) > 1 else 0,
            "lease": plan.lease,
            "spool": plan.spool_limit,
            "grace": plan.grace,
            "cursors": {str(stream): offset for stream, offset in cursors.items()},
        }
    )


def attach_frame(run_id: str, rank: int, mark: tuple[str, ...], cursors: Mapping[int, int]) -> bytes:
    """Encode Attach: connect to a run that exists on the host. It starts nothing."""
    named = {str(stream): offset for stream, offset in cursors.items()}
    return frames.pack({"op": "attach", "run": run_id, "node": rank, "mark": list(mark), "cursors": named})


def environment(node: NodePlan) -> dict[str, object]:
    """Return the exports in the form that the agent's ``spawn.environment`` expects."""
    return {name: _env(value) for name, value in node.env}


def go_frame(node: NodePlan) -> bytes:
    env = environment(node)
    for entry in node.mark:
        name, _, value = entry.partition("=")
        env[name] = value
    return frames.pack({"op": "go", "env": env})


def _env(value: EnvValue) -> object:
    if isinstance(value, str):
        return value
    entry: dict[str, object] = {"if": value.only_if} if value.only_if else {}
    if isinstance(value, Default):
        return {**entry, "default": value.value}
    assert isinstance(value, PathList)
    return {**entry, "before": list(value.before), "after": list(value.after)}


def ask_frame(number: int, what: str, args: Mapping[str, Any], timeout: float) -> bytes:
    return frames.pack({"op": "ask", "id": number, "what": what, "args": dict(args), "timeout": timeout})


EXAMINE_SECONDS = {"stacks": 12.0, "aftermath": 6.0}


def examination(plan: LaunchPlan, action: Examine) -> tuple[dict[str, Any], float]:
    """Return arguments and time-out (seconds) of a question about the run itself."""
    node = plan.node(action.host)
    args = {"run": plan.run_id, "node": node.rank, "cwd": node.cwd, "samples": 2, "since": action.since}
    return args, EXAMINE_SECONDS[action.what]


def cancel_frame(number: int) -> bytes:
    return frames.pack({"op": "cancel", "id": number})


def beat_frame(have: Mapping[int, int]) -> bytes:
    """Encode a heartbeat. ``have`` is how much of each stream the launcher has stored; the host may delete that."""
    if not have:
        return frames.pack({"op": "beat"})
    return frames.pack({"op": "beat", "have": {str(stream): size for stream, size in have.items()}})


def stop_frame(grace: float, why: str) -> bytes:
    return frames.pack({"op": "stop", "grace": grace, "why": why})


KILL = frames.pack({"op": "kill"})
BYE = frames.pack({"op": "bye"})
LEAVE = frames.pack({"op": "leave"})
