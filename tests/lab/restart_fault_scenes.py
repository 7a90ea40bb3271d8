"""Scenes of restarts with faults of GPUs, memory, disks and the network, and with a process that cannot be killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.lab import ns
from tests.lab.drive import HERE, Project, Running, kill_processes, list_processes
from tests.lab.lab import Lab
from tests.lab.misfortunes import FREEZER, memory_groups
from tests.lab.ns import Process
from tests.lab.restart_scenes import TRAIN, Act, Scene
from tests.lab.verdicts.kinds import cut_host

WITH_RANKS = TRAIN.replace("export ", "export RANK=$NODE_RANK LOCAL_RANK=0 WORLD_SIZE=$NNODES ")
MEMORY_LIMIT = 64 << 20


def _log_xid(text: str) -> Callable[[Lab], None]:
    """Return what gives h2 a kernel log with an Xid. ``PID`` in it is the pid of the failed rank."""
    script = f"""#!/bin/sh
read up rest < /proc/uptime
sed "s/.*/[$up] NVRM: Xid (PCI:0000:1b:00): {text}/; s/PID/$(cat {HERE}/pid.h2)/" /proc/sys/kernel/random/boot_id
"""

    def log_xid(lab: Lab) -> None:
        lab["h2"].write_file("/home/lab/.bashrc", "export PATH=$HOME/bin:$PATH\n", user="lab")
        lab["h2"].write_file("/home/lab/bin/dmesg", script, user="lab", mode=0o755)

    return log_xid


def _cut_off(project: Project, lab: Lab, run: Running) -> None:
    """Cut h2 from the other hosts. Then every rank reports that it timed out."""
    run.wait_for_output(r"step 25/", timeout=60.0)
    cut_host(lab, lab["h2"])
    project.write_file("go", "")


def _fill_disk(lab: Lab) -> None:
    """Fill /tmp of h1, where rank 0 writes its checkpoints."""
    lab["h1"].run_program(["dd", "if=/dev/zero", "of=/tmp/ballast", "bs=1M"])


def _free_disk(project: Project, lab: Lab, run: Running) -> None:
    """Free the disk after the failure, before the next attempt goes on."""
    run.wait_for_output("attempt 0 failed", timeout=90.0)
    lab["h1"].run_program(["rm", "/tmp/ballast"], check=True)


def _find_rank(lab: Lab, name: str) -> Process:
    ns.wait_until(lambda: len(list_processes(lab[name], "task.py")) == 1, 60.0, f"the rank of {name}")
    return list_processes(lab[name], "task.py")[0]


@contextlib.contextmanager
def _build_group(parent: Path, limit: str = "") -> Iterator[Path]:
    """Yield a new control group; remove it once it has no process."""
    group = parent / f"fanout-restarts-{os.getpid()}"
    group.mkdir(exist_ok=True)
    try:
        if limit:
            (group / limit).write_text(str(MEMORY_LIMIT))
        yield group
    finally:
        ns.wait_until(lambda: not (group / "cgroup.procs").read_text(), 60.0, f"no process is left in {group}")
        group.rmdir()


def _limit_memory(attempts: int) -> Act:
    def limit_memory(project: Project, lab: Lab, run: Running) -> None:
        """Give the rank of h2 a control group with little memory, in each of the first attempts. Then it grows."""
        groups = memory_groups()
        assert groups is not None, "no memory control group can be made here"
        for attempt in range(attempts):
            waiting = project.get_path(f"grows.{attempt}.h2")
            run.wait_for(waiting.exists, f"the rank of attempt {attempt} waits", timeout=90.0)
            with _build_group(*groups) as group:
                (group / "cgroup.procs").write_text(str(_find_rank(lab, "h2").pid))
                project.write_file(f"go.{attempt}", "")

    return limit_memory


def _hold_in_kernel(project: Project, lab: Lab, run: Running) -> None:
    """Hold the rank of h2 where no signal reaches it, until the spare trains in its place; then kill another rank."""
    run.wait_for_output(r"step 25/", timeout=60.0)
    with _build_group(FREEZER) as group:
        (group / "cgroup.procs").write_text(str(_find_rank(lab, "h2").pid))
        (group / "freezer.state").write_text("FROZEN")
        try:
            ns.wait_until(lambda: (group / "freezer.state").read_text() == "FROZEN\n", 20.0, f"{group} is frozen")
            kill_processes(lab["h3"], "task.py")
            run.wait_for_output(r"attempt 1 continues", timeout=120.0)
        finally:
            (group / "freezer.state").write_text("THAWED")


def _use_the_spare(project: Project, lab: Lab, run: Running) -> None:
    """Another run takes the first spare before the run needs it."""
    project.write_file("other.py", "import time\nprint('other run', flush=True)\ntime.sleep(300)\n")
    project.write_file("spare.txt", "h3 slots=1\n")
    other = project.start_command("run", "--skip-check", "--log-dir", "other-runs", "spare.txt", "other.py")
    other.wait_for_output("other run")
    run.wait_for_output(r"step 25/", timeout=60.0)
    lab["h2"].power_off()
    run.wait_for_output(r"attempt 2 continues", timeout=150.0)
    other.send_signal(2)
    assert other.wait_for_end().code == 130


FAULT_SCENES = (
    Scene(
        name="gpu-fell-off-the-bus",
        faults=("0:h2:25:cuda",),
        prepare=_log_xid("79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."),
        last=("h1", "h4", "h3"),
        prints=("Xid 79", "h4 replaces h2 as node rank 1"),
        quick=True,
    ),
    Scene(
        name="illegal-access-on-a-gpu",
        faults=("0:h2:25:cuda",),
        prepare=_log_xid("13, pid=PID, name=python3, Graphics Exception: ESR 0x504648=0x2"),
        prints=("a GPU kernel access invalid memory", "restart 1 of 3: on the same hosts"),
    ),
    Scene(
        name="second-hang-of-one-host-replaces-it",
        train=WITH_RANKS,
        faults=("0:2:12:hang", "1:2:12:hang"),
        flags=("--on-hang", "restart", "--hang-timeout", "5"),
        attempts=3,
        last=("h1", "h2", "h4"),
        prints=("restart 1 of 3: on the same hosts", "h4 replaces h3 as node rank 2"),
    ),
    Scene(
        name="one-host-cut-off-from-the-others",
        faults=("0:*:26:timeout",),
        env=("TOY_GATE=1",),
        act=_cut_off,
        last=("h1", "h4", "h3"),
        prints=("h2 cannot exchange data with the other hosts", "h4 replaces h2 as node rank 1"),
    ),
    Scene(
        name="process-that-cannot-be-killed",
        act=_hold_in_kernel,
        env=("TOY_STEPS=300", "TOY_PAUSE=0.1"),
        last=("h1", "h4", "h3"),
        prints=("h4 replaces h2 as node rank 1",),
    ),
    Scene(
        name="disk-stays-full",
        prepare=_fill_disk,
        env=("TOY_SPACE=/tmp",),
        code=1,
        prints=("not restarted: it failed 2 times in this way without progress",),
    ),
    Scene(
        name="disk-is-freed-after-the-failure",
        prepare=_fill_disk,
        act=_free_disk,
        env=("TOY_SPACE=/tmp", "TOY_PAUSE=0.2"),
        prints=("restart 1 of 3: on the same hosts",),
    ),
    Scene(
        name="memory-kill-before-the-first-step",
        faults=("*:h2:0:memory",),
        act=_limit_memory(1),
        code=137,
        attempts=1,
        prints=("OOM-killed", "not restarted: it failed before its first step"),
    ),
    Scene(
        name="memory-kills-with-progress-between",
        faults=("0:h2:25:memory", "1:h2:45:memory"),
        act=_limit_memory(2),
        attempts=3,
        prints=("OOM-killed", "attempt 1 continues at step 21", "attempt 2 continues at step 41"),
    ),
    Scene(
        name="spare-is-in-use-when-it-is-needed",
        act=_use_the_spare,
        hosts="h1 slots=1\nh2 slots=1\nh3 slots=1 spare\nh4 slots=1 spare\n",
        env=("TOY_STEPS=200",),
        flags=("--lease", "10"),
        attempts=3,
        last=("h1", "h4"),
        prints=("h3 replaces h2 as node rank 1", "h4 replaces h3 as node rank 1"),
    ),
)
