"""Hello: the first message of an agent, with the machine's identity, its boot id, and the stale runs on it."""

from __future__ import annotations

import os
import sys
import time

from . import prepare, processes


def build_hello() -> dict:
    """Return the hello frame: what identifies the machine and its boot, the engine of the container, and the stale runs."""
    names = os.uname()
    return {
        "t": "hello",
        "python": "%d.%d.%d" % sys.version_info[:3],
        "hostname": names.nodename,
        "host_id": os.environ.get("FANOUT_HOST_ID") or _read_kernel_boot() + _read_netns(),
        "boot_id": processes.read_boot_id(),
        "engine": processes.find_engine(),
        "pid": os.getpid(),
        "uid": os.getuid(),
        "time": time.time(),
        "stale": prepare.list_stale_runs(),
    }


def _read_kernel_boot() -> str:
    return processes.read_text("/proc/sys/kernel/random/boot_id").strip()


def _read_netns() -> str:
    try:
        return " " + os.readlink("/proc/self/ns/net")
    except OSError:
        return ""
