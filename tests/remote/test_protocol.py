"""Bytes to events: any cut gives the same, noise is never parsed, and a hostile host gets one answer alone."""

from __future__ import annotations

import itertools
import random
import struct
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.agent import frames
from fanout.model.events import (
    Answered,
    BackgroundFound,
    Chunk,
    CleanedUp,
    DiskPressure,
    Event,
    Exited,
    Heartbeat,
    Leftover,
    LoginOutput,
    LogTruncated,
    OutsideCalled,
    Prepared,
    RankEnded,
    RanksSeen,
    Refused,
    Released,
    RendezvousJoined,
    SaveHandlers,
    Started,
    StopRequested,
    StreamOpened,
)
from fanout.remote.protocol import FrameDecoder, ProtocolError

NONCE = "00ff00ff00ff00ff"
READY = f"\n@{NONCE} READY 3.11\n".encode()
KEPT: dict[str, Any] = {"how": "kept", "processes": "pid 7 torchrun", "keeper": 3}
LEFT = {"pid": 9, "state": "D", "wchan": "nfs_wait", "cmd": "python train.py"}

MESSAGES: list[tuple[dict[str, Any], Event]] = [
    ({"t": "heartbeat", "load": {"cpu": 1.5}}, Heartbeat(at=7.0, host="h", load={"cpu": 1.5})),
    ({"t": "heartbeat"}, Heartbeat(at=7.0, host="h")),
    (
        {"t": "answer", "id": 3, "value": {"time": 1.5, "pid": 1}, "error": ""},
        Answered(at=7.0, host="h", ask=3, value={"time": 1.5, "pid": 1}, error=""),
    ),
    ({"t": "prepared", "pid": 7}, Prepared(at=7.0, host="h", pid=7)),
    (
        {"t": "refused", "kind": "busy", "message": "busy: ä", "hint": "wait"},
        Refused(at=7.0, host="h", kind="busy", message="busy: ä", hint="wait"),
    ),
    ({"t": "started", "pid": 8}, Started(at=7.0, host="h", pid=8)),
    ({"t": "stream_opened", "stream": 1, "name": "rank 0"}, StreamOpened(at=7.0, host="h", stream=1, name="rank 0")),
    ({"t": "exited", "code": 3, "signal": None, "why": ""}, Exited(at=7.0, host="h", code=3, signal=None)),
    (
        {"t": "exited", "code": None, "signal": 9, "why": "x", "oom": True},
        Exited(at=7.0, host="h", code=None, signal=9, why="x", oom=True),
    ),
    (
        {"t": "cleaned_up", "killed": 2, "left": [LEFT], "sizes": {"0": 5}, "crc": {"0": 1}, "dropped": 3},
        CleanedUp(
            at=7.0,
            host="h",
            killed=2,
            dropped=3,
            left=(Leftover(pid=9, state="D", wchan="nfs_wait", command="python train.py"),),
        ),
    ),
    ({"t": "released"}, Released(at=7.0, host="h")),
    ({"t": "rendezvous_joined", "how": "waiting"}, RendezvousJoined(at=7.0, host="h", how="waiting")),
    (
        {"t": "save_handlers", "signal": "USR1", "ranks": [0, 1], "others": [], "sent": True},
        SaveHandlers(at=7.0, host="h", signal="USR1", ranks=(0, 1), others=(), sent=True),
    ),
    ({"t": "ranks_seen", "ranks": [0, 1]}, RanksSeen(at=7.0, host="h", ranks=(0, 1))),
    ({"t": "rank_ended", "rank": 1, "seconds": 2.5}, RankEnded(at=7.0, host="h", rank=1, seconds=2.5)),
    ({"t": "disk_pressure", "message": "no room"}, DiskPressure(at=7.0, host="h", message="no room")),
    ({"t": "background_found", **KEPT}, BackgroundFound(at=7.0, host="h", **KEPT)),
    ({"t": "stop_requested", "by": "ann@pc"}, StopRequested(at=7.0, host="h", by="ann@pc")),
    ({"t": "outside_called", "calls": "ssh to h2"}, OutsideCalled(at=7.0, host="h", calls="ssh to h2")),
    ({"t": "log_truncated", "stream": 1, "upto": 9}, LogTruncated(at=7.0, host="h", stream=1, upto=9)),
]


def make_decoder() -> FrameDecoder:
    return FrameDecoder("h", NONCE, lambda: 7.0)


def make_ready_decoder() -> FrameDecoder:
    """Return a decoder whose host has sent READY."""
    one = make_decoder()
    assert one.feed_bytes(READY) == []
    one.expect_answer(3, "clock")
    return one


