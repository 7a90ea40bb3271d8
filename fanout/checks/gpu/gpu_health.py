"""Checks of GPU health: memory errors, errors that the driver reported, and reduced clock speed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fanout.checks.engine.comparison import find_outlier_groups
from fanout.checks.engine.definition import Check, CheckContext, CheckResult, fail, skip, warn
from fanout.text.units import format_duration

# Errors of the program, or consequences of another error. All others are of the hardware (NVIDIA's catalogue of Xid errors).
_PROGRAM_XIDS = {13, 31, 32, 43, 45, 68, 69}
_XID_MEANINGS = {
    48: "a double-bit memory error", 62: "a halt of the power unit", 63: "a memory row was remapped",
    64: "remapping a memory row failed", 74: "an NVLink error", 79: "the GPU has fallen off the bus",
    92: "many memory errors", 94: "a contained memory error", 95: "an uncontained memory error",
    119: "its firmware does not answer", 120: "its firmware failed", 154: "it asks for a recovery",
}  # fmt: skip
_MOST_IDLE_MEMORY = 600  # MiB that the driver itself may hold on an idle GPU


def _parse_number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return 0.0


def _judge_unowned_memory(case: CheckContext) -> Iterator[CheckResult]:
    for name, gpu in case.get_section("gpu").items():
        owned = {process["gpu"] for process in gpu["processes"]}
        ghosts = [
            row
            for row in gpu["gpus"]
            if _parse_number(row.get("memory.used")) > _MOST_IDLE_MEMORY and row.get("uuid") not in owned
        ]
        if ghosts and "" not in owned:  # "": the GPU of a process is unknown, so its memory may be on any
            rows = ", ".join(f"GPU {row['index']} {row['memory.used']} MiB" for row in ghosts[:4])
            device = "/dev/kfd" if gpu["vendor"] == "amd" else "/dev/nvidia*"
            yield warn(
                name,
                f"memory is in use, but no process is visible: {rows}",
                f"a dead process or another container holds it:  {case.format_remote_command(name, f'sudo fuser -v {device}')}",
            )


def _judge_memory_errors(case: CheckContext) -> Iterator[CheckResult]:
    for name, gpu in case.get_section("gpu").items():
        bad = [row for row in gpu["gpus"] if _parse_number(row.get("ecc.errors.uncorrected.volatile.total")) > 0]
        if bad:
            rows = ", ".join(f"GPU {row['index']}: {row['ecc.errors.uncorrected.volatile.total']}" for row in bad)
            yield fail(
                name,
                f"uncorrectable memory errors since boot: {rows}",
                f"reset the GPU:  {case.format_remote_command(name, 'sudo nvidia-smi -r -i ' + bad[0]['index'])}   if errors come back, replace it",
            )


def _judge_spare_rows(case: CheckContext) -> Iterator[CheckResult]:
    for name, gpu in case.get_section("gpu").items():
        for index, what in gpu.get("pending", {}).items():
            if what.endswith("failure"):
                yield fail(
                    name,
                    f"GPU {index}: {what}: it has no spare memory left",
                    "replace the GPU; until then exclude it with gpus= in the hostfile",
                )
            else:
                yield warn(
                    name,
                    f"GPU {index}: {what}",
                    f"a reset completes it:  {case.format_remote_command(name, f'sudo nvidia-smi -r -i {index}')}",
                )


def _judge_recovery(case: CheckContext) -> Iterator[CheckResult]:
    for name, gpu in case.get_section("gpu").items():
        for index, action in gpu.get("recovery", {}).items():
            if action not in ("None", "N/A", "[N/A]", "Not Supported", "[Not Supported]"):
                cure = (
                    case.format_remote_command(name, "sudo reboot")
                    if "reboot" in action.lower()
                    else case.format_remote_command(name, f"sudo nvidia-smi -r -i {index}")
                )
                yield fail(
                    name, f"GPU {index}: the driver requests: {action}", f"stop all processes on it, then:  {cure}"
                )


def _judge_fabric(case: CheckContext) -> Iterator[CheckResult]:
    for name, gpu in case.get_section("gpu").items():
        lost = {
            index: state
            for index, state in gpu.get("fabric", {}).items()
            if state.startswith(("Not Started", "In Progress"))
        }
        if lost:
            yield warn(
                name,
                f"GPU {','.join(lost)}: the NVSwitch fabric is not ready ({next(iter(lost.values()))})",
                f"{case.format_remote_command(name, 'sudo systemctl restart nvidia-fabricmanager')}   (its version must be that of the driver)",
            )


def _judge_xid(case: CheckContext) -> Iterator[CheckResult]:
    for name, gpu in case.get_section("gpu").items():
        if gpu.get("xids_unread"):
            yield skip(name, gpu["xids_unread"])
        for row in gpu.get("xids", ()):
            if row["xid"] not in _PROGRAM_XIDS:
                since = f", {format_duration(row['ago'])} ago" if row["ago"] is not None else ""
                means = f" ({_XID_MEANINGS[row['xid']]})" if row["xid"] in _XID_MEANINGS else ""
                yield warn(
                    name,
                    f"Xid {row['xid']}{means} of the GPU at {row['pci']}{since}: {row['text']}",
                    f"see its state:  {case.format_remote_command(name, 'nvidia-smi -q -i ' + row['pci'])}   and test it alone before a long run",
                )


def _judge_speed(case: CheckContext) -> Iterator[CheckResult]:
    for name, gpu in case.get_section("gpu").items():
        if gpu.get("throttled"):
            yield warn(
                name,
                f"GPU {','.join(gpu['throttled'])} is throttled by heat or power",
                f"check cooling and power supply:  {case.format_remote_command(name, 'nvidia-smi -q -d PERFORMANCE')}",
            )
        narrow = [
            row
            for row in gpu["gpus"]
            if _parse_number(row.get("pcie.link.width.current")) < _parse_number(row.get("pcie.link.width.max"))
        ]
        if narrow:
            rows = ", ".join(
                f"GPU {row['index']} ×{row['pcie.link.width.current']} of ×{row['pcie.link.width.max']}"
                for row in narrow
            )
            yield warn(name, f"narrow PCIe link: {rows}", "reseat the card or its riser")
    yield from _judge_power_limits(case)


def _judge_power_limits(case: CheckContext) -> Iterator[CheckResult]:
    """Yield warnings for different power limits. Only GPUs of one model are compared; other models have other limits."""
    limits = {
        name: sorted({(row["name"], _parse_number(row.get("power.limit"))) for row in gpu["gpus"]})
        for name, gpu in case.get_section("gpu").items()
        if any(_parse_number(row.get("power.limit")) for row in gpu["gpus"])
    }
    for odd in find_outlier_groups(limits):
        if {model for model, _ in odd.value} == {model for model, _ in odd.usual}:
            yield warn(
                odd.hosts,
                f"power limit {odd.format_difference(_format_watts)}",
                case.format_remote_command(odd.hosts[0], f"sudo nvidia-smi -pl {odd.usual[-1][1]:.0f}"),
            )


def _format_watts(limits: list[tuple[str, float]]) -> str:
    return ", ".join(f"{watts:.0f} W" for _, watts in limits)


CHECKS = (
    Check(
        name="gpu-memory", group="gpu", worst="warn", needs=("gpu",),
        verifies="No GPU memory is in use without a visible process.",
        why="The run cannot use this memory. A dead process or another container holds it.",
        fix="Run sudo fuser -v /dev/nvidia* to find the process.",
        judge=_judge_unowned_memory,
    ),
    Check(
        name="gpu-ecc", group="gpu", worst="fail", needs=("gpu",),
        verifies="No GPU has had an uncorrectable memory error since boot.",
        why="The next error ends the run or makes its results wrong.",
        fix="Reset the GPU or reboot; replace it if errors come back.",
        judge=_judge_memory_errors,
    ),
    Check(
        name="gpu-rows", group="gpu", worst="fail", needs=("gpu",),
        verifies="No row of GPU memory needs to be remapped, no remapping failed, and no page needs to be retired.",
        why="Bad memory that is still in use ends the run with Xid 63 or 64.",
        fix="Reset the GPU. If it has no spare rows left, replace it.",
        judge=_judge_spare_rows,
    ),
    Check(
        name="gpu-recovery", group="gpu", worst="fail", needs=("gpu",),
        verifies="The driver requests no reset and no reboot (reported by drivers from 570 on).",
        why="A GPU that needs a reset passes other checks and fails at the first kernel.",
        fix="Reset the GPU or reboot the host, as the driver requests.",
        judge=_judge_recovery,
    ),
    Check(
        name="gpu-fabric", group="gpu", worst="warn", needs=("gpu",),
        verifies="If NVSwitch connects the GPUs, its fabric is ready.",
        why="Otherwise CUDA does not start: “Error 802: system not yet initialized”.",
        fix="Start nvidia-fabricmanager in the same version as the driver.",
        judge=_judge_fabric,
    ),
    Check(
        name="gpu-xid", group="gpu", worst="warn", needs=("gpu",), place="machine",
        verifies="The driver has reported no hardware error since boot (Xid lines in the kernel log).",
        why="A GPU that fell off the bus once often does so again within the first hour.",
        fix="Look the number up in NVIDIA's catalogue of Xid errors. Reset, reseat or replace the GPU.",
        judge=_judge_xid,
    ),
    Check(
        name="gpu-speed", group="gpu", worst="warn", needs=("gpu",),
        verifies="No GPU is throttled by heat or power, each has its full PCIe width, and GPUs of one model have equal power limits.",
        why="One slow GPU slows every rank.",
        fix="Check the cooling, the power supply and the seat of the card; set the power limit with nvidia-smi -pl.",
        judge=_judge_speed,
    ),
)  # fmt: skip
