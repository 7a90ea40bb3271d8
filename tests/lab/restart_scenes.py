"""Scenes of restarts: a fault, the flags, and what the run must do. ``restarts.py`` plays them in a lab of four hosts."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.lab import ns
from tests.lab.drive import Project, Running, kill_processes, list_processes
from tests.lab.lab import Lab

TRAIN = 'export TOY_HOST=$(hostname)\nexec python3 -u "$@"\n'
HOSTS = "h1 slots=1\nh2 slots=1\nh3 slots=1\nh4 slots=1 spare\n"
FLAGS = ("--max-restarts", "3", "--grace", "3", "--last-words", "1")
Act = Callable[[Project, Lab, Running], Running | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One scene. ``attempts`` is the number of attempts, ``prints`` are patterns that the output must match in order.

    ``prepare`` changes hosts before the run. ``act`` does what the task cannot do itself, for example switch a host off. It may return another command to observe. ``last`` are the hosts of the last attempt.
    """

    name: str
    faults: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    hosts: str = HOSTS
    env: tuple[str, ...] = ()
    train: str = TRAIN
    prepare: Callable[[Lab], None] | None = None
    act: Act | None = None
    checks: bool = False  # with the checks before each attempt
    code: int = 0
    attempts: int = 2
    last: tuple[str, ...] = ("h1", "h2", "h3")
    prints: tuple[str, ...] = ()
    quick: bool = False  # also in `make test`
    timeout: float = 200.0


def _power_off(*names: str) -> Act:
    def power_off_hosts(project: Project, lab: Lab, run: Running) -> None:
        run.wait_for_output(r"step 25/", timeout=60.0)
        for name in names:
            lab[name].power_off()

    return power_off_hosts


def _reboot_host(project: Project, lab: Lab, run: Running) -> None:
    run.wait_for_output(r"step 25/", timeout=60.0)
    lab["h2"].reboot_machine()


def _pull_cable(seconds: float) -> Act:
    def pull_cable(project: Project, lab: Lab, run: Running) -> None:
        run.wait_for_output(r"step 25/", timeout=60.0)
        lab["h2"].link_down()
        time.sleep(seconds)  # the fault itself lasts this long
        lab["h2"].link_up()

    return pull_cable


def begin_fence(project: Project, lab: Lab, run: Running) -> None:
    """Lose a host, and wait until the launcher waits for its fence."""
    run.wait_for_output(r"step 25/", timeout=60.0)
    lab["h2"].power_off()
    kill_processes(lab["h3"], "task.py")
    run.wait_for_output("the lost host ends its part by itself", timeout=120.0)


def _interrupt_in_fence(project: Project, lab: Lab, run: Running) -> None:
    begin_fence(project, lab, run)
    run.send_signal(signal.SIGINT)


WAIT = "waiting before the restart"
NEXT_HEADING = r"run \S+\.1 · "  # the next attempt connects and checks its hosts


def signal_after(pattern: str, number: int) -> Act:
    """Return the act that sends a signal to the launcher once it prints the pattern; if it dies, its guardian ends the run."""

    def signal_launcher(project: Project, lab: Lab, run: Running) -> None:
        run.wait_for_output(pattern, timeout=60.0)
        run.send_signal(number)
        if number == signal.SIGKILL:
            ns.wait_until(lambda: not list_processes(lab.launcher, "fanout.run.guardian"), 60.0, "the guardian ends")

    return signal_launcher


def stop_after(pattern: str) -> Act:
    """Return the act that types ``fanout stop`` in another terminal once the launcher prints the pattern."""

    def stop_run(project: Project, lab: Lab, run: Running) -> None:
        run.wait_for_output(pattern, timeout=60.0)
        stop_held_launcher(project, lab)

    return stop_run


