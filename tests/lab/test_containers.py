"""Runs, checks and commands in containers of podman on two hosts: as on bare hosts, and fanout leaves the containers alone."""

from __future__ import annotations

import contextlib
import json
import re
import signal
from collections.abc import Iterator

import pytest

from tests.lab import ns
from tests.lab.containers import ENVIRONMENT, NAME, Engine
from tests.lab.drive import Project, list_processes
from tests.lab.lab import Lab

HOSTFILE = "h1 slots=1 user=root container=work engine=podman\nh2 slots=1 user=root container=work engine=podman\n"
STEPS = 'echo "rank $NODE_RANK"; i=0; while [ ! -e stop ]; do i=$((i+1)); echo "line $i"; sleep 0.05; done\n'


@pytest.fixture
def project(machines: Lab, engines: list[Engine]) -> Iterator[Project]:
    for engine in engines:
        engine.start_container()
    with contextlib.closing(Project(machines)) as project:
        project.write_hostfile(HOSTFILE)
        project.write_file("fanout.toml", 'connect-timeout = "60s"\n')  # podman itself needs seconds on a busy machine
        yield project


def assert_empty(engines: list[Engine]) -> None:
    """Fail unless each container still runs with its first process alone, and without a directory of a run."""
    for engine in engines:
        ns.wait_until(engine.is_idle, 20.0, f"{engine.host.name}: {engine.list_inside()}")
        assert not engine.run_podman("exec", NAME, "find", "/var/tmp", "-xdev", "-mindepth", "2").stdout


def test_a_failure_in_one_container_stops_the_other_and_nothing_is_left(
    project: Project, engines: list[Engine]
) -> None:
    project.write_train_script(
        "setsid sleep 1000 & echo rank $NODE_RANK below $(cat /proc/1/comm), $SECRET; [ $NODE_RANK = 0 ] || exit 7; sleep 1000\n"
    )
    run = project.start_command("run", "--skip-check", "--grace", "4", "-E", "SECRET=hidden", "hosts.txt", "task.py")
    run.wait_for_output("h1 .*rank 0 below sleep, hidden")
    done = run.wait_for_end()
    assert done.code == 7, done.all
    assert "left behind  nothing: verified on both hosts" in done.err, done.all
    assert_empty(engines)
    for engine in engines:
        assert "hidden" not in engine.run_podman("inspect", NAME).stdout


def test_the_launcher_is_killed_and_the_guardian_empties_the_containers(
    project: Project, engines: list[Engine], machines: Lab
) -> None:
    project.write_train_script(STEPS)
    run = project.begin_training()
    run.wait_for_output("h1 .*line 3", "h2 .*line 3")
    run.send_signal(signal.SIGKILL)
    run.wait_for_end()
    assert_empty(engines)
    assert "stopped" in project.read_report()


