"""OOM detection counts only processes of the run: by pid in the kernel log, or by the run's own control group."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.agent import oom_kills, processes
from tests.agent.agents import Agent
from tests.lab.misfortunes import memory_groups
from tests.skips import needs, skip

pytestmark = pytest.mark.process
ROOT = needs("root")
EATER = "data = []\nwhile True: data.append(bytearray(1 << 20))"
V2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill %d\noom_group_kill 0\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill %d\n"
RECORDS = {
    b"6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a,task=python3,pid=4711,uid=1000": [
        4711
    ],
    b"3,1,2,-;Memory cgroup out of memory: Killed process 4712 (python3) total-vm:9kB, anon-rss:8kB": [4712],
    b"3,1,2,-;Out of memory: Killed process 4713 (java) total-vm:9kB": [4713],
    b"6,1,2,-;oom_reaper: reaped process 4714 (java), now anon-rss:0kB": [],
    b"6,1,2,-;usb 1-1: new device, pid=3": [],
}


@pytest.mark.parametrize(
    ("record", "pids"), RECORDS.items(), ids=["group", "killed in a group", "killed", "reaped", "other"]
)
def test_the_kernel_log_names_its_victims(record: bytes, pids: list[int]) -> None:
    assert oom_kills.parse_victims(record) == pids


class World:
    """Provide a /proc and a control group hierarchy as files, and no kernel log."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        self.kind, self.mounted = kind, root
        self._places: dict[int, str] = {}
        self.machine = 0
        really = processes.read_text
        monkeypatch.setattr(processes, "read_text", lambda path, most=4096: self._read_file(path) or really(path, most))
        monkeypatch.setattr(oom_kills, "mounts", lambda: [(kind, "/", str(root))])
        monkeypatch.setattr(processes, "watch_descendants", lambda pid: [one for one in self._places if one != pid])
        monkeypatch.setattr(oom_kills.KernelLog, "read", lambda self: None)
        self.set_kills("", 0)
        (root / "release_agent").touch()

    def _read_file(self, path: str) -> str:
        if path == "/proc/vmstat":
            return f"nr_free_pages 1\noom_kill {self.machine}\n"
        for pid, place in self._places.items():
            if path == f"/proc/{pid}/cgroup":
                return f"0::{place}\n" if self.kind == "cgroup2" else f"9:cpu:/x\n4:memory,misc:{place}\n0::/\n"
        return ""

    def set_kills(self, group: str, kills: int) -> None:
        name, text = ("memory.events", V2) if self.kind == "cgroup2" else ("memory.oom_control", V1)
        (self.mounted / group).mkdir(exist_ok=True)
        (self.mounted / group / name).write_text(text % kills)

    def put_process(self, pid: int, group: str) -> None:
        self._places[pid] = "/" + group


@pytest.fixture(params=["cgroup", "cgroup2"])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch, request.param)


def _watch_groups(world: World, *groups: str) -> oom_kills.OomWatch:
    for number, group in enumerate(groups):
        world.put_process(100 + number, group)
    watch = oom_kills.OomWatch()
    watch.scan(100)
    return watch


def test_a_victim_in_the_runs_own_group_is_proof(world: World) -> None:
    world.set_kills("session", 2)
    watch = _watch_groups(world, "session", "session")
    assert not watch.was_oom_killed(by_kill=False)
    world.set_kills("session", 3)
    assert watch.was_oom_killed(by_kill=False)


def test_a_victim_in_another_group_or_in_the_group_of_the_whole_machine_is_no_proof(world: World) -> None:
    world.set_kills("another", 0)
    watch = _watch_groups(world, "", "")
    world.set_kills("another", 1)
    world.set_kills("", 1)
    assert not watch.was_oom_killed(by_kill=False)


def test_a_process_that_was_moved_into_a_new_group_counts(world: World) -> None:
    watch = _watch_groups(world, "")
    world.set_kills("job", 1)
    world.put_process(101, "job")
    watch.note_end(101)
    assert watch.was_oom_killed(by_kill=False)


def test_a_victim_of_the_machine_counts_only_for_a_script_that_died_of_sigkill_in_those_seconds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel log cannot be read, and the processes share the machine's group."""
    watch = _watch_groups(world, "")
    world.machine = 1
    assert not watch.was_oom_killed(by_kill=False)
    assert watch.was_oom_killed(by_kill=True)
    for _ in range(4):
        moment = time.monotonic() + oom_kills.RECENT_SECONDS
        monkeypatch.setattr(time, "monotonic", lambda moment=moment: moment)
        watch.scan(100)
    assert not watch.was_oom_killed(by_kill=True)


@contextlib.contextmanager
def _make_group() -> Iterator[Path]:
    """Create a control group with little memory, of this machine's kind."""
    found = memory_groups()
    if found is None:
        skip("namespaces", "no memory control group can be made here")
    assert found is not None
    group = found[0] / f"fanout-oom-{os.getpid()}"
    group.mkdir()
    try:
        (group / found[1]).write_text(str(16 << 20))
        yield group
    finally:
        group.rmdir()


def _starve_group(group: Path) -> None:
    """Make the kernel OOM-kill a process outside of the run."""
    enter = f"import os\nopen({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
    assert subprocess.run([sys.executable, "-c", enter + EATER], check=False).returncode == -9


@ROOT
def test_an_oom_kill_outside_the_run_is_not_blamed_on_the_run(state: Path, tmp_path: Path) -> None:
    """This holds if the run fails by itself, and if a user kills one of its processes."""
    with _make_group() as group:
        for number, end in enumerate(("exit 0", "exit 5", "kill -9 $$")):
            (tmp_path / "end").unlink(missing_ok=True)
            with Agent(state) as agent:
                agent.start_run(
                    f"echo ready; until [ -e end ]; do sleep 0.05; done; {end}", tmp_path, run=f"oom-{number}"
                )
                agent.wait_for_output(b"ready\n")
                _starve_group(group)
                (tmp_path / "end").touch()
                exited = agent.end_run()[0]
            assert (exited["code"], exited["signal"], exited["oom"]) == [
                (0, None, False),
                (5, None, False),
                (None, 9, False),
            ][number]


@ROOT
@pytest.mark.parametrize(
    "log",
    ["", "from fanout_agent import oom_kills\noom_kills.KernelLog.read = lambda self: None"],
    ids=["by the kernel log", "by its group"],
)
def test_an_oom_killed_process_of_the_run_is_reported(state: Path, tmp_path: Path, log: str) -> None:
    with _make_group() as group:
        (tmp_path / "eat.py").write_text(EATER)
        enter = f"echo $$ > {group / 'cgroup.procs'}; echo ready; until [ -e go ]; do sleep 0.05; done"
        with Agent(state, patch=log) as agent:
            agent.start_run(f"{enter}; {sys.executable} eat.py; exit $?", tmp_path)
            agent.wait_for_output(b"ready\n")
            threading.Event().wait(4.0)  # the keeper scans its tree every two seconds
            (tmp_path / "go").touch()
            exited = agent.end_run()[0]
    assert (exited["code"] in (137, None), exited["oom"]) == (True, True)
