"""Runs, checks and commands in containers that fanout creates from an image, with podman on two hosts."""

from __future__ import annotations

import contextlib
import json
import re
import signal
from collections.abc import Iterator

import pytest

from tests.lab import ns
from tests.lab.containers import ENVIRONMENT, IMAGE, Engine, list_arguments
from tests.lab.drive import HERE, Project
from tests.lab.lab import Lab

HOSTFILE = f"h1 slots=1 user=root image={IMAGE} engine=podman\nh2 slots=1 user=root image={IMAGE} engine=podman\n"
STEPS = 'i=0; while [ ! -e stop ]; do i=$((i+1)); echo "line $i"; sleep 0.05; done\n'


@pytest.fixture
def project(machines: Lab, engines: list[Engine]) -> Iterator[Project]:
    with contextlib.closing(Project(machines)) as project:
        project.write_hostfile(HOSTFILE)
        # podman itself needs seconds on a busy machine
        lines = ['connect-timeout = "60s"', f"container-arg = {json.dumps(list_arguments())}"]
        project.write_file("fanout.toml", "\n".join(lines) + "\n")
        yield project


def await_no_container(engines: list[Engine]) -> None:
    """Wait until no container of a run is left: its first process ends it."""
    for engine in engines:
        ns.wait_until(lambda: not engine.list_created(), 120.0, f"{engine.host.name}: {engine.list_created()}")  # noqa: B023


def test_a_run_has_its_own_containers_and_its_exit_code_and_they_are_gone_with_it(
    project: Project, engines: list[Engine]
) -> None:
    project.write_train_script(
        "setsid sleep 1000 & echo rank $NODE_RANK below $(cat /proc/1/comm) in $PWD, $SECRET;"
        " [ $NODE_RANK = 0 ] || { while [ ! -e stop ]; do sleep 0.05; done; exit 7; }; sleep 1000\n"
    )
    run = project.start_command("run", "--skip-check", "--grace", "4", "-E", "SECRET=hidden", "hosts.txt", "task.py")
    run.wait_for_output(f"h1 .*rank 0 below python3 in {HERE}, hidden", "h2 .*rank 1")
    for engine in engines:
        (name,) = engine.list_created()
        shown = engine.run_podman("inspect", name).stdout
        assert '"fanout.user": "0"' in shown
        assert "hidden" not in shown
    project.write_file("stop", "")
    done = run.wait_for_end()
    assert done.code == 7, done.all
    assert "left behind  nothing: verified on both hosts" in done.err, done.all
    assert "could not verify" not in done.err, done.all


def test_a_missing_image_and_a_refused_mount_start_nothing_on_any_host(
    project: Project, engines: list[Engine], machines: Lab
) -> None:
    project.write_train_script("touch ran\n")
    project.write_hostfile(HOSTFILE.replace(f"h2 slots=1 user=root image={IMAGE}", "h2 slots=1 user=root image=none:1"))
    done = project.run_fanout("run", "--skip-check", "hosts.txt", "task.py")
    assert done.code == 255, done.all
    assert "h2: unreachable: image none:1: podman does not have it on this host" in done.err, done.all
    assert "ssh root@h2 podman pull none:1" in done.err, done.all
    project.write_hostfile(HOSTFILE)
    machines["h1"].run_program(["mkdir", "-p", "/run/data"], check=True)
    done = project.run_fanout("run", "--skip-check", "--mount", "/run/data", "hosts.txt", "task.py")
    assert done.code == 255, done.all
    assert f"h2: unreachable: image {IMAGE}: nothing to mount at /run/data on this host" in done.err, done.all
    refused = "--container-arg=--device=/dev/nothing"
    done = project.run_fanout("run", "--skip-check", *own_arguments(), refused, "hosts.txt", "task.py")
    assert done.code == 255, done.all
    assert "h1: unreachable: image localhost/train:1: podman could not create a container: " in done.err, done.all
    assert "/dev/nothing" in done.err, done.all
    assert not project.get_path("ran").exists()


def own_arguments() -> list[str]:
    """Return the arguments of fanout.toml for a command line, which replaces them."""
    return [f"--container-arg={argument}" for argument in list_arguments()]


def test_ctrl_c_stops_the_run_and_removes_its_containers(project: Project, engines: list[Engine]) -> None:
    project.write_train_script(STEPS)
    run = project.begin_training()
    run.wait_for_output("h1 .*line 3", "h2 .*line 3")
    run.send_signal(signal.SIGINT)
    done = run.wait_for_end()
    assert done.code == 130, done.all
    assert "left behind  nothing: verified on both hosts" in done.err, done.all


def test_the_launcher_is_killed_and_the_guardian_removes_the_containers(
    project: Project, engines: list[Engine]
) -> None:
    project.write_train_script(STEPS)
    run = project.begin_training()
    run.wait_for_output("h1 .*line 3", "h2 .*line 3")
    run.send_signal(signal.SIGKILL)
    run.wait_for_end()
    await_no_container(engines)
    report = project.list_records()[-1] / "report.txt"  # the guardian writes it last
    ns.wait_until(lambda: report.exists() and "stopped" in report.read_text(), 60.0, "the guardian wrote no report")


