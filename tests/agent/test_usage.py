"""Usage of a host: vendors' tools and files as recorded, owners of processes, and the changes between samples."""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from fanout.agent import shared_claims
from fanout.agent.probes import amd_files, gpu_usage, usage, usage_owners, xid, xid_watch
from fanout.agent.probes.gpu_usage import FIELDS, NvidiaLoop, RepeatedTool
from fanout.model.answers import check_answer
from fanout.sharing.host_usage import apply_changes, build_usage
from tests.agent.test_npu_info import TWO_CHIPS
from tests.agent.test_tool_loop import write_tool

#: Lines of nvidia-smi 580 for H100, of 470 for A100 (no event reasons), and of a GPU that has fallen off the bus.
H100 = "{}, GPU-5f1d{}, NVIDIA H100 80GB HBM3, 00000000:{}8:00.0, 97, 61204, 81559, 64, 651.32, 700.00, 0, Not Active, {}, Not Active, Not Active"
A100 = "0, GPU-77aa, NVIDIA A100-SXM4-80GB, 00000000:07:00.0, 0, 2, 81251, 29, 61.10, 400.00, [N/A]"
LOST = "Unable to determine the device handle for GPU 0000:28:00.0: Unknown Error"


def wait_for_gpus(source: Any, count: int) -> tuple[dict[str, Any], list[Any], str]:
    until = time.monotonic() + 30
    while True:
        found: tuple[dict[str, Any], list[Any], str] = source.read_gpus()
        if len(found[0]) == count:
            return found
        assert time.monotonic() < until, found
        time.sleep(0.02)


def write_looping_smi(path: Path, cards: list[str], apps: list[str], *, old: bool = False) -> str:
    """Write an nvidia-smi that loops as the real one does with -l; an old one does not know clocks_event_reasons."""
    refuse = "if 'clocks_event_reasons' in line:\n print('Field \"clocks_event_reasons.hw_slowdown\" is not a valid field to query.')\n sys.exit(2)\n"
    body = (
        "line = ' '.join(sys.argv)\nassert '-l 2' in line, line\n"
        + (refuse if old else "")
        + f"rows = {apps!r} if 'compute-apps' in line else {cards!r}\n"
        + "while True:\n [print(row) for row in rows]\n time.sleep(float(sys.argv[-1]))"
    )
    return write_tool(path / "nvidia-smi", body)


@pytest.mark.process
def test_nvidia_smi_that_loops_gives_gpus_and_processes(tmp_path: Path) -> None:
    rows = [H100.format(at, at, at + 1, "Active" if at == 1 else "Not Active") for at in range(2)]
    source = NvidiaLoop(write_looping_smi(tmp_path, rows, ["GPU-5f1d1, 4711, 61190"]), dict(os.environ), 2.0)
    gpus, _, problem = wait_for_gpus(source, 2)
    assert problem == ""
    assert gpus["1"] == {
        "name": "NVIDIA H100 80GB HBM3",
        "pci": "00000000:28:00.0",
        "util": 97.0,
        "used": 61204.0,
        "total": 81559.0,
        "temp": 64.0,
        "watts": 651,
        "limit": 700,
        "ecc": 0,
        "throttled": ["hw_thermal_slowdown"],
        "lost": False,
    }
    until = time.monotonic() + 30
    while not source.read_gpus()[1]:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert source.read_gpus()[1] == [("1", 4711, 61190.0)]
    end_loops(source)


def end_loops(source: NvidiaLoop) -> None:
    for loop in (source._cards, source._apps):
        loop._end_program()


@pytest.mark.process
def test_older_driver_reports_its_own_names_of_the_reasons(tmp_path: Path) -> None:
    tool = write_looping_smi(tmp_path, [f"{A100}, Not Active, Not Active, Active, Not Active"], [], old=True)
    source = NvidiaLoop(tool, dict(os.environ), 2.0)
    gpus, _, _ = wait_for_gpus(source, 1)
    assert gpus["0"]["throttled"] == ["hw_power_brake_slowdown"]
    assert gpus["0"]["ecc"] is None
    end_loops(source)


def test_gpu_that_is_no_longer_printed_and_a_process_that_has_ended() -> None:
    source = NvidiaLoop("/nonexistent", {}, 2.0)
    now = time.monotonic()
    known = dict(zip(FIELDS, H100.format(0, 0, 1, "Not Active").split(", "), strict=False))
    source._gpus = {"0": (now, gpu_usage._build_gpu(known, [])), "1": (now - 60, gpu_usage._build_gpu(known, []))}
    gpus = source._mark_stale(now)
    assert gpus["0"]["lost"] is False
    assert gpus["1"] == {"name": "NVIDIA H100 80GB HBM3", "pci": "00000000:18:00.0", "lost": True}
    assert gpu_usage._split_row(LOST, len(FIELDS)) == []