def stop_held_launcher(project: Project, lab: Lab) -> None:
    """Type ``fanout stop``, and check its answer. The launcher does not go on before it receives the signal."""
    kill_processes(lab.launcher, "-m fanout run ", number=signal.SIGSTOP)
    try:
        stop = project.start_command("stop")
        stop.wait_for_output("signalled its launcher")
    finally:
        kill_processes(lab.launcher, "-m fanout run ", number=signal.SIGCONT)
    stopped = stop.wait_for_end()
    assert stopped.code == 0, stopped.all
    assert "nothing is left" in stopped.err


def take_port(project: Project, lab: Lab, run: Running) -> None:
    run.wait_for_output("waiting before the restart", timeout=60.0)
    text = "import socket,time;s=socket.socket();s.setsockopt(1,2,1);s.bind(('',29500));s.listen();time.sleep(40)"
    lab["h1"].start_program(["python3", "-c", text], user="lab")


def _edit_script(project: Project, lab: Lab, run: Running) -> None:
    run.wait_for_output("waiting before the restart", timeout=60.0)
    project.write_train_script(f"# changed\n{TRAIN}")


SCENES = (
    Scene(
        name="killed-rank",
        faults=("0:1:50:kill",),
        prints=("restart 1 of 3: on the same hosts", r"attempt 1 continues at step 41 \(10 steps repeated\)"),
        quick=True,
    ),
    Scene(
        name="error-before-the-first-step",
        faults=("*:1:0:error",),
        code=1,
        attempts=1,
        prints=("not restarted: it failed before its first step",),
        quick=True,
    ),
    Scene(
        name="same-error-at-the-same-step",
        faults=("*:1:30:error",),
        code=1,
        prints=("not restarted: the same error occurred twice in the same place after step 30",),
        quick=True,
    ),
    Scene(
        name="errors-at-new-steps-with-checkpoints",
        faults=("*:1:999:loose",),
        env=("TOY_SAVE=10", "TOY_STEPS=50"),
        flags=("--max-restarts", "1"),
        attempts=5,
    ),
    Scene(
        name="dies-before-each-checkpoint",
        faults=("*:1:12:reset",),
        flags=("--max-restarts", "1", "--allow-from-scratch"),
        code=1,
        attempts=2,
        prints=(r"not restarted: 1 restart in a row without progress",),
    ),
    Scene(
        name="does-not-resume",
        faults=("*:1:110:reset",),
        env=("TOY_RESUME=0", "TOY_STEPS=120", "TOY_PAUSE=0.01"),
        code=1,
        prints=("the task does not resume", "--allow-from-scratch"),
    ),
    Scene(
        name="module-missing-on-one-host",
        faults=("*:h3:0:import",),
        last=("h1", "h2", "h4"),
        prints=("h4 replaces h3 as node rank 2",),
        quick=True,
    ),
    Scene(name="module-missing-everywhere", faults=("*:*:0:import",), code=1, attempts=1, prints=("not restarted",)),
    Scene(
        name="host-off",
        act=_power_off("h2"),
        env=("TOY_STEPS=200",),
        flags=("--lease", "10"),
        last=("h1", "h4", "h3"),
        prints=("h4 replaces h2 as node rank 1",),
    ),
    Scene(
        name="first-host-off",
        act=_power_off("h1"),
        env=("TOY_STEPS=200",),
        flags=("--lease", "10"),
        last=("h4", "h2", "h3"),
        prints=("h4 replaces h1 as node rank 0",),
    ),
    Scene(
        name="host-off-without-a-spare",
        act=_power_off("h2"),
        env=("TOY_STEPS=200",),
        flags=("--lease", "10"),
        hosts="h1 slots=1\nh2 slots=1\nh3 slots=1\n",
        code=255,
        attempts=1,
        prints=("not restarted: no spare host is left for h2",),
    ),
    Scene(
        name="host-off-and-fewer-hosts",
        act=_power_off("h2"),
        env=("TOY_STEPS=200",),
        flags=("--lease", "10", "--nnodes", "2:3"),
        hosts="h1 slots=1\nh2 slots=1\nh3 slots=1\n",
        last=("h1", "h3"),
        prints=("without h2, on 2 hosts",),
    ),
    Scene(
        name="reboot", act=_reboot_host, env=("TOY_STEPS=200",), flags=("--lease", "10"), prints=("on the same hosts",)
    ),
    Scene(
        name="cable-out-for-less-than-the-lease",
        act=_pull_cable(18.0),
        env=("TOY_STEPS=300", "TOY_PAUSE=0.1"),
        attempts=1,
    ),
    Scene(
        name="two-hosts-off-and-one-spare",
        act=_power_off("h2", "h3"),
        env=("TOY_STEPS=200",),
        flags=("--lease", "10"),
        code=255,
        attempts=1,
        prints=("not restarted: no spare host is left for",),
    ),
    Scene(
        name="spare-is-off-when-it-is-needed",
        act=_power_off("h4", "h2"),
        env=("TOY_STEPS=200",),
        flags=("--lease", "10", "--connect-timeout", "5"),
        code=255,
        attempts=2,
        prints=("h4 replaces h2", "no spare host is left"),
    ),
    Scene(
        name="asks-for-a-restart-three-times",
        faults=("0:1:10:75", "1:1:30:75", "2:1:45:75"),
        env=("TOY_SAVE=5",),
        flags=("--max-restarts", "1"),
        attempts=4,
        prints=(r"restart \(not counted\)",),
        quick=True,
    ),
    Scene(
        name="asks-for-a-restart-too-often",
        faults=tuple(f"{number}:1:{5 + number}:75" for number in range(9)),
        env=("TOY_SAVE=1",),
        code=75,
        attempts=5,
        prints=("not restarted: 5 starts are too many",),
    ),
    Scene(
        name="interrupted-between-attempts",
        faults=("0:1:25:stale",),
        act=signal_after(WAIT, signal.SIGINT),
        code=130,
        attempts=1,
        quick=True,
    ),
    Scene(
        name="interrupted-in-the-fence",
        act=_interrupt_in_fence,
        env=("TOY_STEPS=200",),
        code=130,
        attempts=1,
    ),
    Scene(
        name="launcher-killed-between-attempts",
        faults=("0:1:25:stale",),
        act=signal_after(WAIT, signal.SIGKILL),
        code=-9,
        attempts=1,
    ),
    Scene(
        name="stopped-between-attempts",
        faults=("0:1:25:stale",),
        act=stop_after(WAIT),
        code=143,
        attempts=1,
        prints=(r"by lab@launcher with fanout stop before attempt 1",),
        quick=True,
    ),
    Scene(
        name="interrupted-in-the-check",
        faults=("0:1:25:stale",),
        act=signal_after(NEXT_HEADING, signal.SIGINT),
        checks=True,
        code=130,
        attempts=2,
        prints=("left behind +nothing", r"by you before attempt 1"),
        quick=True,
    ),
    Scene(
        name="launcher-killed-in-the-check",
        faults=("0:1:25:stale",),
        act=signal_after(NEXT_HEADING, signal.SIGKILL),
        checks=True,
        code=-9,
        attempts=1,
        quick=True,
    ),
    Scene(
        name="port-taken-between-attempts",
        faults=("0:1:25:stale",),
        act=take_port,
        checks=True,
        attempts=3,
        prints=("MASTER_PORT=29501",),
    ),
    Scene(
        name="unusable-spare-is-reported-at-the-start",
        faults=("0:1:25:kill",),
        hosts="h1 slots=1\nh2 slots=1\nh3 slots=1\nh4 slots=1 port=9 spare\n",
        checks=True,
        prints=("warning: spare h4: ", "restart 1 of 3: on the same hosts", "check ok"),
        quick=True,
    ),
    Scene(name="script-edited-between-attempts", faults=("0:1:25:stale",), act=_edit_script),
    Scene(
        name="no-restart-by-default",
        faults=("0:1:25:kill",),
        flags=("--max-restarts", "0"),
        code=137,
        attempts=1,
        prints=("--max-restarts 3 would have restarted it on the same hosts",),
        quick=True,
    ),
)