def feed_decoder(data: bytes, cuts: list[int]) -> tuple[list[Event], FrameDecoder]:
    one = make_decoder()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    events = [event for start, end in itertools.pairwise(edges) for event in one.feed_bytes(data[start:end])]
    return events, one


@pytest.mark.parametrize(("message", "event"), MESSAGES, ids=[message["t"] for message, _ in MESSAGES])
def test_every_message_has_its_event(message: dict[str, Any], event: Event) -> None:
    assert make_ready_decoder().feed_bytes(frames.pack_control(message)) == [event]


def test_log_bytes_that_no_file_could_hold_are_not_the_protocol() -> None:
    with pytest.raises(ProtocolError):
        make_ready_decoder().feed_bytes(frames.pack_data(0, (1 << 64) - 1, b"x"))
    with pytest.raises(ProtocolError):
        make_ready_decoder().feed_bytes(frames.pack_control({"t": "log_truncated", "stream": 0, "upto": (1 << 63) - 1}))


def test_hello_is_no_event_and_gone_has_the_totals() -> None:
    one = make_ready_decoder()
    assert one.feed_bytes(frames.pack_control({"t": "hello", "v": 1, "hostname": "gpu01"})) == []
    assert one.hello["hostname"] == "gpu01"
    assert one.python == "3.11"
    one.feed_bytes(
        frames.pack_control(
            {"t": "cleaned_up", "killed": 0, "left": [], "sizes": {"0": 5}, "crc": {"0": 1}, "dropped": 0}
        )
    )
    assert one.totals == {0: (5, 1)}


LONG = st.binary(min_size=1, max_size=40).map(
    lambda piece: piece * (frames.DEFLATE_MIN_BYTES // len(piece) + 1)
)  # sent deflated
CHUNKS = st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 1 << 40), st.binary(max_size=40) | LONG), max_size=4)
CONTROL_MESSAGES = st.lists(
    st.sampled_from([message for message, _ in MESSAGES if message["t"] != "answer"]), max_size=5
)