@pytest.mark.process
def test_host_with_the_tool_and_without_a_gpu_has_no_problem(tmp_path: Path) -> None:
    tool = write_tool(tmp_path / "nvidia-smi", "print('No devices were found')\nsys.exit(6)")
    source = NvidiaLoop(tool, dict(os.environ), 2.0)
    until = time.monotonic() + 30
    while not source.is_settled:
        assert time.monotonic() < until
        assert source.read_gpus() == ({}, [], "")
        time.sleep(0.02)


ROCM = {
    "card0": {
        "GPU use (%)": "88",
        "VRAM Total Memory (B)": "68702699520",
        "VRAM Total Used Memory (B)": "60129542144",
        "Temperature (Sensor edge) (C)": "45.0",
        "Average Graphics Package Power (W)": "290.0",
        "Card series": "AMD INSTINCT MI250X",
    },
    "system": {"Driver version": "6.2", "PID4711": "python3, 1, 60001234944, 0, 0"},
}


@pytest.mark.process
@pytest.mark.parametrize(
    ("text", "gpus", "processes"),
    [
        (
            json.dumps(ROCM),
            {
                "0": {
                    "name": "AMD INSTINCT MI250X",
                    "util": 88.0,
                    "used": 57344.0,
                    "total": 65520.0,
                    "temp": 45.0,
                    "watts": 290,
                }
            },
            [("", 4711, 57221.0)],
        ),
        (
            TWO_CHIPS,
            {
                "0": {
                    "name": "Ascend Ascend910",
                    "util": 0.0,
                    "used": 3100.0,
                    "total": 65536.0,
                    "temp": 41.0,
                    "watts": 171,
                    "health": "OK",
                    "idle_memory": True,
                },
                "1": {
                    "name": "Ascend Ascend910",
                    "util": 3.0,
                    "used": 2877.0,
                    "total": 65536.0,
                    "temp": 40.0,
                    "watts": None,
                    "health": "OK",
                    "idle_memory": True,
                },
            },
            [("1", 3328327, 50119.0)],
        ),
    ],
)
def test_tools_without_a_loop(tmp_path: Path, text: str, gpus: Any, processes: Any) -> None:
    parse = gpu_usage._parse_rocm if text.startswith("{") else gpu_usage._parse_npu
    source = RepeatedTool([write_tool(tmp_path / "smi", f"print({text!r})")], dict(os.environ), 2.0, parse)
    assert wait_for_gpus(source, len(gpus)) == (gpus, processes, "")


def write_tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")


def test_amd_gpus_from_files_of_the_kernel(tmp_path: Path) -> None:
    """The names and units are those of the kernel's documentation of amdgpu; node 0 is a processor."""
    device = "drm/renderD128/device"
    write_tree(
        tmp_path,
        {
            "kfd/kfd/topology/nodes/0/gpu_id": "0",
            "kfd/kfd/topology/nodes/0/properties": "cpu_cores_count 64\nsimd_count 0\ndrm_render_minor 0",
            "kfd/kfd/topology/nodes/1/gpu_id": "51110",
            "kfd/kfd/topology/nodes/1/properties": "cpu_cores_count 0\nsimd_count 440\ndrm_render_minor 128",
            f"{device}/gpu_busy_percent": "88",
            f"{device}/mem_info_vram_total": "68702699520",
            f"{device}/mem_info_vram_used": "60129542144",
            f"{device}/hwmon/hwmon4/temp1_input": "45000",
            f"{device}/hwmon/hwmon4/temp2_input": "52000",
            f"{device}/hwmon/hwmon4/power1_average": "290000000",
            f"{device}/hwmon/hwmon4/power1_cap": "560000000",
            f"{device}/ras/umc_err_count": "ue: 1\nce: 7",
            "kfd/kfd/proc/4711/vram_51110": "60001234944",
            "kfd/kfd/proc/4712/vram_51110": "0",
        },
    )
    cards = amd_files.list_cards(str(tmp_path))
    usage = {
        "name": "AMD GPU",
        "util": 88,
        "used": 57344,
        "total": 65520,
        "temp": 52,
        "watts": 290,
        "limit": 560,
        "ecc": 1,
    }
    assert [amd_files.read_card(card) for card in cards] == [{**usage, "throttled": None}]
    assert amd_files.list_users(cards, str(tmp_path)) == [("0", 4711, 57221)]
    assert amd_files.list_cards(str(tmp_path / "absent")) == []


