"""Xid errors of the GPU driver in the kernel log since boot, if this user may read the log."""

from __future__ import annotations

import os
import re
import time

from .files import which
from .probe_tools import FactUnavailable, ToolProcess

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

_XID = re.compile(r"NVRM: Xid \(PCI:(?P<pci>[0-9a-fA-F:.]+)\): (?P<xid>\d+),? ?(?P<text>.*)")
_MOST = 12
KERNEL_LOG = "/dev/kmsg"


def read_xids(path: str) -> list[dict[str, Any]]:
    """Return the last errors, one per GPU and number, with their age in seconds. Raises FactUnavailable if the log is
    unreadable."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for ago, text in _read_kernel_log(path):
        match = _XID.search(text)
        if match:
            key = match["pci"], match["xid"]
            found.pop(key, None)
            found[key] = {"pci": key[0], "xid": int(key[1]), "text": match["text"][:160], "ago": ago}
    return list(found.values())[-_MOST:]


def _read_kernel_log(path: str) -> list[tuple[float | None, str]]:
    """Return (seconds ago, text) of all lines: from the kernel itself, else from the journal."""
    now = time.clock_gettime(time.CLOCK_MONOTONIC)
    try:
        descriptor = os.open(KERNEL_LOG, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return _read_journal(path)
    lines: list[tuple[float | None, str]] = []
    deadline = time.monotonic() + 2.0
    try:
        while time.monotonic() < deadline:
            try:
                record = os.read(descriptor, 8192)  # one message each: "6,339,5140900,-;text"
            except BrokenPipeError:
                continue  # overwritten while it was read
            except BlockingIOError:
                break
            if not record:
                break
            for line in record.decode("utf-8", "replace").splitlines():
                head, semicolon, text = line.partition(";")
                fields = head.split(",")
                if semicolon and len(fields) > 2 and fields[2].isdigit():
                    lines.append((round(now - int(fields[2]) / 1e6, 1), text))
    finally:
        os.close(descriptor)
    return lines


def _read_journal(path: str) -> list[tuple[float | None, str]]:
    """Return the kernel's lines of this boot, for members of the groups adm and systemd-journal. Raises FactUnavailable."""
    program = which("journalctl", path)
    if not program:
        raise FactUnavailable("the kernel's log is not readable for this user")
    words = [program, "-k", "-b", "--no-pager", "-q", "-o", "short-monotonic", "--grep", "NVRM: Xid"]
    _, text = ToolProcess(words, dict(os.environ, LC_ALL="C"), 4.0).get_output()
    if "insufficient permissions" in text or "not permitted" in text:
        raise FactUnavailable("the kernel's log is not readable for this user")
    now = time.clock_gettime(time.CLOCK_MONOTONIC)
    lines: list[tuple[float | None, str]] = []
    for line in text.splitlines():
        stamp = re.match(r"\[\s*([0-9.]+)\]", line)
        lines.append((round(now - float(stamp[1]), 1) if stamp else None, line))
    return lines
