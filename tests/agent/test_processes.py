"""The processes below another one: the watch that repeats finds what the search of all processes finds."""

from __future__ import annotations

import os
import subprocess

import pytest

from fanout.agent import processes
from tests.agent.agents import wait_for
from tests.processes import hold_process

pytestmark = pytest.mark.process

TREE = "sleep 60 & (sleep 60 & sleep 60) & (exec sleep 60) & echo up; wait"


@pytest.mark.parametrize("has_children_files", [True, False])
def test_the_watch_and_the_search_find_the_same_tree(has_children_files: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a kernel without CONFIG_PROC_CHILDREN."""
    if not has_children_files:
        monkeypatch.setattr(processes, "get_children_lookup", processes._group_children)
    with hold_process(subprocess.Popen(["bash", "-c", TREE], stdout=subprocess.PIPE)) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"up\n"
        below = processes.descendants
        wait_for(lambda: len(below(shell.pid)) == 5, "all processes of the tree to exist")
        assert sorted(processes.watch_descendants(shell.pid)) == sorted(below(shell.pid))
        assert shell.pid in processes.watch_descendants(os.getpid())
        for pid in below(shell.pid):
            os.kill(pid, 9)
        shell.wait(10)
        assert processes.watch_descendants(shell.pid) == []
