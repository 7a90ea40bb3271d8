"""Protocol: decode the bytes of a host into events, and encode the plan into frames. No I/O.

``FrameDecoder`` accepts the bytes of a host in any chunking: first the login output, up to the agent's line
``@nonce READY``, then frames. It limits and checks everything, because a host can be broken or hostile, and raises
``ProtocolError`` for anything else.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fanout.agent import frames
from fanout.agent.frames import BadFrame
from fanout.model import answers, schema
from fanout.model.actions import Inspect, Stop
from fanout.model.control_messages import AGENT_EVENTS, MESSAGES, MOST_BYTES
from fanout.model.events import AgentEvent, Answered, Chunk, CleanedUp, Event, HostLost, Leftover, LoginOutput, Refused
from fanout.model.plan import Default, EnvValue, LaunchPlan, NodePlan, PathList

PIECE_BYTES = 8 << 10  # bytes from a host that are decoded at a time: they inflate to at most 8 MB of log
MAX_LOGIN_OUTPUT = 64 << 10
#: Events other than log chunks; only a limited number of them may wait for the launcher.
LIMITED_EVENTS = (Answered, AgentEvent)


class ProtocolError(Exception):
    """The host violates the protocol; the text states how."""


class FrameDecoder:
    """Decoder of the bytes of one connection."""

    def __init__(self, host: str, nonce: str, clock: Callable[[], float]) -> None:
        self._host = host
        self._clock = clock
        self._mark = f"@{nonce} READY ".encode()
        self._before = b""  # bytes before the agent's first line
        self._splitter = frames.FrameSplitter()
        self.python = ""  # version of the agent's Python; "" before its first line
        self.hello: Mapping[str, Any] = {}
        self.totals: Mapping[int, tuple[int, int | None]] = {}  # of each stream, after the message "cleaned_up"
        self._asked: dict[int, str] = {}  # number -> name of each open question

    def expect_answer(self, number: int, what: str) -> None:
        """Accept one answer to this question. An answer to no open question is dropped."""
        self._asked[number] = what

    def drop_question(self, number: int) -> None:
        """Accept no answer to this question any more."""
        self._asked.pop(number, None)

    @property
    def login_output(self) -> bytes:
        """Return what the login printed before the agent's first line."""
        return self._before

    def feed_bytes(self, data: bytes) -> list[Event]:
        """Return the events that ``data`` completes. Raises ProtocolError."""
        if self.python:
            return self._decode_frames(data)
        self._before += data
        start = self._before.find(self._mark)
        end = self._before.find(b"\n", start) if start >= 0 else -1
        if end < 0:
            if len(self._before) > MAX_LOGIN_OUTPUT:
                raise ProtocolError(f"printed {len(self._before)} bytes at login and never started the agent")
            return []
        login_output, rest = self._before[:start], self._before[end + 1 :]
        self.python = self._before[start + len(self._mark) : end].decode("ascii", "replace").strip()
        self._before = login_output
        events: list[Event] = (
            [LoginOutput(at=self._clock(), host=self._host, data=login_output)] if login_output.strip() else []
        )
        return events + self._decode_frames(rest)

    def iter_events(self, data: bytes) -> Iterator[Event]:
        """Yield the same events piece by piece: deflated data, inflated at once, can be a thousand times as large."""
        for start in range(0, len(data), PIECE_BYTES):
            yield from self.feed_bytes(data[start : start + PIECE_BYTES])

    def _decode_frames(self, data: bytes) -> list[Event]:
        try:
            messages = self._splitter.feed(data)
        except BadFrame as error:
            raise ProtocolError(f"sent data that does not follow fanout's protocol: {error}") from None
        events = []
        for message in messages:
            try:
                event = self._decode_message(message)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise ProtocolError(f"sent a message that cannot be read: {str(message)[:200]} ({error})") from None
            if event is not None:
                events.append(event)
        return events

    def _decode_answer(self, message: Mapping[str, Any], at: float) -> Answered | None:
        """Return the answer to an open question, with only its valid part; None for any other answer."""
        number = int(message["id"])
        what = self._asked.get(number)
        if what is None:
            return None
        if what not in answers.REPEATED or message["error"]:
            self.drop_question(number)
        value, error = (
            (None, str(message["error"])) if message["error"] else answers.check_answer(what, message["value"])
        )
        return Answered(
            at=at,
            host=self._host,
            ask=number,
            value=value,
            error=error,
            reason=message.get("reason", "") or ("failed" if error else ""),
        )

    def _decode_message(self, message: Any) -> Event | None:
        at, host = self._clock(), self._host
        if isinstance(message, tuple):
            stream, offset, data = message
            if offset + len(data) > MOST_BYTES:
                raise ValueError(f"log bytes at offset {offset}")
            return Chunk(at=at, host=host, stream=stream, offset=offset, data=data)
        kind = message["t"]
        if not isinstance(kind, str) or kind not in MESSAGES:
            raise ValueError(f"no message is called {str(kind)[:40]!r}")
        schema.check_value(MESSAGES[kind], message)
        if kind == "hello":
            self.hello = message
            return None
        if kind == "answer":
            return self._decode_answer(message, at)
        if kind == "crash":
            raise ProtocolError(f"the agent failed, which is a bug in fanout:\n{message['text']}")
        if kind == "cleaned_up":
            self.totals = stream_totals(message)
            return _decode_cleaned_up(message, at, host)
        if kind == "exited" and message["code"] is not None and message["signal"] is not None:
            raise ValueError("both a code and a signal")
        kind_of_event = AGENT_EVENTS[kind]
        event: Event = kind_of_event(**schema.select_fields(kind_of_event, message) | {"at": at, "host": host})
        return event


