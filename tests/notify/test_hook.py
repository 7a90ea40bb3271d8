"""Hook: it gets the message, and one that fails, hangs or floods harms nothing."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fanout.notify import hook
from fanout.notify.delivery import MAX_WAITING, Delivery
from fanout.notify.message import RunMessage

pytestmark = pytest.mark.process
PATH = {"PATH": "/usr/bin:/bin"}


def build_message(**more: Any) -> RunMessage:
    message = RunMessage(
        event="failed",
        run="20261130-1",
        name="sweep",
        task="train.py",
        hosts=("gpu01", "gpu02"),
        attempt=0,
        headline="rank 3 on gpu02: CUDA out of memory",
        seconds=61.0,
        step=7,
        loss=2.5,
        exit_code=1,
    )
    return replace(message, **more)


def test_hook_gets_the_message_on_stdin_and_in_the_environment(tmp_path: Path) -> None:
    command = f'cat > {tmp_path}/in; echo "$FANOUT_EVENT $FANOUT_EXIT $FANOUT_RUN: $FANOUT_HEADLINE"'
    assert hook.call_hook(command, build_message(), PATH, str(tmp_path)) == ""
    sent = json.loads((tmp_path / "in").read_text())
    assert (sent["v"], sent["event"], sent["hosts"], sent["step"]) == (1, "failed", ["gpu01", "gpu02"], 7)
    assert "failed 1 20261130-1: rank 3 on gpu02: CUDA out of memory" in (tmp_path / "hook.log").read_text()


def test_headline_of_a_host_is_data_and_never_a_command(tmp_path: Path) -> None:
    message = build_message(headline=f"$(touch {tmp_path}/pwned); `touch {tmp_path}/pwned` '\n\0 end")
    assert hook.call_hook('echo "$FANOUT_HEADLINE"', message, PATH, str(tmp_path)) == ""
    assert not (tmp_path / "pwned").exists()


def test_failing_hook_is_reported_with_its_status(tmp_path: Path) -> None:
    assert hook.call_hook("echo broken; exit 3", build_message(), PATH, str(tmp_path)) == "exit 3"
    assert "failed: exit 3\nbroken" in (tmp_path / "hook.log").read_text()


def test_hook_that_reads_nothing_and_floods_is_bounded(tmp_path: Path) -> None:
    message = build_message(headline="x" * 1_000_000)
    assert hook.call_hook("head -c 3000000 /dev/zero | tr '\\0' y", message, PATH, str(tmp_path)) == ""
    assert (tmp_path / "hook.log").stat().st_size <= hook.OUTPUT_BYTES + 200


def test_hanging_hook_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook, "HOOK_SECONDS", 0.5)
    began = time.monotonic()
    why = hook.call_hook(f"sleep 100 & echo $! > {tmp_path}/pid; wait", build_message(), PATH, str(tmp_path))
    assert why.startswith("killed after")
    assert time.monotonic() - began < 20
    pid = (tmp_path / "pid").read_text().strip()
    status = Path(f"/proc/{pid}/stat")
    assert not status.exists() or " Z " in status.read_text()


def test_background_child_of_a_hook_delays_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    assert hook.call_hook("sleep 15 & exit 0", build_message(), PATH, str(tmp_path)) == ""
    assert time.monotonic() - began < 10


def test_delivery_joins_lost_hosts_and_counts_what_it_drops() -> None:
    got: list[RunMessage] = []
    is_full = threading.Event()

    def deliver_slowly(message: RunMessage) -> str:
        got.append(message)
        is_full.wait(10)
        return "exit 9"

    delivery = Delivery(hook=deliver_slowly)
    delivery.add_message(build_message(event="started"))
    for number in range(5):
        delivery.add_message(build_message(event="host-lost", headline=f"gpu{number}"))
    for _ in range(MAX_WAITING + 10):
        delivery.add_message(build_message(event="hang"))
    is_full.set()
    problems = delivery.finish()
    joined = [message.headline for message in got if message.event == "host-lost"]
    assert "gpu3; gpu4" in joined[-1]
    assert any("calls failed: exit 9" in line for line in problems)
    assert any("messages were not delivered, because hook took too long" in line for line in problems)
