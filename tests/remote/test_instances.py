"""Instances of apptainer: the words that the program gets, the entry by each login shell, and the causes of its errors."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fanout.agent import bundle
from fanout.model.container_creation import ContainerPlan
from fanout.model.containers import assign_containers, check_image_options
from fanout.model.engines import APPTAINER
from fanout.model.errors import ContainerGone, UsageError
from fanout.model.instance_creation import build_instance_block, build_instance_creation
from fanout.model.mounts import Mount
from fanout.model.settings import Settings
from fanout.model.suggested_commands import CommandBuilder
from fanout.remote.container_entry import build_agent_entry, build_command_entry, build_removal
from fanout.remote.container_errors import explain_failed_entry
from tests.model.test_plan import build_host
from tests.processes import SECONDS
from tests.remote.container_hosts import build_container_host
from tests.remote.test_container_entry import ODD, SHELLS, run_line

HOST = replace(build_container_host(container="fanout-r1", engine="apptainer"), image="/images/train.sif")
#: Keeps one instance as a file, and runs commands on this machine. It writes each call to a file.
_PROGRAM = """\
#!/bin/sh
here=$(dirname "$0")
echo "$*" | head -n 1 >> "$here/calls"
[ "$1" != -s ] || shift
case "$1 $2" in
"instance list") echo "INSTANCE NAME    PID    IP    IMAGE"; [ ! -e "$here/runs" ] || echo "fanout-r1        7            /i.sif";;
"instance start") REFUSAL
    touch "$here/runs"; echo "INFO:    instance started successfully" >&2;;
"instance stop") rm "$here/runs" 2>/dev/null || { echo "FATAL:   no instance found" >&2; exit 255; };;
exec*) [ -e "$here/runs" ] || { echo "FATAL:   no instance found with name fanout-r1" >&2; exit 255; }
    while [ "${1#instance://}" = "$1" ]; do shift; done; shift; exec "$@";;
esac
"""


def write_apptainer(directory: Path, *, refusal: str = "", name: str = "apptainer") -> None:
    """Write the program. ``refusal`` is the message with which it refuses to start an instance."""
    refuse = f"echo '{refusal}' >&2; exit 255" if refusal else ""
    (directory / name).write_text(_PROGRAM.replace("REFUSAL", refuse))
    (directory / name).chmod(0o755)


def build_plan(tmp_path: Path, *arguments: str, source: str = "") -> ContainerPlan:
    """Return a plan whose image and work directory exist."""
    (tmp_path / "train.sif").touch()
    mounts = (Mount(source=source or str(tmp_path), target="/work"),)
    image = str(tmp_path / "train.sif")
    return ContainerPlan(
        name="fanout-r1", run_id="r1", image=image, engine="apptainer", mounts=mounts, arguments=arguments
    )


def read_start(tmp_path: Path) -> str:
    """Return the words of the call that starts the instance."""
    calls = (tmp_path / "calls").read_text().splitlines()
    return next(call for call in calls if call.startswith("instance start"))


def create_instance(
    tmp_path: Path, plan: ContainerPlan, devices: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Enter with a login that creates the instance. Of the GPUs of a host, only the device files ``devices`` exist."""
    script = build_instance_creation(plan, "pass")
    for device in ("/dev/nvidiactl", "/dev/kfd"):
        script = script.replace(f"-e {device}", f"-e {tmp_path if device in devices else '/none'}")
    return run_line(build_agent_entry(HOST, bundle.build_command("abc"), script), tmp_path, ends_input=True)


@pytest.mark.process
@pytest.mark.parametrize("program", ["apptainer", "singularity"])
def test_an_instance_has_the_mounts_and_no_home_and_no_environment_of_the_login(program: str, tmp_path: Path) -> None:
    write_apptainer(tmp_path, name=program)
    done = create_instance(tmp_path, build_plan(tmp_path, "--writable-tmpfs"), ["/dev/nvidiactl"])
    assert done.stdout.startswith("\n@abc READY 3."), done
    flags = f"--cleanenv --no-home --bind {tmp_path}:/work --nv --writable-tmpfs"
    assert read_start(tmp_path) == f"instance start {flags} {tmp_path}/train.sif fanout-r1"


@pytest.mark.process
def test_the_instance_is_stopped_when_nothing_runs_in_it(tmp_path: Path) -> None:
    write_apptainer(tmp_path)
    create_instance(tmp_path, build_plan(tmp_path))
    done = subprocess.run(
        ["sh", "-c", 'while [ -e "$1" ]; do sleep 0.05; done', "sh", str(tmp_path / "runs")],
        timeout=SECONDS,
        check=True,
    )
    assert done.returncode == 0
    assert "instance stop -F fanout-r1" in (tmp_path / "calls").read_text()


