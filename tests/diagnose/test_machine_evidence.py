"""Kernel log of a machine whose run is in a container: it is evidence, but its pids are of another namespace."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fanout.diagnose.verdict import to_dict
from fanout.diagnose.verdict_text import render_lines
from fanout.model.actions import Inspect
from fanout.model.container_events import MachineExamined
from fanout.model.events import ActionSent, Answered, Connected
from tests.diagnose.kit import Run, verdict

XID = "[ 99.5] NVRM: Xid (PCI:0000:0f:00): 79, pid=2503421, name=python3, GPU has fallen off the bus."
GPU_ERROR = "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"


def examine_machine(run: Run, host: str, *lines: str) -> Run:
    run.add_events(MachineExamined(at=run.at, host=host, value={"kernel": list(lines)}, error=""))
    return run


def answer_inside(run: Run, host: str, lines: Sequence[str], engine: str) -> Run:
    """Add the answer of the agent in the container, which may read the kernel log too."""
    run.add_events(Connected(at=run.at, host=host, attempt=2, took=0.1, hello={"engine": engine}))
    run.add_events(ActionSent(at=run.at, action=Inspect(host=host, ask=9, what="aftermath")))
    run.add_events(Answered(at=run.at, host=host, ask=9, value={"kernel": list(lines)}, error=""))
    return run


def kill_rank(run: Run) -> Run:
    return run.torchrun("gpu02", (2, -9))


def build_oom_line(pid: int) -> str:
    return f"[ 99.5] Out of memory: Killed process {pid} (python3) total-vm:81234567kB, anon-rss:61234567kB"


def test_xid_of_the_machine_explains_the_gpu_error_of_a_rank_in_the_container() -> None:
    run = Run().raises(2, GPU_ERROR).torchrun("gpu02", (2, 1))
    found = verdict(examine_machine(run, "gpu02", XID))
    assert found.cause is not None
    assert (found.cause.host, found.cause.signature) == ("gpu02", "xid")
    assert any("Xid" in note for note in found.hosts)


def test_without_a_container_the_pid_of_the_kernel_log_proves_the_kill() -> None:
    run = kill_rank(Run())
    found = verdict(answer_inside(run, "gpu02", [build_oom_line(run.pid(2))], ""))
    assert found.cause is not None
    assert (found.cause.signature, found.confidence) == ("kernel-oom", "high")


@pytest.mark.parametrize("is_inside", [True, False])
def test_an_equal_pid_in_the_kernel_log_proves_nothing_about_a_process_in_a_container(is_inside: bool) -> None:
    run = kill_rank(Run())
    line = build_oom_line(run.pid(2))
    run = answer_inside(run, "gpu02", [line], "docker") if is_inside else examine_machine(run, "gpu02", line)
    found = verdict(run)
    assert found.cause is None or found.cause.signature != "kernel-oom"
    assert any("Killed process" in note for note in found.hosts)


def test_log_of_the_machine_replaces_the_one_that_the_container_saw() -> None:
    run = answer_inside(kill_rank(Run()), "gpu02", [XID], "docker")
    found = verdict(examine_machine(run, "gpu02", XID))
    assert len([note for note in found.hosts if "Xid" in note]) == 1


def enter_container(run: Run, host: str, name: str) -> Run:
    hello = {"engine": "docker", "container": name}
    run.add_events(Connected(at=run.at, host=host, attempt=2, took=0.1, hello=hello))
    return run


def test_pid_of_the_first_cause_names_its_container() -> None:
    run = enter_container(Run(), "gpu02", "work").raises(2, GPU_ERROR).torchrun("gpu02", (2, 1))
    found = verdict(run)
    assert any(f"pid {run.pid(2)} in container work" in line for line in render_lines(found)), render_lines(found)
    assert to_dict(found)["cause"]["container"] == "work"


def test_pid_of_a_stuck_process_names_its_container() -> None:
    run = enter_container(kill_rank(Run()), "gpu02", "work")
    run.add_events(ActionSent(at=run.at, action=Inspect(host="gpu02", ask=9, what="aftermath")))
    stuck = [{"pid": 71, "state": "D", "wchan": "nfs_wait", "cmd": "python3"}]
    run.add_events(Answered(at=run.at, host="gpu02", ask=9, value={"stuck": stuck}, error=""))
    assert "gpu02: pid 71 in container work waits in the kernel nfs_wait: python3" in verdict(run).hosts


def test_a_name_of_a_container_that_no_engine_accepts_is_not_printed() -> None:
    run = enter_container(Run(), "gpu02", "w\x1b[31m").raises(2, GPU_ERROR).torchrun("gpu02", (2, 1))
    assert not [line for line in render_lines(verdict(run)) if "container" in line]