@given(
    noise=st.binary(max_size=60),
    messages=CONTROL_MESSAGES,
    chunks=CHUNKS,
    cuts=st.lists(st.integers(0, 1 << 16), max_size=12),
)
def test_any_cut_of_the_bytes_gives_the_same_events(
    noise: bytes, messages: list[dict[str, Any]], chunks: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    data = (
        noise
        + READY
        + b"".join(map(frames.pack_control, messages))
        + b"".join(frames.pack_data(*chunk) for chunk in chunks)
    )
    whole, one = feed_decoder(data, [])
    assert feed_decoder(data, cuts)[0] == whole
    assert len(whole) == len(messages) + len(chunks) + bool(noise.strip())
    assert whole[len(whole) - len(chunks) :] == [
        Chunk(at=7.0, host="h", stream=stream, offset=offset, data=data) for stream, offset, data in chunks
    ]
    assert one.python == "3.11"


def test_much_log_is_sent_deflated_unless_that_makes_it_no_smaller() -> None:
    log, noise = b"step 1 loss 2.5\n" * 8192, random.Random(7).randbytes(frames.CHUNK)
    assert len(frames.pack_data(0, 0, log)) < len(log) // 10
    assert len(frames.pack_data(0, 0, noise)) == len(noise) + 15
    for data in (log, noise):
        assert frames.FrameSplitter().feed(frames.pack_data(3, 9, data)) == [(3, 9, data)]


@pytest.mark.parametrize(
    "deflated", [b"no zlib", zlib.compress(bytes(frames.MAX_BODY + 1)), zlib.compress(b"log")[:-1]]
)
def test_broken_or_oversized_compressed_data_is_refused(deflated: bytes) -> None:
    frame = struct.pack("!IBHQ", len(deflated) + 10, frames.DEFLATED, 0, 0) + deflated
    with pytest.raises(frames.BadFrame, match="inflate"):
        frames.FrameSplitter().feed(frame)


@given(noise=st.binary(max_size=200))
def test_login_output_is_shown_unchanged(noise: bytes) -> None:
    events, _ = feed_decoder(noise + READY + frames.pack_control({"t": "heartbeat"}), [])
    before = noise + b"\n"
    assert events[:-1] == ([LoginOutput(at=7.0, host="h", data=before)] if before.strip() else [])


def test_large_compressed_data_is_inflated_in_pieces() -> None:
    """A flood of one letter: 64 MB of it come in less than 1 MB, and a launcher takes up a few MB at a time."""
    frame = frames.pack_data(0, 0, b"x" * frames.CHUNK)
    flood, one = frame * 512, make_ready_decoder()
    tracemalloc.start()
    try:
        total = sum(len(event.data) for event in one.iter_events(flood) if isinstance(event, Chunk))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (total, len(flood) < 1 << 20) == (512 * frames.CHUNK, True)
    assert peak < 16 << 20


@pytest.mark.parametrize(
    "forged",
    [
        b"@ READY 3.11\n",
        b"@0000000000000000 READY 3.11\n",
        b"READY\n",
        NONCE.encode() + b" READY 3.11\n",
        f"@{NONCE} READ".encode() + b"Y\n",
        frames.pack_control({"t": "exited", "code": 0, "signal": None}),
    ],
)
def test_frames_need_the_nonce(forged: bytes) -> None:
    one = make_decoder()
    assert one.feed_bytes(forged) == []
    assert one.python == ""
    assert one.login_output == forged
    assert [type(event) for event in one.feed_bytes(READY + frames.pack_control({"t": "heartbeat"}))] == [
        LoginOutput,
        Heartbeat,
    ]


def test_a_login_that_prints_without_end_is_cut_off() -> None:
    one = make_decoder()
    assert one.feed_bytes(b"y\n" * 30_000) == []
    with pytest.raises(ProtocolError, match=r"printed 66000 bytes at login and never started the agent"):
        one.feed_bytes(b"y\n" * 3_000)


HOSTILE: dict[str, bytes] = {
    "a frame of 4 GB": struct.pack("!IB", 0xFFFFFFFF, frames.JSON),
    "an unknown kind": struct.pack("!IB", 2, 9) + b"{}",
    "data without a head": struct.pack("!IB", 3, frames.DATA) + b"abc",
    "no JSON": struct.pack("!IB", 3, frames.JSON) + b"{,}",
    "no UTF-8": struct.pack("!IB", 2, frames.JSON) + b"\xff\xfe",
    "no object": struct.pack("!IB", 2, frames.JSON) + b"[]",
    "nested without end": struct.pack("!IB", 100_000, frames.JSON) + b"[" * 100_000,
    "sizes that are a list": frames.pack_control({**MESSAGES[9][0], "sizes": []}),
    "a checksum that is a list": frames.pack_control({**MESSAGES[9][0], "crc": [1]}),
    "a pid without end": frames.pack_control({"t": "prepared", "pid": float("inf")}),
    "a message without a kind": frames.pack_control({"pid": 1}),
    "an integer of many digits": struct.pack("!IB", 10_011, frames.JSON) + b'{"t":"x' + b'":1,"a":' + b"1" * 9_996,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=list(HOSTILE))
def test_protocol_violations_raise_one_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        make_ready_decoder().feed_bytes(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
#: Messages that are right but for one field, which is where a reader that trusts them falls.
TWISTED = st.builds(
    lambda message, name, value: {**message, name: value},
    st.sampled_from([message for message, _ in MESSAGES] + [{"t": "hello"}, {"t": "crash", "text": ""}]),
    st.sampled_from(sorted({name for message, _ in MESSAGES for name in message})),
    JSON | st.lists(st.just(LEFT) | JSON, max_size=2) | st.sampled_from([float("inf"), float("nan"), [], {"0": "x"}]),
)


def decode_or_refuse(data: bytes) -> list[Event] | None:
    """Return the events, or None for a bad host; any other exception is a fault."""
    try:
        return make_ready_decoder().feed_bytes(data)
    except ProtocolError:
        return None


@settings(max_examples=500)
@given(message=TWISTED | st.dictionaries(st.text(max_size=3), JSON, max_size=3))
def test_a_message_of_any_shape_is_an_event_or_a_bad_host_and_nothing_else(message: dict[str, Any]) -> None:
    events = decode_or_refuse(frames.pack_control(message))
    assert events is None or len(events) == (message["t"] != "hello")


@settings(max_examples=300)
@given(data=st.binary(max_size=80))
def test_any_bytes_are_events_or_a_bad_host_and_nothing_else(data: bytes) -> None:
    assert all(isinstance(event, (Chunk, Heartbeat, Released)) for event in decode_or_refuse(data) or ())


def test_a_failure_of_the_agent_is_reported_with_its_traceback() -> None:
    with pytest.raises(ProtocolError, match=r"(?s)a bug in fanout:\nTraceback.*KeyError"):
        make_ready_decoder().feed_bytes(frames.pack_control({"t": "crash", "text": "Traceback\nKeyError: 'x'"}))
