"""Runs, checks and commands in containers of rootless podman on two hosts: h1 has an image, h2 a container of the user."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab import ns
from tests.lab.containers import ENVIRONMENT, IMAGE, NAME, PLACE, Engine, list_arguments, specify_host
from tests.lab.drive import Project, list_processes
from tests.lab.lab import Lab
from tests.lab.machines import Host
from tests.lab.specs import UID, USER

HOSTFILE = f"h1 slots=1 image={IMAGE} engine=podman\nh2 slots=1 container={NAME} engine=podman\n"
RUNTIME = f"/run/user/{UID}"
#: As on a machine outside the lab: the user has subordinate ids and a runtime directory, and /dev has mqueue. The kernel
#: permits a new /proc in a namespace of the user only if another one is visible as a whole.
SET_UP = f"""\
set -e
for name in subuid subgid; do rm -f /etc/$name; echo {USER}:100000:65536 > /etc/$name; done
mkdir -p {RUNTIME} /run/whole-proc /run/dev
mount -t proc proc /run/whole-proc
mount --rbind /dev /run/dev
mount -t tmpfs -o mode=755 none /dev
cd /dev
ln -s /proc/self/fd fd
ln -s pts/ptmx ptmx
touch null zero full random urandom tty
mkdir pts shm mqueue
for name in null zero full random urandom tty pts shm; do mount --bind /run/dev/$name $name; done
mount -t mqueue none mqueue
mount --make-rshared /
chown -R {USER} {RUNTIME} {PLACE}
"""


class RootlessEngine(Engine):
    """The podman of an ordinary user."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        host.run_program(["sh", "-c", SET_UP], check=True)

    def run_podman(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**ENVIRONMENT, "XDG_RUNTIME_DIR": RUNTIME}
        return self.host.run_program(["podman", *words], user=USER, env=environment, check=check)


@pytest.fixture(scope="module")
def rootless_lab() -> Iterator[tuple[Lab, list[RootlessEngine]]]:
    specs = [specify_host(name, XDG_RUNTIME_DIR=RUNTIME) for name in ("h1", "h2")]
    with Lab(specs, shared="/home/lab/shared") as lab:
        engines = [RootlessEngine(host) for host in lab.hosts]
        engines[0].import_image()
        engines[1].import_image()
        engines[1].start_container("--userns=keep-id")
        yield lab, engines


@pytest.fixture
def project(rootless_lab: tuple[Lab, list[RootlessEngine]]) -> Iterator[Project]:
    lab, engines = rootless_lab
    with contextlib.closing(Project(lab)) as project:
        project.write_hostfile(HOSTFILE)
        lines = ['connect-timeout = "60s"', f"container-arg = {json.dumps(list_arguments())}"]
        project.write_file("fanout.toml", "\n".join(lines) + "\n")
        yield project
    assert not [name for engine in engines for name in engine.list_created()]
    assert engines[1].is_idle()
    gone = lambda: not any(list_processes(host, "fanout") for host in lab.hosts)  # noqa: E731
    ns.wait_until(gone, 20.0, "no process of fanout is left")


def test_a_run_of_a_user_keeps_the_exit_code_and_leaves_nothing(project: Project) -> None:
    project.write_train_script(
        'touch "by-$NODE_RANK"; echo rank $NODE_RANK as $(id -u) below $(cat /proc/1/comm), home $HOME; setsid sleep 1000 &\n'
        "[ $NODE_RANK = 0 ] || { while [ ! -e stop ]; do sleep 0.05; done; exit 7; }; sleep 1000\n"
    )
    run = project.begin_training("--grace", "4")
    run.wait_for_output(f"h1 .*rank 0 as {UID} below python3", f"h2 .*rank 1 as {UID} below sleep")
    shown = project.run_fanout("ps", "hosts.txt")
    assert "left behind" not in shown.out, shown.all
    project.write_file("stop", "")
    done = run.wait_for_end()
    assert done.code == 7, done.all
    assert "left behind  nothing: verified on both hosts" in done.err, done.all
    assert {project.get_path(f"by-{rank}").stat().st_uid for rank in (0, 1)} == {UID}


def test_check_and_exec_of_a_user_enter_both_kinds_of_containers(project: Project) -> None:
    done = project.run_fanout("exec", "hosts.txt", "--", "echo as $(id -un) below $(cat /proc/1/comm); exit 4")
    assert done.code == 4, done.all
    assert "as lab below python3" in done.out, done.all
    assert "below sleep" in done.out, done.all
    done = project.run_fanout("check", "--only", "python,workdir,engine,image,container-workdir", "hosts.txt")
    assert done.code == 0, done.all


def test_clean_of_a_user_removes_a_container_that_does_not_run(
    project: Project, rootless_lab: tuple[Lab, list[RootlessEngine]]
) -> None:
    engine = rootless_lab[1][0]
    labels = ("--label", "fanout.run=old", "--label", f"fanout.user={UID}", "--pull", "never")
    engine.run_podman("create", "--name", "fanout-old", *labels, IMAGE, "true")
    shown = project.run_fanout("ps", "hosts.txt")
    assert "h1: left behind: container of run old: created in podman, named fanout-old" in shown.out, shown.all
    cleaned = project.run_fanout("clean", "--yes", "hosts.txt")
    assert cleaned.code == 0, cleaned.all
    assert "h1: checked again: nothing is left of ended runs" in cleaned.err, cleaned.all