def _decode_cleaned_up(message: Mapping[str, Any], at: float, host: str) -> CleanedUp:
    left = tuple(
        Leftover(pid=one["pid"], state=one["state"], wchan=one["wchan"], command=one["cmd"]) for one in message["left"]
    )
    return CleanedUp(at=at, host=host, killed=message["killed"], left=left, dropped=message["dropped"])


def explain_refused_attach(event: Refused) -> HostLost:
    """Return the loss of a host that has no such run, or whose run belongs to another version of fanout."""
    if event.kind == "other-version":
        why = f"{event.message}: {event.hint}"
        return HostLost(at=event.at, host=event.host, why=why, reason="other-version")
    why = "nothing of the run is left on the host: it was rebooted or cleaned"
    return HostLost(at=event.at, host=event.host, why=why, reason="no-run")


def stream_totals(message: Mapping[str, Any]) -> dict[int, tuple[int, int | None]]:
    """Return (size, CRC-32) of each stream in a ``cleaned_up`` message. The CRC is None if the host has none."""
    crc = message.get("crc", {})
    return {int(key): (int(size), crc.get(key)) for key, size in message["sizes"].items()}


# -- the plan as frames


def prepare_frame(plan: LaunchPlan, node: NodePlan, *, by: str, cursors: Mapping[int, int]) -> bytes:
    """Encode Prepare: the host's part of the plan, and the offsets up to which the launcher has its log."""
    return frames.pack_control(
        {
            "op": "prepare",
            "run": plan.run_id,
            "node": node.rank,
            "process_mark": list(node.process_mark),
            "argv": list(node.argv),
            "cwd": node.cwd,
            "required_files": list(node.needs),
            "claims": list(node.claims),
            "hold": node.holds_claims,
            "after": {"run": node.before[0], "node": node.before[1]} if node.before else None,
            "first_rank": -1 if node.first_rank is None else node.first_rank,
            "by": by,
            "run_info": {
                "title": shlex.join(plan.task),
                "nodes": len(plan.nodes),
                "nproc": node.nproc,
                "first_rank": node.first_rank,
                "detached": plan.detached,
            },
            "port": plan.master_port if len(plan.nodes) > 1 else 0,
            "settings": dict(plan.host_settings),
            "cursors": {str(stream): offset for stream, offset in cursors.items()},
        }
    )


def attach_frame(run_id: str, rank: int, mark: tuple[str, ...], cursors: Mapping[int, int]) -> bytes:
    """Encode Attach: connect to a run that exists on the host. It starts nothing."""
    named = {str(stream): offset for stream, offset in cursors.items()}
    return frames.pack_control(
        {"op": "attach", "run": run_id, "node": rank, "process_mark": list(mark), "cursors": named}
    )


def encode_environment(node: NodePlan) -> dict[str, object]:
    """Return the exports in the form that the agent's ``spawn.environment`` expects."""
    return {name: _encode_env_value(value) for name, value in node.env}


def go_frame(node: NodePlan) -> bytes:
    env = encode_environment(node)
    for entry in node.process_mark:
        name, _, value = entry.partition("=")
        env[name] = value
    return frames.pack_control({"op": "go", "env": env})


def _encode_env_value(value: EnvValue) -> object:
    if isinstance(value, str):
        return value
    entry: dict[str, object] = {"if": value.only_if} if value.only_if else {}
    if isinstance(value, Default):
        return {**entry, "default": value.value}
    assert isinstance(value, PathList)
    return {**entry, "before": list(value.before), "after": list(value.after)}


#: Questions with an input, and the stream of the frames for it.
INPUT_STREAMS = {"sync": 1}


def ask_frame(number: int, what: str, args: Mapping[str, Any], timeout: float) -> bytes:
    message = {"op": "ask", "id": number, "what": what, "args": dict(args), "timeout": timeout}
    if what in INPUT_STREAMS:
        message["input"] = INPUT_STREAMS[what]
    return frames.pack_control(message)


def input_frame(what: str, data: bytes) -> bytes:
    """Encode bytes for the input of a question. The same frame serves all hosts, so it is compressed once."""
    return frames.pack_data(INPUT_STREAMS[what], 0, data)


INSPECT_SECONDS = {"stacks": 12.0, "aftermath": 6.0}


def inspection_request(plan: LaunchPlan, action: Inspect) -> tuple[dict[str, Any], float]:
    """Return arguments and time-out (seconds) of a question about the run itself."""
    node = plan.node_of(action.host)
    args = {"run": plan.run_id, "node": node.rank, "cwd": node.cwd, "samples": 2, "since": action.since}
    return args, INSPECT_SECONDS[action.what]


def cancel_frame(number: int) -> bytes:
    return frames.pack_control({"op": "cancel", "id": number})


def heartbeat_frame(have: Mapping[int, int]) -> bytes:
    """Encode a heartbeat. ``have`` is how much of each stream the launcher has stored; the host may delete that."""
    if not have:
        return frames.pack_control({"op": "heartbeat"})
    return frames.pack_control({"op": "heartbeat", "have": {str(stream): size for stream, size in have.items()}})


def stop_frame(action: Stop, requester: str) -> bytes:
    """Encode a stop. If a command requested it, the keeper sends the user, ``requester``, to other launchers."""
    by = {"by": requester} if action.reason == "stop-command" else {}
    return frames.pack_control({"op": "stop", "grace": action.grace, "why": action.why, **by})


def save_frame(signal: str, *, sends: bool) -> bytes:
    return frames.pack_control({"op": "save", "signal": signal, "sends": sends})


KILL = frames.pack_control({"op": "kill"})
RELEASE = frames.pack_control({"op": "release"})
DISCONNECT = frames.pack_control({"op": "disconnect"})
