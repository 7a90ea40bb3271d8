"""The plan as frames: the agent reads what the launcher has sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fanout.agent import frames
from fanout.model.actions import Stop
from fanout.model.hosts import Host, Origin
from fanout.model.plan import Default, LaunchPlan, NodePlan, PathList
from fanout.remote import protocol

NODE = NodePlan(
    host=Host(name="h", origin=Origin(file="f", line=1)),
    rank=1,
    nproc=2,
    cwd="/p",
    argv=("bash", "train.sh", "ä b"),
    env=(("A", "x"), ("P", PathList(before=("v",), after=("",))), ("D", Default(value="1", only_if="/v"))),
    needs=("train.sh",),
    claims=("port-1",),
    first_rank=8,
    run_id="r1",
)
PLAN = LaunchPlan(
    run_id="r1", task=("t",), nodes=(NODE,), master_addr="a", master_port=1, host_settings={"grace": 4.0, "lease": 30.0}
)


def one_of(data: bytes) -> dict[str, Any]:
    (message,) = frames.FrameSplitter().feed(data)
    assert isinstance(message, dict)
    return message


def test_prepare_has_all_data_that_go_needs() -> None:
    assert one_of(protocol.prepare_frame(PLAN, NODE, by="me@pc", cursors={0: 5})) == {
        "op": "prepare",
        "run": "r1",
        "node": 1,
        "process_mark": ["FANOUT_RUN_ID=r1", "FANOUT_NODE=1", "FANOUT_ATTEMPT=0"],
        "argv": ["bash", "train.sh", "ä b"],
        "cwd": "/p",
        "required_files": ["train.sh"],
        "claims": ["port-1"],
        "hold": False,
        "after": None,
        "first_rank": 8,
        "by": "me@pc",
        "run_info": {"title": "t", "nodes": 1, "nproc": NODE.nproc, "first_rank": 8, "detached": False},
        "port": 0,  # a run of one host waits for no other host
        "settings": {"grace": 4.0, "lease": 30.0},
        "cursors": {"0": 5},
    }


def test_go_carries_the_environment_and_the_mark() -> None:
    env = one_of(protocol.go_frame(NODE))["env"]
    assert env == {
        "A": "x",
        "P": {"before": ["v"], "after": [""]},
        "D": {"default": "1", "if": "/v"},
        "FANOUT_RUN_ID": "r1",
        "FANOUT_NODE": "1",
        "FANOUT_ATTEMPT": "0",
    }


def test_small_frames_name_their_type() -> None:
    assert one_of(protocol.attach_frame("r1", 1, NODE.process_mark, {0: 9}))["cursors"] == {"0": 9}
    asked = one_of(protocol.ask_frame(4, "gpu", {"a": 1}, 2.0))
    assert asked == {"op": "ask", "id": 4, "what": "gpu", "args": {"a": 1}, "timeout": 2.0}
    assert one_of(protocol.cancel_frame(4)) == {"op": "cancel", "id": 4}
    stop = Stop(host="h", grace=1.5, reason="host-failed", why="x")
    assert one_of(protocol.stop_frame(stop, "ann@pc")) == {"op": "stop", "grace": 1.5, "why": "x"}
    by_command = replace(stop, reason="stop-command")
    assert one_of(protocol.stop_frame(by_command, "ann@pc"))["by"] == "ann@pc"
    frames = (protocol.KILL, protocol.heartbeat_frame({}), protocol.RELEASE)
    assert [one_of(frame)["op"] for frame in frames] == ["kill", "heartbeat", "release"]