@pytest.mark.parametrize(
    ("revision", "status", "reasons"),
    [
        (3, 0, []),
        (3, 1 << 36 | 1, ["thermal"]),  # the hot spot, and the power limit
        (3, 1 << 0 | 1 << 16, []),  # limits of power and current
        (3, 2**64 - 1, None),  # not reported
        (4, 1 << 36, None),  # another format
    ],
)
def test_amd_gpu_that_is_slowed_down_by_heat(
    tmp_path: Path, revision: int, status: int, reasons: list[str] | None
) -> None:
    """The table is struct gpu_metrics_v1_3 of the kernel: 120 bytes, of which the last 8 are the reasons."""
    table = struct.pack("<HBB", 120, 1, revision) + bytes(108) + struct.pack("<Q", status)
    (tmp_path / "gpu_metrics").write_bytes(table)
    assert amd_files.read_card((str(tmp_path), "51110"))["throttled"] == reasons
    (tmp_path / "gpu_metrics").write_bytes(table[:100])
    assert amd_files.read_card((str(tmp_path), "51110"))["throttled"] is None


# -- owners


def test_process_belongs_to_the_run_whose_claims_its_ancestor_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    holder = {
        "uid": 0,
        "user": "root (uid 0)",
        "pid": os.getppid(),
        "run": "7f3a",
        "since": 1.0,
        "place": "",
        "claim": "gpu-3",
    }
    monkeypatch.setattr(shared_claims, "list_names", lambda: ["gpu-3"])
    monkeypatch.setattr(shared_claims, "list_claims", lambda: [holder])
    owners = usage_owners.OwnerTable()
    owners.refresh()
    (process,) = owners.describe_processes([("3", os.getpid(), 512.0)]).values()
    assert process["run"] == "7f3a"
    assert process["gpu"] == "3"
    assert process["user"] == usage_owners.get_user_name(os.getuid())
    assert "python" in process["command"]
    assert 0 <= time.time() - process["since"] < 86400
    (run,) = owners.list_runs().values()
    assert (run["run"], run["claims"]) == ("7f3a", ["gpu-3"])


def test_process_that_is_not_visible_has_no_user() -> None:
    (process,) = usage_owners.OwnerTable().describe_processes([("0", (1 << 22) + 7, 512.0)]).values()
    assert (process["user"], process["command"], process["since"], process["run"]) == ("", "", None, "")


# -- Xid errors


def test_last_xid_of_a_gpu_is_found_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [
        {"pci": "0000:3b:00", "xid": 63, "text": "pid=1", "ago": 900.0},
        {"pci": "0000:3b:00", "xid": 79, "text": "pid=2, GPU has fallen off the bus.", "ago": 60.0},
    ]
    monkeypatch.setattr(xid, "read_xids", lambda path: errors)
    gpus: dict[str, dict[str, Any]] = {"0": {"pci": "00000000:1B:00.0"}, "1": {"pci": "00000000:3B:00.0"}}
    xid_watch.XidWatch("").add_xids(gpus)
    assert "xid" not in gpus["0"]
    assert gpus["1"]["xid"] == 79
    assert abs(gpus["1"]["xid_at"] - (time.time() - 60)) < 15


@pytest.mark.parametrize("address", ["00000000:3B:00.0", "0000:3b:00", "0000:3b:00.0"])
def test_address_of_a_gpu_in_any_notation(address: str) -> None:
    assert xid_watch.shorten_pci(address) == "0:3b:00"


# -- changes


def test_changes_fold_to_the_sample() -> None:
    first = {"host": {"cpu": 3}, "gpus": {"0": {"util": 1, "xid": 79}}, "processes": {"0/1": {"pid": 1}}, "runs": {}}
    second = {"host": {"cpu": 3}, "gpus": {"0": {"util": 2}}, "processes": {}, "runs": {"1/a": {"run": "a"}}}
    sample: dict[str, Any] = {}
    sent: dict[str, Any] = {}
    for now in (first, second, second):
        changes = usage.find_changes(sent, now)
        sample, sent = apply_changes(sample, changes), now
    assert usage.find_changes(first, second) == {
        "whole": False,
        "gpus": {"0": {"util": 2, "xid": None}},
        "runs": {"1/a": {"run": "a"}},
        "gone": {"processes": ["0/1"]},
    }
    assert sample["gpus"] == {"0": {"util": 2, "xid": None}}
    assert usage.find_changes(second, second) == {"whole": False}


def test_this_machine_answers_and_conforms_to_the_schema() -> None:
    sampler = usage.UsageSampler({"every": 0.5, "workdir": "/", "venv": ""})
    first = sampler.read_usage()
    second = sampler.read_usage()
    whole, later = usage.find_changes({}, first), usage.find_changes(first, second)
    for answer in (whole, later):
        assert check_answer("usage", answer) == (answer, "")
    assert whole["whole"]
    assert not later["whole"]
    host = build_usage("here", apply_changes({}, whole), 0.0)
    assert host.memory is not None
    assert host.disk is not None
    assert host.disk[0] <= host.disk[1]