@pytest.mark.process
@pytest.mark.parametrize("shell", SHELLS)
def test_each_login_shell_passes_the_command_on_unchanged_and_removes_the_instance(shell: str, tmp_path: Path) -> None:
    write_apptainer(tmp_path)
    (tmp_path / "runs").touch()
    done = run_line(build_command_entry(replace(HOST, image=None), ODD), tmp_path, shell=shell)
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == "a  b|!!|\\\\x|it's|3|ü|\n"
    assert run_line(build_removal("fanout-r1", ["apptainer"]), tmp_path, shell=shell).returncode == 0
    assert not (tmp_path / "runs").exists()


@pytest.mark.process
def test_an_entry_without_a_home_that_is_mounted_has_its_home_in_tmp(tmp_path: Path) -> None:
    write_apptainer(tmp_path)
    (tmp_path / "runs").touch()
    line = build_command_entry(HOST, "echo $HOME $LOGNAME")
    done = run_line(line, tmp_path)
    assert done.stdout.split()[0] == "/tmp", done
    assert done.stdout.split()[1:], done


@pytest.mark.process
def test_the_block_of_a_dry_run_runs_a_shell_in_the_image(tmp_path: Path) -> None:
    write_apptainer(tmp_path)
    *lines, enter = build_instance_block(build_plan(tmp_path))
    text = "\n".join([*lines, f"{enter} <<'END'", "echo hello", "END", ""])
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    shell = ["sh"]
    subprocess.run(shell, input=text, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS)
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.startswith(f"exec --pwd / --cleanenv --no-home --bind {tmp_path}:/work")
    assert call.endswith(f"{tmp_path}/train.sif bash -s")


STARTER = "FATAL:   failed to start instance: while running /usr/libexec/apptainer/bin/starter: exit status 255"
MOUNT = "FATAL:   container creation failed: mount hook function failure: mount /d->/d error: while mounting /d: "
CREATION = "fanout-container apptainer"
CASES = [
    (
        "none of these programs is on the PATH: apptainer singularity\n",
        127,
        "no apptainer and no singularity",
        "install",
    ),
    (f"{CREATION} no-image\n", 125, "there is no such file or directory on this host", "ssh gpu01 ls -l /images"),
    (f"{CREATION} no-mount /data\n", 125, "nothing to mount at /data", "ssh gpu01 ls -ld /data"),
    (
        f"{MOUNT}mount source /d doesn't exist\n{STARTER}\n{CREATION} refused\n",
        125,
        "nothing to mount at /d on this host",
        "ssh gpu01 ls -ld /d",
    ),
    (
        f"{MOUNT}destination /d doesn't exist in container\n{STARTER}\n{CREATION} refused\n",
        125,
        "the image has no path /d",
        "/etc/apptainer/apptainer.conf",
    ),
    (
        (
            "FATAL:   Failed to create user namespace: maximum number of user namespaces exceeded, check "
            f"/proc/sys/user/max_user_namespaces\n{STARTER}\n{CREATION} refused\n"
        ),
        125,
        "no further user namespace is allowed",
        "sudo sysctl -w user.max_user_namespaces=65536",
    ),
    (
        (
            "FATAL:   Failed to create user namespace: user namespace requires to set "
            f"/proc/sys/kernel/unprivileged_userns_clone to 1\n{CREATION} refused\n"
        ),
        125,
        "this user may not create a user namespace",
        "kernel.unprivileged_userns_clone=1",
    ),
    (
        (
            "\x1b[31mFATAL:  \x1b[0m hidepid option set on /proc mount, require 'hidepid=0' to start instance with setuid "
            f"workflow\n{CREATION} refused\n"
        ),
        125,
        "mounted with hidepid",
        "sudo mount -o remount,hidepid=0 /proc",
    ),
    (
        f'FATAL:   "python3": executable file not found in $PATH\n{CREATION} refused\n',
        125,
        "no python3 in it",
        "python=/path",
    ),
    (
        f'Error for command "start": unknown flag: --x\n\nUsage:\n  apptainer instance start\n{CREATION} refused\n',
        125,
        "could not start an instance: unknown flag: --x",
        "ssh gpu01 apptainer exec --cleanenv --no-home --pwd / /images/train.sif python3 -V",
    ),
    (f"boom\n{CREATION} running\n", 3, "did not start in it (exit status 3): boom", "apptainer exec"),
]


