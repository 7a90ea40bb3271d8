"""The whole check on this machine: real probes in forked children; FANOUT_HOST_ID separates the hosts."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fanout.agent import smi
from fanout.agent.probes import gpu
from fanout.checks.engine.definition import CheckRequest
from fanout.preflight import run_checks
from tests.checks.kit import ForkingAsker, build_hosts

pytestmark = pytest.mark.process


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Create a work directory with an environment beside it that contains a torchrun."""
    (tmp_path / "task.py").write_text("print('hi')\n")
    (tmp_path / "cfg.yaml").write_text("lr: 0.1\n")
    (tmp_path / "train.sh").write_text("torchrun --nnodes=$NNODES $@\n")
    folder = tmp_path / "env" / "bin"
    folder.mkdir(parents=True)
    (folder / "torchrun").write_text("#!/bin/sh\n")
    (folder / "torchrun").chmod(0o755)
    (folder / "python3").symlink_to(sys.executable)
    return tmp_path


@pytest.fixture
def asker() -> Iterator[ForkingAsker]:
    """Provide two hosts with different identities on this machine; at the end no listener may be alive."""
    made = ForkingAsker({f"gpu{n:02}": {"FANOUT_HOST_ID": f"h{n}"} for n in (1, 2, 3)})
    yield made
    assert made.living == 0
    made.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def request_for(project: Path, count: int = 2, **more: Any) -> CheckRequest:
    settings: dict[str, Any] = {
        "hosts": build_hosts(count, slots=1), "workdir": str(project), "task": "task.py", "config": "cfg.yaml",
        "venv": str(project / "env"), "master_port": free_port(),
        "connected_addresses": {f"gpu{n:02}": f"127.0.0.{n}" for n in range(1, count + 1)},
    }  # fmt: skip
    return CheckRequest(**{**settings, **more})


def list_findings(result: run_checks.Preflight, *levels: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.check, finding.hosts) for finding in result.findings if finding.level in levels]


def test_a_healthy_pair_passes_and_the_plan_learns_an_address_that_the_worker_reaches(
    project: Path, asker: ForkingAsker
) -> None:
    """Hosts on loopback get loopback addresses; nothing fails or warns about this project."""
    result = run_checks.run(request_for(project), asker)
    assert list_findings(result, "fail") == []
    assert result.compute_exit_code() == 0
    assert result.host_facts.master_addr == "127.0.0.1"
    assert result.host_facts.addresses["gpu01"] == "127.0.0.1"
    assert result.host_facts.interfaces["gpu01"] == "lo"
    assert result.host_facts.script == {"gpu01": True, "gpu02": True}
    assert result.host_facts.torchrun["gpu02"] == str(project / "env/bin/torchrun")
    assert abs(result.host_facts.offsets["gpu02"]) < 1


def test_one_machine_under_two_names_is_named_with_both_lines(project: Path) -> None:
    """Without an identity of their own the two are one machine."""
    result = run_checks.run(request_for(project), ForkingAsker())
    assert list_findings(result, "fail") == [("same-machine", ("gpu02",))]
    assert "gpu01 (hosts.txt:1), gpu02 (hosts.txt:2)" in result.failures[0].saw


def test_a_taken_port_is_reported_with_the_holders_pid(project: Path, asker: ForkingAsker) -> None:
    """The test holds the port, listening on loopback only: torch's wildcard bind still fails."""
    import os

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        result = run_checks.run(request_for(project, master_port=holder.getsockname()[1]), asker)
    assert list_findings(result, "fail") == [("master-port", ("gpu01",))]
    assert f"held by pid {os.getpid()}" in result.failures[0].saw
    assert f"ssh gpu01 ps -fp {os.getpid()}" in result.failures[0].advice


def test_a_task_that_is_missing_on_one_host_fails_only_there(
    project: Path, asker: ForkingAsker, tmp_path: Path
) -> None:
    """Host 2 has a work directory of its own, with another config and without the task."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "cfg.yaml").write_text("lr: 0.2\n")
    (other / "train.sh").write_text((project / "train.sh").read_text())
    first, second = build_hosts(2, slots=1)
    import dataclasses

    result = run_checks.run(request_for(project, hosts=(first, dataclasses.replace(second, workdir=str(other)))), asker)
    assert list_findings(result, "fail") == [("task", ("gpu02",)), ("config", ("gpu02",))]


def test_torchrun_outside_the_path_is_found_and_the_flag_to_type_is_printed(
    project: Path, asker: ForkingAsker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login's PATH has no torchrun; the work directory's env has one."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.setenv("HOME", str(project / "nobody"))
    result = run_checks.run(request_for(project, venv=""), asker)
    assert list_findings(result, "fail") == [("torchrun", ("gpu01", "gpu02"))] or list_findings(result, "fail") == [
        ("torchrun", ("gpu01",)),
        ("torchrun", ("gpu02",)),
    ]
    assert result.failures[0].advice.startswith(f"try  --venv {project}/env")


def test_a_cpu_host_without_slots_gets_the_line_to_write(
    project: Path, asker: ForkingAsker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of processes is not guessed: the line for the hostfile is printed."""
    monkeypatch.setattr(smi, "find_tool", lambda names, path: ("", ""))
    monkeypatch.setattr(gpu, "_devices", list)
    result = run_checks.run(request_for(project, hosts=build_hosts(1)), asker)
    assert list_findings(result, "fail") == [("slots", ("gpu01",))]
    assert "gpu01 slots=N  in hosts.txt" in result.failures[0].advice
