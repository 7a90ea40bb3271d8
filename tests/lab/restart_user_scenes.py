"""Scenes of restarts in which the user or the time limit stops the run, or the launcher dies, in each phase of a restart."""

from __future__ import annotations

import signal

from tests.lab import ns
from tests.lab.drive import Project, Running, list_processes
from tests.lab.lab import Lab
from tests.lab.restart_scenes import Act, Scene

ENDING = "stopping all hosts"
SECOND_ATTEMPT = r"run [0-9a-f-]+\.1 "
SECOND_LAUNCH = r"(?s)launching.*launching"
DEAF = ("TOY_SAVER=deaf", "TOY_STEPS=200")  # the end of such an attempt lasts as long as the grace


def interrupt_at(text: str) -> Act:
    """Return the act that sends Ctrl-C once the launcher prints the text."""

    def send_interrupt(project: Project, lab: Lab, run: Running) -> None:
        run.wait_for_output(text, timeout=90.0)
        run.send_signal(signal.SIGINT)

    return send_interrupt


def kill_launcher_at(text: str) -> Act:
    """Return the act that kills the launcher once it prints the text; its guardian then ends the run."""

    def kill_launcher(project: Project, lab: Lab, run: Running) -> None:
        run.wait_for_output(text, timeout=90.0)
        run.send_signal(signal.SIGKILL)
        ns.wait_until(lambda: not list_processes(lab.launcher, "fanout.run.guardian"), 90.0, "the guardian ends")

    return kill_launcher


def stop_with_save(project: Project, lab: Lab, run: Running) -> None:
    """Type ``fanout stop --save`` in another terminal, and check its answer."""
    run.wait_for_output(r"step 25/", timeout=60.0)
    done = project.run_fanout("stop", "--save", "20s")
    assert done.code == 0, done.all
    assert "3 processes on h[1-3]" in done.err, done.all
    assert "all ended by themselves" in done.err, done.all


USER_SCENES = (
    Scene(
        name="planned-stop-saves",
        flags=("--time-limit", "8s", "--save-before", "6s"),
        env=("TOY_SAVER=saves", "TOY_STEPS=2000"),
        code=124,
        attempts=1,
        prints=("SIGUSR1 to 3 processes", "all ended by themselves", "124"),
        quick=True,
    ),
    Scene(
        name="planned-stop-without-a-handler",
        flags=("--time-limit", "16s", "--save-before", "2s"),
        env=("TOY_STEPS=2000",),
        code=124,
        attempts=1,
        prints=("no rank handles SIGUSR1", "stopping all hosts: time limit"),
    ),
    Scene(
        name="planned-stop-with-a-handler-that-hangs",
        flags=("--time-limit", "6s", "--save-before", "3s"),
        env=("TOY_SAVER=deaf", "TOY_STEPS=2000"),
        code=124,
        attempts=1,
        prints=("SIGUSR1 to 3 processes", "did not end", "stopping all hosts: time limit", "killed by SIGKILL"),
        quick=True,
    ),
    Scene(
        name="stop-with-save",
        act=stop_with_save,
        env=("TOY_SAVER=saves", "TOY_STEPS=2000"),
        code=143,
        attempts=1,
        prints=("with fanout stop --save",),
        quick=True,
    ),
    Scene(
        name="time-limit-counts-all-attempts",
        faults=("0:1:25:kill",),
        flags=("--time-limit", "8s"),
        env=("TOY_STEPS=2000",),
        code=124,
        attempts=2,
        prints=("attempt 1 continues", "stopping all hosts: time limit"),
    ),
    Scene(
        name="time-limit-leaves-no-time-for-another-attempt",
        faults=("0:1:25:stale",),
        flags=("--time-limit", "8s"),
        code=124,
        attempts=1,
        prints=("not restarted: the time limit of 8.0 s leaves no time for another attempt",),
    ),
    Scene(
        name="interrupted-while-the-attempt-ends",
        faults=("0:1:25:kill",),
        act=interrupt_at(ENDING),
        env=DEAF,
        code=130,
        attempts=1,
    ),
    Scene(
        name="interrupted-in-the-check",
        faults=("0:1:25:kill",),
        act=interrupt_at(SECOND_ATTEMPT),
        checks=True,
        code=130,
        attempts=2,
    ),
    Scene(
        name="interrupted-at-the-start",
        faults=("0:1:25:kill",),
        act=interrupt_at(SECOND_LAUNCH),
        env=("TOY_STEPS=200",),
        code=130,
        attempts=2,
    ),
    Scene(
        name="launcher-killed-while-the-attempt-ends",
        faults=("0:1:25:kill",),
        act=kill_launcher_at(ENDING),
        env=DEAF,
        code=-9,
        attempts=1,
    ),
    Scene(
        name="launcher-killed-in-the-check",
        faults=("0:1:25:kill",),
        act=kill_launcher_at(SECOND_ATTEMPT),
        checks=True,
        code=-9,
        attempts=1,
    ),
    Scene(
        name="launcher-killed-at-the-start",
        faults=("0:1:25:kill",),
        act=kill_launcher_at(SECOND_LAUNCH),
        env=("TOY_STEPS=200",),
        code=-9,
        attempts=1,
    ),
)