@pytest.mark.parametrize(("output", "status", "cause", "command"), CASES)
def test_an_error_names_the_cause_and_a_command(output: str, status: int, cause: str, command: str) -> None:
    error = explain_failed_entry(HOST, output, status, "ssh gpu01")
    assert cause in str(error)
    assert command in error.hint


def test_an_instance_of_a_run_that_is_gone_is_empty_and_one_of_the_user_is_not_known_to_be() -> None:
    gone = f"FATAL:   no instance found with name work\n{CREATION} missing\n"
    of_run = explain_failed_entry(HOST, gone, 255, "ssh gpu01")
    of_user = explain_failed_entry(replace(HOST, image=None), gone, 255, "ssh gpu01")
    assert isinstance(of_run, ContainerGone)
    assert of_run.is_empty
    assert isinstance(of_user, ContainerGone)
    assert not of_user.is_empty
    assert "ssh gpu01 apptainer instance list" in of_user.hint


@pytest.mark.process
def test_a_start_that_fails_leaves_nothing_and_reports_the_message(tmp_path: Path) -> None:
    write_apptainer(tmp_path, refusal="FATAL:   image format not recognized")
    done = create_instance(tmp_path, build_plan(tmp_path))
    error = explain_failed_entry(HOST, done.stderr, done.returncode, "ssh gpu01")
    assert "it is no image that apptainer can read" in str(error), done
    assert "ssh gpu01 file /images/train.sif" in error.hint
    done = create_instance(tmp_path, build_plan(tmp_path, source="/nothing/here"))
    assert "nothing to mount at /nothing/here" in str(
        explain_failed_entry(HOST, done.stderr, done.returncode, "ssh gpu01")
    )


@pytest.mark.process
def test_an_instance_that_another_login_has_just_created_is_entered_and_not_stopped(tmp_path: Path) -> None:
    """The list does not show it yet, and the start is refused."""
    write_apptainer(tmp_path, refusal="FATAL:   instance fanout-r1 already exists' >&2; touch $here/runs; echo 'x")
    done = create_instance(tmp_path, build_plan(tmp_path))
    assert done.stdout.startswith("\n@abc READY 3."), done
    assert "instance stop" not in (tmp_path / "calls").read_text()


def test_a_command_that_changes_the_machine_is_not_for_the_read_only_image() -> None:
    enter = APPTAINER.build_trial("/i.sif")
    builder = CommandBuilder(containers={"a": enter})
    assert builder.build_remote_command("a", "python3 -V") == f"ssh a {enter} python3 -V"
    assert builder.build_remote_command("a", "echo 1 h | sudo tee -a /etc/hosts").startswith("ssh a 'echo")
    assert builder.build_remote_command("a", "sudo apt install bash") == (
        "in the definition file of the image: apt install bash"
    )


def test_a_path_names_the_engine() -> None:
    (host,) = assign_containers([build_host("a")], Settings(image="/images/train.sif"))
    assert host.engine == "apptainer"
    (host,) = assign_containers([build_host("a")], Settings(image="/images/train"))
    assert host.engine == "apptainer"
    (host,) = assign_containers([build_host("a")], Settings(image="train:1"))
    assert host.engine is None


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (Settings(image="train:1", engine="apptainer"), "takes the absolute path of a .sif file"),
        (Settings(image="train.sif"), "takes the absolute path of a .sif file"),
        (Settings(image="/images/train.sif", engine="podman"), "podman takes the name of an image"),
        (Settings(image="docker://train", engine="apptainer"), "takes the absolute path of a .sif file"),
        (Settings(image="/images/a b.sif"), "not the name of an image"),
    ],
)
def test_an_engine_with_an_image_of_another_form_is_refused(settings: Settings, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        assign_containers([build_host("a")], settings)


@pytest.mark.parametrize("argument", ["--env=A=1", "--shm-size=32g", "--home=/x", "--boot", "--sharens", "--gpus=2"])
def test_an_argument_that_apptainer_lacks_or_that_breaks_a_promise_is_refused(argument: str) -> None:
    host = replace(build_host("a"), image="/i.sif", engine="apptainer")
    with pytest.raises(UsageError, match="with apptainer"):
        check_image_options([host], Settings(container_arg=(argument,)), picks=False)
    check_image_options([host], Settings(container_arg=("--writable-tmpfs",)), picks=False)
