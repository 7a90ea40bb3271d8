"""Vendor tools of the accelerators, as recorded outputs on PATH: the parsed values, and the cost if a tool hangs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fanout.agent.probes import gpu as probes_gpu
from fanout.agent.probes import xid
from fanout.agent.probes.probe_tools import FactUnavailable

pytestmark = pytest.mark.process

ROW = "NVIDIA H100 80GB HBM3, 81559, 4, 580.95.05, Default, Enabled, 0, Disabled, 31, 16, 16, 700.00"
ANSWERS = {
    "--query-gpu=index,uuid": f"0, GPU-0, {ROW}\n1, GPU-1, {ROW}",
    "--query-compute-apps": f"GPU-1, {os.getpid()}, 61200",
    "clocks_event_reasons": "0, Not Active, Not Active, Not Active, Not Active\n1, Not Active, Active, Not Active, Not Active",
    "--query-remapped-rows": "GPU-0, No, No\nGPU-1, Yes, No",
    "retired_pages": "GPU-0, [N/A]\nGPU-1, [N/A]",
    "gpu_recovery_action": "0, None\n1, Reset",
    "fabric.state": "0, Completed, Success\n1, In Progress, N/A",
}
UNKNOWN = 'Field "{}" is not a valid field to query.'
KERNEL = """\
4,1123,5140900,-;NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.95.05
4,2211,60140900,-;NVRM: Xid (PCI:0000:1b:00): 31, pid=4711, name=python, Ch 00000008, intr 00000000. MMU Fault
3,2212,91140900,-;NVRM: Xid (PCI:0000:1b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
 SUBSYSTEM=pci
3,2213,92140900,-;NVRM: Xid (PCI:0000:1b:00): 79, GPU has fallen off the bus.
"""
ROCM = {
    "card0": {"Unique ID": "0x6ab1", "VRAM Total Memory (B)": "206141652992", "VRAM Total Used Memory (B)": "297385984", "Card Series": "AMD Instinct MI300X", "Card Model": "0x74a1"},
    "card10": {"Unique ID": "0x6ab3", "VRAM Total Memory (B)": "206141652992", "VRAM Total Used Memory (B)": "1", "Card Series": "AMD Instinct MI300X"},
    "card2": {"Unique ID": "0x6ab2", "VRAM Total Memory (B)": "206141652992", "VRAM Total Used Memory (B)": "2", "Card Series": "AMD Instinct MI300X"},
    "system": {"Driver version": "6.10.5", f"PID{os.getpid()}": "python3, 1, 171798691840, 0, unknown"},
}  # fmt: skip


def write_tool(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def write_nvidia_smi(folder: Path, answers: dict[str, str]) -> None:
    """Write an nvidia-smi that knows these questions and refuses all others, as an old driver does."""
    cases = []
    for number, (question, answer) in enumerate(answers.items()):
        (folder / f"answer-{number}").write_text(answer + "\n")
        cases.append(f"*{question}*) cat {folder}/answer-{number} ;;")
    refusal = f"*) echo '{UNKNOWN.format('x')}'; exit 2 ;;"
    write_tool(folder, "nvidia-smi", "\n".join(['case "$*" in', *cases, refusal, "esac"]))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a directory first on PATH, and use an empty kernel log."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "kmsg").touch()
    monkeypatch.setattr(xid, "KERNEL_LOG", str(tmp_path / "kmsg"))
    return tmp_path


def read_gpus() -> dict[str, Any]:
    return probes_gpu.finish_query(probes_gpu.start_query({}))


def test_nvidia_smi_output_is_read_completely(folder: Path) -> None:
    """Models, memory, processes and their owners, throttling, the driver's requests, the fabric."""
    write_nvidia_smi(folder, ANSWERS)
    (folder / "kmsg").write_text(KERNEL)
    gpu = read_gpus()
    assert [row["uuid"] for row in gpu["gpus"]] == ["GPU-0", "GPU-1"]
    assert (gpu["driver"], gpu["gpus"][0]["power.limit"]) == ("580.95.05", "700.00")
    assert [(row["gpu"], row["pid"], row["memory"]) for row in gpu["processes"]] == [("GPU-1", os.getpid(), "61200")]
    assert gpu["throttled"] == ["1"]
    assert gpu["pending"] == {"1": "row remapping pending"}
    assert gpu["recovery"] == {"0": "None", "1": "Reset"}
    assert gpu["fabric"] == {"0": "Completed Success", "1": "In Progress N/A"}
    assert [row["xid"] for row in gpu["xids"]] == [31, 79]
    assert gpu["xids"][1]["text"] == "GPU has fallen off the bus."


def test_an_old_driver_answers_the_questions_that_it_knows(folder: Path) -> None:
    """A question with an unknown field is refused as a whole; the others are answered, also under their old names."""
    known = {name: ANSWERS[name] for name in ("--query-gpu=index,uuid", "--query-compute-apps")}
    write_nvidia_smi(folder, {**known, "clocks_throttle_reasons": ANSWERS["clocks_event_reasons"]})
    gpu = read_gpus()
    assert (len(gpu["gpus"]), gpu["throttled"]) == (2, ["1"])
    assert (gpu["pending"], gpu["recovery"], gpu["fabric"]) == ({}, {}, {})


def test_a_tool_that_hangs_is_a_broken_gpu_and_costs_its_time_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is not a missing fact: a run would hang as well."""
    monkeypatch.setattr(probes_gpu, "_SECONDS", 0.2)
    write_tool(folder, "nvidia-smi", "exec sleep 1000")
    gpu = read_gpus()
    assert (gpu["gpus"], gpu["problem"]) == ([], "nvidia-smi gave no answer within 0.2 s")


def test_an_unreadable_kernel_log_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "No errors seen" differs from "no errors"."""
    write_nvidia_smi(folder, ANSWERS)
    monkeypatch.setattr(xid, "KERNEL_LOG", str(folder / "nothing"))
    write_tool(folder, "journalctl", "echo 'No journal files were opened due to insufficient permissions.'; exit 1")
    gpu = read_gpus()
    assert (gpu["xids"], gpu["xids_unread"]) == ([], "the kernel's log is not readable for this user")


def test_the_journal_is_used_if_the_kernel_log_is_not_readable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members of the groups adm and systemd-journal can read it."""
    monkeypatch.setattr(xid, "KERNEL_LOG", str(folder / "nothing"))
    write_tool(
        folder, "journalctl", "echo '[    5.140900] gpu3 kernel: NVRM: Xid (PCI:0000:3b:00): 95, pid=1, Uncontained'"
    )
    (row,) = xid.read_xids(os.environ["PATH"])
    assert (row["pci"], row["xid"]) == ("0000:3b:00", 95)
    assert row["ago"] > 0


def test_rocm_smi_is_read_with_its_warnings_and_in_the_order_of_the_cards(folder: Path) -> None:
    """Card 10 follows card 2; each process is reported with its owner."""
    (folder / "answer").write_text(f"WARNING: AMD GPU device(s) is/are in a low-power state.\n\n{json.dumps(ROCM)}\n")
    write_tool(folder, "rocm-smi", f"cat {folder}/answer")
    gpu = read_gpus()
    assert (gpu["vendor"], gpu["driver"]) == ("amd", "6.10.5")
    assert [row["uuid"] for row in gpu["gpus"]] == ["0x6ab1", "0x6ab2", "0x6ab3"]
    assert (gpu["gpus"][0]["name"], gpu["gpus"][0]["memory.total"]) == ("AMD Instinct MI300X", "196592")
    assert [(row["pid"], row["memory"]) for row in gpu["processes"]] == [(os.getpid(), "163840")]


def test_a_host_without_gpus_reports_no_gpu(folder: Path) -> None:
    """A tool that finds no device reports the same."""
    write_tool(folder, "nvidia-smi", "echo 'No devices were found'; exit 6")
    with pytest.raises(FactUnavailable, match=r"\Ano GPU\Z"):
        read_gpus()
