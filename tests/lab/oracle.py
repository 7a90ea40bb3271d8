"""The question that every lab test ends with: is anything left on the machines?"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Sequence

from tests.lab import ns
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.ns import Process

#: In the argv of what ends with its login, and so in a moment: the agent, and torch as the deep check has it started.
OURS = ("import os,sys,zlib;", "FANOUT_DEEP_CHANNEL")
PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run")


def leftover_processes(lab: Lab) -> list[tuple[Node, Process]]:
    """Whatever runs on the launcher or on a host, apart from its first process and the listening sshd."""
    return [(node, process) for node in lab.nodes for process in node.list_processes()]


def leftover_directories(lab: Lab, allow: Sequence[str] = ()) -> list[tuple[Node, str]]:
    """``fanout-*`` in the places for temporary things, but for names that match a pattern of ``allow``."""
    return [
        (node, f"{place}/{entry.name}")
        for node in lab.nodes
        if node.is_on
        for place in PLACES
        for entry in node.get_path(place).glob("fanout-*")
        if not any(fnmatch.fnmatch(entry.name, pattern) for pattern in allow)
    ]


def wait_quiet(lab: Lab, timeout: float) -> bool:
    """Wait until nothing but sshd runs on any machine; False where something still does."""
    deadline = time.monotonic() + timeout
    while left := leftover_processes(lab):
        if not ns.wait_gone([process.pid for _, process in left], max(0.0, deadline - time.monotonic())):
            return not leftover_processes(lab)
    return True


def _ends_with_a_login(process: Process) -> bool:
    return process.is_sshd or any(word in argument for argument in process.argv for word in OURS)


def assert_clean(lab: Lab, *, grace: float = 20.0, allow: Sequence[str] = ()) -> None:
    """Fail unless every machine that is on runs nothing but sshd, and holds no ``fanout-*`` directory.

    Logins that have just been closed, what ends with them, and what a test itself had running beside the launcher get
    ``grace`` seconds to end; nothing of a run on a host gets any.
    """
    left = [
        (node, process)
        for node, process in leftover_processes(lab)
        if node is not lab.launcher and not _ends_with_a_login(process)
    ]
    if not wait_quiet(lab, 0.0 if left else grace):
        left = left or leftover_processes(lab)
    leftovers = [f"{node.name}: process left: {process}" for node, process in left]
    leftovers += [f"{node.name}: directory left: {path}" for node, path in leftover_directories(lab, allow)]
    assert not leftovers, "the machines are not clean:\n  " + "\n  ".join(leftovers)
