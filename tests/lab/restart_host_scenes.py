"""Scenes of restarts in which hosts freeze, reboot, lose their links or files, or another run wants their claims."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from tests.lab import ns
from tests.lab.drive import Project, Running, kill_processes, list_processes
from tests.lab.lab import Lab
from tests.lab.restart_scenes import Scene

NAMES = ("h1", "h2", "h3")


def freeze_and_thaw(project: Project, lab: Lab, run: Running) -> None:
    """Freeze h2 with its network, and let it go on once the spare has taken its place."""
    run.wait_for_output(r"step 25/", timeout=60.0)
    lab["h2"].drop_packets()
    frozen = [process.pid for process in lab["h2"].list_processes()]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        run.wait_for_output(r"attempt 1 continues", timeout=150.0)
    finally:
        for pid in frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        lab["h2"].stop_dropping()
    ns.wait_until(lambda: not list_processes(lab["h2"], "task.py"), 60.0, "the keeper of h2 ends the old ranks")


def return_in_the_fence(project: Project, lab: Lab, run: Running) -> None:
    """Pull the cable until the fence runs. The ranks go on, and the keeper still has its lease."""
    run.wait_for_output(r"step 25/", timeout=60.0)
    lab["h2"].link_down()
    kill_processes(lab["h3"], "task.py")
    run.wait_for_output("the lost host ends its part by itself", timeout=120.0)
    lab["h2"].link_up()


def return_for_a_later_attempt(project: Project, lab: Lab, run: Running) -> None:
    """Switch h2 off, and on again while the others train without it. Then a rank fails."""
    run.wait_for_output(r"step 25/", timeout=60.0)
    lab["h2"].power_off()
    run.wait_for_output(r"attempt 1 continues", r"step 45/", timeout=150.0)
    lab["h2"].power_on()
    kill_processes(lab["h3"], "task.py")


def reboot_twice(project: Project, lab: Lab, run: Running) -> None:
    run.wait_for_output(r"step 25/", timeout=60.0)
    lab["h2"].reboot_machine()
    run.wait_for_output(r"attempt 1 continues", r"step 45/", timeout=120.0)
    lab["h2"].reboot_machine()


def pull_all_cables(project: Project, lab: Lab, run: Running) -> None:
    """Pull the cables of all hosts for 20 s; a rank fails meanwhile."""
    run.wait_for_output(r"step 20/", timeout=60.0)
    for name in NAMES:
        lab[name].link_down()
    time.sleep(20.0)  # the fault itself lasts this long
    for name in NAMES:
        lab[name].link_up()


def pull_cable_beyond_the_lease(project: Project, lab: Lab, run: Running) -> None:
    """Pull the cable of h2 until the spare trains in its place. h2 could still write to the shared directory."""
    run.wait_for_output(r"step 25/", timeout=60.0)
    lab["h2"].link_down()
    run.wait_for_output(r"attempt 1 continues", timeout=150.0)
    lab["h2"].link_up()


def try_to_take_the_claims(project: Project, lab: Lab, run: Running) -> None:
    """Launch other runs on the same hosts between two attempts: each of them must be refused."""
    project.write_file("other.py", "open('taken', 'w')\n")
    run.wait_for_output("waiting before the restart", timeout=60.0)
    began, refused = time.monotonic(), 0
    while time.monotonic() - began < 5.0:  # the wait lasts 10 s
        done = project.run_fanout("run", "--skip-check", "--log-dir", "other-runs", "hosts.txt", "other.py")
        assert done.code == 125, done.all
        refused += 1
    assert refused, "no other run was tried"
    assert not project.get_path("taken").exists()


HOST_SCENES = (
    Scene(
        name="lost-host-returns-for-a-later-attempt",
        act=return_for_a_later_attempt,
        env=("TOY_STEPS=200",),
        flags=("--lease", "10", "--nnodes", "2:3"),
        hosts="h1 slots=1\nh2 slots=1\nh3 slots=1\n",
        attempts=3,
        last=("h1", "h3", "h2"),
        prints=("without h2, on 2 hosts", "with h2 again"),
    ),
    Scene(
        name="lost-host-returns-in-the-fence",
        act=return_in_the_fence,
        env=("TOY_STEPS=200",),
        flags=("--lease", "150"),
        last=("h1", "h4", "h3"),
        prints=("h4 replaces h2", "h2 answers again, and nothing of the attempt is left: the fence is over"),
        timeout=60.0,
    ),
    Scene(
        name="frozen-host-thaws-after-its-replacement",
        act=freeze_and_thaw,
        env=("TOY_STEPS=300", "TOY_PAUSE=0.1"),
        flags=("--lease", "10"),
        last=("h1", "h4", "h3"),
        prints=("h4 replaces h2",),
    ),
    Scene(
        name="second-reboot-replaces-the-host",
        act=reboot_twice,
        env=("TOY_STEPS=300",),
        flags=("--lease", "10"),
        attempts=3,
        last=("h1", "h4", "h3"),
        prints=("on the same hosts", "h4 replaces h2"),
    ),
    Scene(
        name="all-cables-out-for-less-than-the-lease",
        faults=("0:1:30:reset",),
        act=pull_all_cables,
        env=("TOY_PAUSE=0.1",),
        prints=("on the same hosts", "attempt 1 continues at step 21"),
    ),
    Scene(
        name="cable-out-for-longer-than-the-lease",
        act=pull_cable_beyond_the_lease,
        env=("TOY_STEPS=300", "TOY_PAUSE=0.1"),
        flags=("--lease", "10"),
        last=("h1", "h4", "h3"),
        prints=("h4 replaces h2",),
    ),
    Scene(
        name="other-run-wants-the-claims-between-attempts",
        faults=("0:1:25:stale",),
        act=try_to_take_the_claims,
        env=("TOY_SAVE=10",),
        prints=("attempt 1 continues at step 21",),
        quick=True,
    ),
    Scene(
        name="half-written-checkpoint",
        faults=("0:1:50:kill",),
        env=("TOY_TORN=1",),
        code=1,
        attempts=3,
        prints=("not restarted: .*/checkpoint-40 is unreadable; the checkpoint before it is .*/checkpoint-20",),
        quick=True,
    ),
)
