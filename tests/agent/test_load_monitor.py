"""Load monitor: the vendor tools' output, the cost when they hang, and that no process is left."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from pathlib import Path

import pytest

from fanout.agent import load_monitor, smi
from tests.agent.agents import Agent

NVIDIA = "97, 69632, 81559, 65, 650.12\n[N/A], 2, 81559, 30, [Not Supported]\n"
AMD = {
    "card0": {
        "GPU use (%)": "88", "VRAM Total Memory (B)": "68702699520", "VRAM Total Used Memory (B)": "10485760",
        "Temperature (Sensor edge) (C)": "45.0", "Average Graphics Package Power (W)": "90.0",
    },
    "system": {"Driver version": "6.2"},
}  # fmt: skip


def write_tool(path: Path, name: str, script: str) -> None:
    (path / name).write_text(f"#!/bin/sh\n{script}\n")
    (path / name).chmod(0o755)


@pytest.fixture
def own_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a PATH on which the test's own tool comes first."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_nvidia_smi_in_bytes_degrees_and_watts(own_path: Path) -> None:
    write_tool(own_path, "nvidia-smi", f"cat <<'END'\n{NVIDIA}END")
    assert load_monitor.GpuTool().query() == {
        "gpus": [
            {"util": 97.0, "used": 69632 * 1048576, "total": 81559 * 1048576, "temp": 65.0, "watts": 650.12},
            {"util": None, "used": 2 * 1048576, "total": 81559 * 1048576, "temp": 30.0, "watts": None},
        ]
    }


def test_rocm_smi_is_read_too(own_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tool(own_path, "rocm-smi", f"cat <<'END'\n{json.dumps(AMD)}\nEND")
    (own_path / "cat").symlink_to("/bin/cat")
    monkeypatch.setenv("PATH", str(own_path))  # this PATH has no nvidia-smi, which would be started first
    assert load_monitor.GpuTool().query() == {
        "gpus": [{"util": 88.0, "used": 10485760.0, "total": 68702699520.0, "temp": 45.0, "watts": 90.0}]
    }


def test_a_tool_that_hangs_is_killed_and_not_started_again_for_a_while(
    own_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_until = load_monitor._read_until

    def read_after_start(reader: int, deadline: float) -> str:
        """Let the tool's time run only after the tool has started, which may be late on a busy machine."""
        limit = time.monotonic() + 30
        while not (own_path / "asked").exists() or not (own_path / "asked").read_text():
            assert time.monotonic() < limit
            time.sleep(0.01)
        return read_until(reader, time.monotonic() + 0.3)

    monkeypatch.setattr(load_monitor, "_read_until", read_after_start)
    write_tool(own_path, "nvidia-smi", f"echo $$ >> {own_path}/asked; exec sleep 600")
    asked = load_monitor.GpuTool()
    assert [asked.query(), asked.query()] == [{"gpu_error": "nvidia-smi does not answer"}] * 2
    (pid,) = (own_path / "asked").read_text().split()  # started once
    assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("script", ["exit 9", "echo No devices were found; exit 6", "echo '{'", "printf '\\377'"])
def test_a_tool_that_fails_causes_no_error(own_path: Path, script: str) -> None:
    write_tool(own_path, "nvidia-smi", script)
    assert load_monitor.GpuTool().query() == {"gpu_error": "nvidia-smi does not answer"}


def test_processors_and_memory_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = load_monitor.read_memory()
    assert memory is not None
    assert 0 < memory[0] < memory[1]
    before = load_monitor.read_cpu_ticks()
    assert before is not None
    assert load_monitor.compute_busy_percent(before, (before[0] + 30, before[1] + 40)) == 75.0
    assert load_monitor.compute_busy_percent(before, before) is None


@pytest.mark.process
def test_measurements_arrive_through_a_pipe_and_nothing_is_left_after_stop() -> None:
    measured = load_monitor.LoadMonitor()
    measured.start()
    measured.start()
    loads: list[dict[str, object]] = []
    while not loads:
        ready = select.select(measured.get_descriptors(), [], [], 30)[0]
        assert ready
        loads = measured.receive(ready)
    assert {"cpu", "memory"} <= set(loads[0])
    measured.stop()
    measured.stop()
    assert measured.get_descriptors() == []


@pytest.mark.process
def test_a_run_reports_its_hosts_load_although_the_tool_hangs(tmp_path: Path) -> None:
    """Heartbeats with a load arrive, the run ends as usual, and the hung tool dies with the agent."""
    write_tool(tmp_path, "nvidia-smi", f"echo $$ > {tmp_path}/pid; exec sleep 600")
    with Agent(tmp_path / "state", PATH=f"{tmp_path}:{os.environ['PATH']}") as agent:
        agent.start_run("exec sleep 600", tmp_path)
        while not (heartbeat := agent.receive_message("heartbeat")).get("load"):
            pass
        assert heartbeat["load"]["gpu_error"] == "nvidia-smi does not answer"
        agent.send_operation("kill")
        assert agent.receive_message("exited")["signal"] in (signal.SIGTERM, signal.SIGKILL)
        agent.receive_message("cleaned_up")
        agent.send_operation("release")
        agent.receive_message("released")
    pid = int((tmp_path / "pid").read_text())
    assert not os.path.exists(f"/proc/{pid}") or "sleep" not in Path(f"/proc/{pid}/cmdline").read_text()


def test_rocm_smi_is_read_after_its_warnings_and_in_the_order_of_the_cards() -> None:
    text = "WARNING: a\n" + json.dumps({"card10": {"n": "10"}, "card2": {"n": "2"}, "system": {"PID7": "x"}})
    assert smi.parse_rocm(text) == ([{"n": "2"}, {"n": "10"}], {"PID7": "x"})
    with pytest.raises(ValueError):
        smi.parse_rocm("no JSON")


def test_nvidia_smi_is_found_before_other_tools_and_outside_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "amd").mkdir()
    (tmp_path / "cuda").mkdir()
    write_tool(tmp_path / "amd", "rocm-smi", "true")
    write_tool(tmp_path / "cuda", "nvidia-smi", "true")
    monkeypatch.setattr(smi, "EXTRA_PATH", f":{tmp_path}/cuda")
    names = ("nvidia-smi", "rocm-smi")
    assert smi.find_tool(names, f"{tmp_path}/amd") == ("nvidia-smi", f"{tmp_path}/cuda/nvidia-smi")
    assert smi.find_tool(("npu-smi",), f"{tmp_path}/amd") == ("", "")