def test_a_link_that_is_cut_for_longer_than_the_lease_ends_the_run_and_its_container(
    project: Project, engines: list[Engine], machines: Lab
) -> None:
    project.write_train_script(STEPS)
    run = project.start_command("run", "--skip-check", "--lease", "5", "--grace", "2", "hosts.txt", "task.py")
    run.wait_for_output("h1 .*line 3", "h2 .*line 3")
    machines["h2"].link_down()
    await_no_container(engines)
    machines["h2"].link_up()
    done = run.wait_for_end()
    assert done.code == 255, done.all
    sessions = [one for one in machines["h2"].list_processes() if one.is_sshd]
    ns.signal_all(sessions, signal.SIGKILL)  # that of a connection that was lost without a word waits for hours


def test_check_exec_and_the_dry_run_use_the_image(project: Project, engines: list[Engine], machines: Lab) -> None:
    done = project.run_fanout("exec", "hosts.txt", "--", "echo below $(cat /proc/1/comm); exit 4")
    assert (done.code, done.out.strip()) == (4, "h[1-2] (2)  exit 4: below python3"), done.all
    assert not [name for engine in engines for name in engine.list_created()]
    project.write_train_script('echo "block $NODE_RANK in $PWD as $(id -u)" "$@"\n')
    block = project.run_fanout("run", "-n", "hosts.txt", "task.py", "it's").out.split("\n\n")[1]
    shell = machines["h2"].run_program(["sh", "-s"], env=ENVIRONMENT, stdin=block, check=True)
    assert shell.stdout == f"block 1 in {HERE} as 0 task.py it's\n"
    done = project.run_fanout("check", "--only", "python,workdir", "hosts.txt")
    assert done.code == 0, done.all


def test_the_check_names_the_host_with_another_image(project: Project, engines: list[Engine]) -> None:
    engines[1].import_image("localhost/train:2")
    engines[1].run_podman("tag", IMAGE, "localhost/train:first")
    engines[1].run_podman("tag", "localhost/train:2", IMAGE)
    done = project.run_fanout("check", "--only", "image", "hosts.txt")
    engines[1].run_podman("tag", "localhost/train:first", IMAGE)
    assert done.code == 0, done.all
    assert "another image" in done.out, done.all
    assert re.search(rf"ssh \S+@h\d podman save {IMAGE} \| ssh \S+@h\d podman load", done.out), done.all


def test_a_restart_runs_in_the_same_containers(project: Project, engines: list[Engine]) -> None:
    project.write_train_script(
        'echo "start $(cat /proc/1/stat | cut -d" " -f22)"\n'
        'if [ "$NODE_RANK" = 1 ] && mkdir first 2>/dev/null; then echo "ConnectionResetError: peer" >&2; exit 1; fi\n'
        "while [ ! -e first ]; do sleep 0.05; done; [ -e second ] || { mkdir second; sleep 1000; }\n"
    )
    done = project.run_fanout("run", "--skip-check", "--max-restarts", "1", "--grace", "2", "hosts.txt", "task.py")
    assert done.code == 0, done.all
    assert "could not verify" not in done.err, done.all


def test_ps_lists_the_containers_and_clean_removes_those_that_do_not_run(
    project: Project, engines: list[Engine]
) -> None:
    labels = ("--label", "fanout.run=old", "--label", "fanout.user=0", "--pull", "never")
    engines[0].run_podman("create", "--name", "fanout-old", *labels, IMAGE, "true")
    project.write_train_script(STEPS)
    run = project.begin_training()
    run.wait_for_output("h1 .*line 3", "h2 .*line 3")
    shown = project.run_fanout("ps", "hosts.txt")
    assert "h1: left behind: container of run old: created in podman, named fanout-old" in shown.out, shown.all
    assert "h2: container of run 2" in shown.out, shown.all
    assert "left behind" not in shown.out.replace("left behind: container of run old", ""), shown.all
    cleaned = project.run_fanout("clean", "--yes", "hosts.txt")
    assert cleaned.code == 0, cleaned.all
    assert "it ends with its run" in cleaned.out, cleaned.all
    assert "h1: checked again: nothing is left of ended runs" in cleaned.err, cleaned.all
    assert [len(engine.list_created()) for engine in engines] == [1, 1]
    run_id = engines[1].list_created()[0].removeprefix("fanout-")
    elsewhere = project.run_fanout("stop", run_id, "hosts.txt", env={"XDG_STATE_HOME": "/tmp/no-record"})
    assert elsewhere.code == 0, elsewhere.all
    assert "nothing is left" in elsewhere.err, elsewhere.all
    assert run.wait_for_end().code == 143
    await_no_container(engines)
