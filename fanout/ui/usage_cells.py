"""Cells of a view of hosts' usage: the GPUs of a host as blocks, sizes, and warnings. Pure, without rich."""

from __future__ import annotations

from collections.abc import Sequence

from fanout.logs.run_progress import ASCII_BLOCKS, BLOCKS
from fanout.model.frozen import frozen
from fanout.sharing.host_usage import GpuUsage, HostUsage, Reach
from fanout.text.table import count_columns, cut_text
from fanout.text.units import format_age, format_binary_size
from fanout.ui.host_rows import Row, get_host_colour

MIB = 1 << 20
MOST_GPUS = 16  # blocks of one host
REASON_WORDS = {
    "hw_slowdown": "hardware",
    "hw_thermal_slowdown": "heat",
    "hw_power_brake_slowdown": "power brake",
    "sw_thermal_slowdown": "heat",
    "thermal": "heat",
}
REACH_WORDS = {Reach.CONNECTING: "connecting", Reach.UNREACHABLE: "unreachable", Reach.REFUSED: "not reachable"}


@frozen
class CellStyle:
    """How cells are drawn, and the time on the hosts' clocks, for ages."""

    unicode: bool = True
    now: float = 0.0

    def draw_gpu(self, gpu: GpuUsage) -> tuple[str, str]:
        """Return the block of one GPU: its utilisation in the colour of its user; a dot if it is free."""
        if gpu.is_lost:
            return ("✗" if self.unicode else "x"), "bold red"
        if gpu.is_free:
            return ("·" if self.unicode else "."), "green"
        style = get_host_colour(gpu.users[0]) if gpu.users else "yellow"
        if gpu.util is None:
            return "?", style
        blocks = BLOCKS if self.unicode else ASCII_BLOCKS
        return blocks[min(7, int(max(0.0, gpu.util) / 12.5))], style

    def draw_gpus(self, host: HostUsage) -> Row:
        """Return the blocks of all GPUs of a host."""
        row = [self.draw_gpu(gpu) for gpu in host.gpus[:MOST_GPUS]]
        return [*row, (f"+{len(host.gpus) - MOST_GPUS}", "dim")] if len(host.gpus) > MOST_GPUS else row

    def cut(self, text: str, width: int) -> str:
        return cut_text(text, width, ellipsis="…" if self.unicode else "~")

    def pad(self, text: str, width: int) -> str:
        """Return the text in a column of this width."""
        cut = self.cut(text, width)
        return cut + " " * (width - count_columns(cut))


def format_mib(value: float | None) -> str:
    return "-" if value is None else format_binary_size(value * MIB)


def format_pair(pair: tuple[float, float] | None) -> str:
    """Return used and total with one unit each: ``120G/640G``."""
    return "-" if pair is None else f"{format_mib(pair[0])}/{format_mib(pair[1])}"


def format_power(watts: float | None) -> str:
    if watts is None:
        return "-"
    return f"{watts:.0f} W" if watts < 1000 else f"{watts / 1000:.1f} kW"


def format_percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}%"


def format_degrees(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} C"


def format_since(since: float | None, now: float) -> str:
    """Return how long ago something began."""
    return "-" if since is None else format_age(now - since)


def describe_reach(host: HostUsage) -> str:
    """Return why a host has no values; "" if it has."""
    if host.is_up and not host.trouble:
        return ""
    word = REACH_WORDS.get(host.reach, "")
    return ": ".join(part for part in (word, host.trouble) if part)


def list_warnings(host: HostUsage, now: float) -> list[str]:
    """Return what is wrong with the GPUs of a host: ``GPU 3: Xid 79 (…), 12 min ago``."""
    found = [f"GPUs do not answer: {host.gpu_problem}"] if host.gpu_problem else []
    for gpu in host.gpus:
        parts = _list_gpu_warnings(gpu, now)
        if parts:
            found.append(f"GPU {gpu.index}: {'; '.join(parts)}")
    return found


def _list_gpu_warnings(gpu: GpuUsage, now: float) -> list[str]:
    parts = ["does not answer"] if gpu.is_lost else []
    if gpu.throttled:
        reasons = dict.fromkeys(REASON_WORDS.get(reason, reason) for reason in gpu.throttled)
        parts.append(f"slowed down ({', '.join(reasons)})")
    if gpu.ecc:
        parts.append(f"{gpu.ecc} uncorrected ECC {'error' if gpu.ecc == 1 else 'errors'}")
    if gpu.xid is not None:
        text = f" ({gpu.xid_text})" if gpu.xid_text else ""
        ago = f", {format_age(now - gpu.xid_at)} ago" if gpu.xid_at is not None else ""
        parts.append(f"Xid {gpu.xid}{text}{ago}")
    if gpu.health not in ("", "OK"):
        parts.append(f"health {gpu.health}")
    return parts


def has_warning(host: HostUsage) -> bool:
    return bool(host.gpu_problem) or any(_list_gpu_warnings(gpu, 0.0) for gpu in host.gpus)


def find_common_prefix(names: Sequence[str]) -> str:
    """Return the common prefix of all names, without digits at its end: ``gpu`` of gpu01 and gpu02."""
    if len(names) < 2:
        return ""
    first, last = min(names), max(names)
    length = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    while length and first[length - 1].isdigit():
        length -= 1
    return first[:length]
