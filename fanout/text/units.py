"""Units: format durations, sizes and counts in the same way in every view. Pure.

Files, logs and bandwidths have decimal units, with a ``B``: ``1.2 GB``. Memory and disks have powers of 1024, with one
letter as in ``df -h`` and ``free -h``: ``1.1G``. A GPU that is sold with 80 GB has 80G.
"""

from __future__ import annotations

GIB = 1 << 30


def format_duration(value: float) -> str:
    """Format a duration given in seconds: ``0.3 s``, ``41 s``, ``12 min 3 s``, ``1 h 14 min``, ``3 d 2 h``."""
    value = max(0.0, value)
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    for size, name, below, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name} {rest} {small}" if rest else f"{whole // size} {name}"
    raise AssertionError(value)


def format_age(value: float) -> str:
    """Format an age in whole units, so that it changes at most once a second: ``now``, ``21 s``, ``3 min``."""
    whole = int(max(0.0, value))
    if whole < 2:
        return "now"
    return f"{whole} s" if whole < 120 else f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"


def format_clock(value: float) -> str:
    """Format a duration as a clock, ``00:12:44``; with days, ``1d 00:12:44``."""
    whole = int(max(0.0, value))
    days, rest = divmod(whole, 86400)
    text = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}d {text}" if days else text


def format_size(count: int) -> str:
    """Format a number of bytes with decimal units: ``812 B``, ``1.2 MB``."""
    if count < 1000:
        return f"{count} B"
    value, unit = count / 1e3, "kB"
    for larger in ("MB", "GB", "TB"):
        if value >= 999.5:
            value, unit = value / 1e3, larger
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"


def format_binary_size(count: float) -> str:
    """Format a number of bytes in powers of 1024: ``1.2T``, ``980G``, ``64K``, ``4``."""
    for unit in ("", "K", "M", "G", "T"):
        if abs(count) < 1000 or unit == "T":
            return f"{count:.0f}{unit}" if count >= 10 or not unit else f"{count:.1f}{unit}"
        count /= 1024
    raise AssertionError("not reached")


def count_noun(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 host``, ``3 hosts``, ``2 processes``, ``1,200 lines``."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def name_all(number: int, noun: str) -> str:
    """Return all of so many: ``the host``, ``both hosts``, ``all 4 hosts``."""
    return {1: f"the {noun}", 2: f"both {noun}s"}.get(number, f"all {count_noun(number, noun)}")


def format_bandwidth(bandwidth: float) -> str:
    """Format bytes per second with decimal units and three digits, as nccl-tests does: ``1.43 GB/s``, ``12 MB/s``."""
    for unit, name in ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")):
        if bandwidth >= unit:
            return f"{bandwidth / unit:.3g} {name}" if bandwidth < 999.5 * unit else f"{bandwidth / unit:.0f} {name}"
    return f"{bandwidth:.0f} B/s"


def format_count(value: float) -> str:
    """Format a number in short form: ``812``, ``38.2k``, ``1.3M``."""
    for limit, unit in ((999.5, ""), (999_500, "k"), (999_500_000, "M"), (float("inf"), "G")):
        if abs(value) < limit:
            scaled = value / {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit]
            return f"{scaled:.0f}{unit}" if unit == "" or abs(scaled) >= 99.95 else f"{scaled:.1f}{unit}"
    return f"{value}"
