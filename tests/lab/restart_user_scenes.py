"""Scenes of restarts in which the user or the time limit stops the run, or the launcher dies, in each phase of a restart."""

from __future__ import annotations

import signal

from tests.lab import ns
from tests.lab.drive import Project, Running, kill_processes, list_processes
from tests.lab.lab import Lab
from tests.lab.restart_scenes import WAIT, Act, Scene, begin_fence, signal_after, stop_after, stop_held_launcher

ENDING = "stopping all hosts"
FIRST_HEADING = "connected 3/3"  # then it checks the hosts
SECOND_LAUNCH = r"(?s)launching.*launching"
DEAF = ("TOY_SAVER=deaf", "TOY_STEPS=200")  # the end of such an attempt lasts as long as the grace


def stop_with_save(project: Project, lab: Lab, run: Running) -> None:
    """Type ``fanout stop --save`` in another terminal, and check its answer."""
    run.wait_for_output(r"step 25/", timeout=60.0)
    done = project.run_fanout("stop", "--save", "20s")
    assert done.code == 0, done.all
    assert "3 processes on h[1-3]" in done.err, done.all
    assert "all ended by themselves" in done.err, done.all


def stop_elsewhere_after(pattern: str) -> Act:
    """Return the act that types ``fanout stop`` on a machine without the record once the launcher prints the pattern."""

    def stop_run(project: Project, lab: Lab, run: Running) -> None:
        run.wait_for_output(pattern, timeout=60.0)
        stopped = project.run_fanout("stop", "", "hosts.txt", env={"XDG_STATE_HOME": "/tmp/elsewhere"})
        assert stopped.code == 0, stopped.all
        assert "nothing is left" in stopped.err

    return stop_run


def kill_launcher_in_fence(project: Project, lab: Lab, run: Running) -> None:
    """Kill the launcher while it waits for a lost host; that host comes back for the guardian."""
    begin_fence(project, lab, run)
    run.send_signal(signal.SIGKILL)
    lab["h2"].power_on()
    ns.wait_until(lambda: not list_processes(lab.launcher, "fanout.run.guardian"), 100.0, "the guardian ends")


def attach_and_stop(project: Project, lab: Lab, run: Running) -> Running:
    """Attach to the detached run. When it waits before a restart, stop it. Return the attached command."""
    started = run.wait_for_end()
    assert started.code == 0, started.all
    attached = project.start_command("attach")
    attached.wait_for_output(r"step 25/", timeout=60.0)
    project.write_file("go", "")
    attached.wait_for_output("waiting before the restart", timeout=60.0)
    stop_held_launcher(project, lab)
    return attached


def kill_by_colleague(project: Project, lab: Lab, run: Running) -> None:
    run.wait_for_output(r"step 25/", timeout=60.0)
    kill_processes(lab["h2"], "task.py", number=signal.SIGTERM)


USER_SCENES = (
    Scene(
        name="killed-by-a-colleague",
        act=kill_by_colleague,
        env=("TOY_STEPS=200",),
        code=143,
        attempts=1,
        prints=("not restarted",),
    ),
    Scene(
        name="stopped-in-the-first-check",
        act=stop_after(FIRST_HEADING),
        checks=True,
        code=143,
        attempts=1,
        prints=("lab@launcher stops the run with fanout stop", "left behind +nothing"),
        quick=True,
    ),
    Scene(
        name="stopped-from-elsewhere",
        act=stop_elsewhere_after("step 10/"),
        env=("TOY_STEPS=2000",),
        code=143,
        attempts=1,
        prints=("lab@launcher stops the run with fanout stop", "stopped .*by lab@launcher with fanout stop"),
        quick=True,
    ),
    Scene(
        name="stopped-from-elsewhere-between-attempts",
        faults=("0:1:25:stale",),
        act=stop_elsewhere_after(WAIT),
        code=143,
        attempts=1,
        prints=("by lab@launcher with fanout stop before attempt 1",),
        quick=True,
    ),
    Scene(
        name="launcher-killed-in-the-fence",
        act=kill_launcher_in_fence,
        env=("TOY_STEPS=200",),
        code=-9,
        attempts=1,
    ),
    Scene(
        name="attached-and-stopped-in-the-backoff",
        faults=("0:1:25:stale",),
        act=attach_and_stop,
        env=("TOY_GATE=1",),
        flags=("-d",),
        code=143,
        attempts=1,
        prints=("attempt 0 failed", "waiting before the restart", r"143 \(stopped by lab@launcher with fanout stop\)"),
        quick=True,
    ),
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
        act=signal_after(ENDING, signal.SIGINT),
        env=DEAF,
        code=130,
        attempts=1,
    ),
    Scene(
        name="interrupted-at-the-start",
        faults=("0:1:25:kill",),
        act=signal_after(SECOND_LAUNCH, signal.SIGINT),
        env=("TOY_STEPS=200",),
        code=130,
        attempts=2,
    ),
    Scene(
        name="launcher-killed-while-the-attempt-ends",
        faults=("0:1:25:kill",),
        act=signal_after(ENDING, signal.SIGKILL),
        env=DEAF,
        code=-9,
        attempts=1,
    ),
    Scene(
        name="launcher-killed-at-the-start",
        faults=("0:1:25:kill",),
        act=signal_after(SECOND_LAUNCH, signal.SIGKILL),
        env=("TOY_STEPS=200",),
        code=-9,
        attempts=1,
    ),
)