def test_the_log_continues_at_the_byte_where_the_entry_was_killed(
    project: Project, engines: list[Engine], machines: Lab
) -> None:
    project.write_train_script(STEPS)
    run = project.begin_training()
    run.wait_for_output("h2 .*line 3")
    for process in list_processes(machines["h2"], "podman", "exec"):
        ns.signal_all([process], signal.SIGKILL)
    run.wait_for_output("h2.*reconnected")
    project.write_file("stop", "")
    done = run.wait_for_end()
    assert done.code == 0, done.all
    numbers = [int(number) for number in re.findall(rb"^line (\d+)$", project.read_log("h2"), re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert_empty(engines)


@pytest.mark.parametrize(
    ("fault", "cause", "proof"),
    [
        (["stop", "-t", "0"], "h2 lost its container during the run", "nothing: the container on h2 has ended"),
        (["restart", "-t", "0"], "h2 had its container restarted", "nothing: verified on both hosts"),
        (["rm", "-f", "-t", "0"], "h2 lost its container during the run", "could not verify h2"),
    ],
)
def test_a_container_that_ends_during_a_run_fails_the_run_and_is_named(
    project: Project, engines: list[Engine], fault: list[str], cause: str, proof: str
) -> None:
    project.write_train_script(STEPS)
    run = project.begin_training()
    run.wait_for_output("h1 .*line 3", "h2 .*line 3")
    engines[1].run_podman(*fault, NAME)
    done = run.wait_for_end()
    assert done.code == 255, done.all
    assert cause in done.err, done.all
    assert proof in done.err, done.all
    assert_empty(engines[:1])


def test_a_missing_and_a_stopped_container_are_named_before_anything_starts(
    project: Project, engines: list[Engine]
) -> None:
    project.write_train_script("touch ran\n")
    engines[0].run_podman("stop", "-t", "0", NAME)
    project.write_hostfile("h1 slots=1 user=root\nh2 slots=1 user=root container=wrok\n")
    done = project.run_fanout("run", "--container", NAME, "hosts.txt", "task.py")
    assert done.code == 255, done.all
    assert "h1: unreachable: container work: it is not running" in done.err
    assert "ssh root@h1 podman start work" in done.err
    assert "h2: unreachable: container wrok: podman has no such container" in done.err
    assert "ssh root@h2 podman ps -a" in done.err
    assert not project.get_path("ran").exists()


def test_check_asks_the_machine_beside_the_container_and_a_machine_that_cannot_answer_is_not_verified(
    project: Project, engines: list[Engine], machines: Lab
) -> None:
    machines["h1"].write_file("/run/old/python3", "#!/bin/sh\necho 'python3: no such luck' >&2\nexit 1\n")
    script = "chmod +x /run/old/python3; echo 'PATH=/run/old:$PATH' > ~root/.bashrc"
    machines["h1"].run_program(["sh", "-c", script], check=True)
    machines["h2"].write_file("/run/reboot-required", "")
    engines[1].start_apart("apart")
    try:
        project.write_hostfile("h1 slots=1 user=root container=work\nh2 slots=1 user=root container=apart\n")
        checks = "reboot,engine,container-network,container-workdir"
        done = project.run_fanout("check", "--json", "--only", checks, "hosts.txt", "task.py")
    finally:
        engines[1].run_podman("rm", "-f", "-t", "0", "apart")
    assert done.code == 0, done.all
    found = {(each["check"], host): each for each in json.loads(done.out)["findings"] for host in each["hosts"]}
    assert found["reboot", "h2"]["saw"] == "an upgrade needs a reboot (on the machine)"
    assert found["engine", "h2"]["saw"] == "podman"
    assert "a network of its own" in found["container-network", "h2"]["saw"]
    assert "is only in the container" in found["container-workdir", "h2"]["saw"]
    for check in checks.split(","):
        skipped = found[check, "h1"]
        assert skipped["level"] == "skip", done.all
        assert skipped["saw"].startswith("not verified on the machine: the login to the machine failed: "), done.all


def test_after_a_failure_the_machine_beside_the_container_reports_its_kernel_log(
    project: Project, engines: list[Engine], machines: Lab
) -> None:
    xid = "NVRM: Xid (PCI:0000:1b:00): 79, pid=4711, name=python3, GPU has fallen off the bus."
    script = f'#!/bin/sh\nread up rest < /proc/uptime\necho "[$up] {xid}"\n'
    machines["h2"].write_file("/run/old/dmesg", script)
    add = "chmod +x /run/old/dmesg; echo 'PATH=/run/old:$PATH' > ~root/.bashrc"
    machines["h2"].run_program(["sh", "-c", add], check=True)
    error = "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"
    project.write_train_script(f"[ $NODE_RANK = 0 ] || {{ echo '{error}' >&2; exit 1; }}; sleep 1000\n")
    done = project.run_training("--grace", "1", "--last-words", "0")
    assert done.code == 1, done.all
    assert "Xid 79" in done.err, done.all
    again = project.run_fanout("report", project.list_records()[-1].name)
    assert "Xid 79" in again.all, again.all


def test_exec_and_the_dry_run_enter_the_container(project: Project, engines: list[Engine], machines: Lab) -> None:
    done = project.run_fanout("exec", "hosts.txt", "--", "echo below $(cat /proc/1/comm); exit 4")
    assert (done.code, done.out.strip()) == (4, "h[1-2] (2)  exit 4: below sleep"), done.all
    project.write_train_script('echo "block $NODE_RANK below $(cat /proc/1/comm)" "$@"\n')
    block = project.run_fanout("run", "-n", "hosts.txt", "task.py", "it's").out.split("\n\n")[1]
    engine = machines["h2"].run_program(["sh", "-s"], env=ENVIRONMENT, stdin=block, check=True)
    assert engine.stdout == "block 1 below sleep task.py it's\n"
    run = project.start_command("exec", "--live", "hosts.txt", "--", "echo ready; sleep 1000")
    run.wait_for_output("h1 .*ready", "h2 .*ready")
    run.send_signal(signal.SIGINT)
    done = run.wait_for_end()
    assert "the command has ended on h[1-2]" in done.err, done.all
    assert_empty(engines)
