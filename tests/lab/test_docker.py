"""Runs in containers of docker on two hosts, as a campaign: DOCKER_PROGRAMS=/directory make docker-faults.

h1 runs in a container of an image, h2 in a container of the user.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.lab import ns
from tests.lab.containers import IMAGE, NAME
from tests.lab.docker_hosts import ARGUMENTS, DockerEngine, list_docker_binds, specify_docker_host
from tests.lab.drive import Project, Running, list_processes
from tests.lab.lab import Lab
from tests.lab.test_container_faults import STEPS, TASK, TRAIN

pytestmark = pytest.mark.campaign
HOSTFILE = f"h1 slots=1 user=root image={IMAGE}\nh2 slots=1 user=root container={NAME}\n"


@pytest.fixture(scope="module")
def docker_lab() -> Iterator[tuple[Lab, list[DockerEngine]]]:
    specs = [specify_docker_host("h1"), specify_docker_host("h2")]
    with Lab(specs, shared="/home/lab/shared", binds=list_docker_binds()) as lab:
        engines = [DockerEngine(host) for host in lab.hosts]
        try:
            yield lab, engines
        finally:
            for engine in engines:
                engine.stop_daemon()


@pytest.fixture
def docker_engines(docker_lab: tuple[Lab, list[DockerEngine]]) -> Iterator[list[DockerEngine]]:
    """Yield the engines. Afterwards no container of fanout and no process of a login is left on either host."""
    lab, engines = docker_lab
    engines[1].start_container()
    yield engines
    left = [engine.list_created() for engine in engines]
    for engine in engines:
        engine.remove_containers()
    assert not any(left), left
    gone = lambda: not any(list_processes(host, "fanout") for host in lab.hosts)  # noqa: E731
    ns.wait_until(gone, 20.0, "processes of fanout are gone")


@pytest.fixture
def project(docker_lab: tuple[Lab, list[DockerEngine]], docker_engines: list[DockerEngine]) -> Iterator[Project]:
    lab = docker_lab[0]
    with contextlib.closing(Project(lab)) as project:
        project.write_hostfile(HOSTFILE)
        lines = ['connect-timeout = "60s"', f"container-arg = {json.dumps(ARGUMENTS)}"]
        project.write_file("fanout.toml", "\n".join(lines) + "\n")
        project.write_train_script(STEPS)
        yield project
        project.get_path("stop").unlink(missing_ok=True)


def begin_steps(project: Project, *flags: str) -> Running:
    run = project.begin_training("--grace", "2", *flags)
    run.wait_for_output("h1 .*line 3", "h2 .*line 3")
    return run


def test_check_exec_and_real_torchrun_work_in_both_kinds_of_containers(
    project: Project, docker_engines: list[DockerEngine]
) -> None:
    done = project.run_fanout("check", "--only", "python,workdir", "hosts.txt")
    assert done.code == 0, done.all
    done = project.run_fanout("exec", "hosts.txt", "--", "echo below $(cat /proc/1/comm); exit 4")
    assert done.code == 4, done.all
    assert {"below python3", "below sleep"} == set(re.findall(r"below [\w-]+", done.out)), done.all
    project.write_file("task.py", TASK)
    project.write_train_script(TRAIN)
    done = project.run_training("--venv", sys.prefix, "--show", "all", timeout=110.0)
    assert done.code == 0, done.all
    assert len(re.findall("sum 3 below", done.out)) == 2, done.all
    assert not docker_engines[1].list_inside()


def test_a_missing_image_on_one_host_starts_nothing(project: Project) -> None:
    project.write_train_script("touch ran\n")
    project.write_hostfile(HOSTFILE.replace(IMAGE, "none:1"))
    done = project.run_fanout("run", "--skip-check", "hosts.txt", "task.py")
    assert done.code == 255, done.all
    assert "h1: unreachable: image none:1: docker does not have it on this host" in done.err, done.all
    assert not project.get_path("ran").exists()


@pytest.mark.parametrize("number", [0, 1], ids=["image", "container"])
@pytest.mark.parametrize("fault", [["rm", "-f"], ["restart", "-t", "0"]], ids=["removed", "restarted"])
def test_a_container_that_ends_fails_the_run(
    project: Project, docker_engines: list[DockerEngine], number: int, fault: list[str]
) -> None:
    run = begin_steps(project)
    name = [*docker_engines[0].list_created(), NAME][number]
    docker_engines[number].run_docker(*fault, name)
    done = run.wait_for_end()
    assert done.code == 255, done.all
    cause = f"h{number + 1} (lost its container|had its container restarted) during the run"
    assert re.search(cause, done.err), done.all


def test_a_paused_container_is_named_and_the_run_continues_with_it(
    project: Project, docker_engines: list[DockerEngine]
) -> None:
    run = begin_steps(project)
    docker_engines[1].run_docker("pause", NAME)
    run.wait_for_output(
        "h2: cannot reconnect: container work: it is paused", "h2: try: .*ssh root@h2 docker unpause work"
    )
    docker_engines[1].run_docker("unpause", NAME)
    run.wait_for_output("h2: reconnected")
    project.write_file("stop", "")
    done = run.wait_for_end()
    assert done.code == 0, done.all


def test_a_container_that_stays_paused_is_given_up_and_removed_if_it_is_of_an_image(
    project: Project, docker_engines: list[DockerEngine]
) -> None:
    run = begin_steps(project, "--lease", "10")
    for engine, name in zip(docker_engines, [*docker_engines[0].list_created(), NAME], strict=True):
        engine.run_docker("pause", name)
    run.wait_for_output("h1: cannot reconnect: .*it is paused", "h2: cannot reconnect: .*it is paused")
    done = run.wait_for_end(120.0)
    assert done.code == 255, done.all
    assert "it is paused)" in done.err, done.all
    assert "could not verify" in done.err, done.all
    docker_engines[1].run_docker("unpause", NAME)
    ns.wait_until(lambda: not docker_engines[1].list_inside(), 60.0, "the lease ends the run in the container")


@pytest.mark.parametrize("number", [0, 1], ids=["image", "container"])
def test_a_daemon_that_stops_is_named_and_ends_the_run_when_it_is_back(
    project: Project, docker_engines: list[DockerEngine], number: int
) -> None:
    """SIGTERM ends the containers of the daemon with it."""
    run = begin_steps(project)
    host = f"h{number + 1}"
    docker_engines[number].stop_daemon()
    try:
        run.wait_for_output(
            f"{host}: cannot reconnect: .*Cannot connect to the Docker daemon", f"{host}: try: start it"
        )
    finally:
        docker_engines[number].start_daemon()
    done = run.wait_for_end()
    assert done.code == 255, done.all
    assert f"{host} lost its container during the run" in done.err, done.all


def test_a_daemon_that_is_killed_is_named(project: Project, docker_engines: list[DockerEngine]) -> None:
    run = begin_steps(project)
    docker_engines[1].stop_daemon(signal.SIGKILL)
    try:
        run.wait_for_output("h2: cannot reconnect: .*Cannot connect to the Docker daemon")
    finally:
        docker_engines[1].start_daemon()
    done = run.wait_for_end()
    assert done.code == 255, done.all
    assert "h2 lost its container during the run" in done.err, done.all  # a new daemon ends what runs


def test_a_daemon_that_stays_away_is_the_reason_and_nothing_is_claimed(
    project: Project, docker_engines: list[DockerEngine]
) -> None:
    """The containers run on without the daemon. podman answers on the host, and has no such container."""
    run = begin_steps(project, "--lease", "10")
    docker_engines[0].stop_daemon(signal.SIGKILL)
    try:
        done = run.wait_for_end(120.0)
    finally:
        docker_engines[0].start_daemon()
    assert done.code == 255, done.all
    assert re.search(r"h1 was lost \(no connection for .*Cannot connect to the Docker daemon", done.err), done.all
    assert "could not verify h1" in done.err, done.all
    ns.wait_until(lambda: not docker_engines[0].list_created(), 60.0, "the container of the image has ended")


def test_the_launcher_is_killed_and_the_guardian_leaves_nothing(
    project: Project, docker_engines: list[DockerEngine]
) -> None:
    run = begin_steps(project)
    run.send_signal(signal.SIGKILL)
    run.wait_for_end()
    ns.wait_until(lambda: not docker_engines[0].list_created(), 60.0, "the container of the image is removed")
    ns.wait_until(lambda: not docker_engines[1].list_inside(), 60.0, "nothing is left in the container")


def test_a_restart_enters_the_containers_again(project: Project, docker_engines: list[DockerEngine]) -> None:
    project.write_train_script(
        'if [ "$NODE_RANK" = 1 ] && mkdir first 2>/dev/null; then echo "ConnectionResetError: peer" >&2; exit 1; fi\n'
        "while [ ! -e first ]; do sleep 0.05; done; [ -e second ] || { mkdir second; sleep 1000; }\n"
    )
    done = project.run_training("--max-restarts", "1", "--grace", "2")
    assert done.code == 0, done.all
    assert "could not verify" not in done.err, done.all
    for name in ("first", "second"):
        project.get_path(name).rmdir()
