"""The first message of an agent: which machine this is, since which boot, and what earlier runs left there."""

from __future__ import annotations

import os
import sys
import time

from . import prepare, procs


def hello() -> dict:
    """Return who answers: for the same-machine check, for reboots, and for the view."""
    names = os.uname()
    return {
        "t": "hello",
        "v": 1,
        "python": "%d.%d.%d" % sys.version_info[:3],
        "hostname": names.nodename,
        "host_id": os.environ.get("FANOUT_HOST_ID") or _boot_id() + _netns(),
        "boot_id": _boot_id(),
        "pid": os.getpid(),
        "uid": os.getuid(),
        "time": time.time(),
        "stale": prepare.stale(),
    }


def _boot_id() -> str:
    return procs.read_text("/proc/sys/kernel/random/boot_id").strip()


def _netns() -> str:
    try:
        return " " + os.readlink("/proc/self/ns/net")
    except OSError:
        return ""
