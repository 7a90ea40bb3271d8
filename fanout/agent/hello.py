"""Hello: the first message of an agent, with the machine's identity, its boot id, and the stale runs on it."""

from __future__ import annotations

import os
import sys
import time

from . import prepare, procs


def hello() -> dict:
    """Return the hello frame, for the same-machine check, for detecting reboots, and for the view."""
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
