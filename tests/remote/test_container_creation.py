"""Creation of containers from an image: the words that each engine gets, with a stand-in for the engine."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fanout.agent import bundle
from fanout.model.container_creation import ContainerPlan, build_block_start, build_creation
from fanout.model.mounts import Mount
from fanout.remote.container_entry import build_agent_entry, build_removal, parse_entry_end
from fanout.remote.container_errors import explain_failed_entry
from tests.processes import SECONDS
from tests.remote.container_hosts import build_container_host, read_run_words, write_image_engine
from tests.remote.test_container_entry import SHELLS, run_line

HOST = replace(build_container_host(container="fanout-r1", engine="podman"), image="train:1")


def build_plan(tmp_path: Path, *arguments: str) -> ContainerPlan:
    """Return a plan whose work directory exists."""
    mounts = (Mount(source=str(tmp_path), target=str(tmp_path)),)
    return ContainerPlan(name="fanout-r1", run_id="r1", image="train:1", mounts=mounts, arguments=arguments)


def create_container(
    tmp_path: Path, engine: str, *arguments: str, security: str = "", user: int = 1000, home: str = "/home/me"
) -> list[str]:
    """Run the script as a user with this id; return the words that the engine gets. Device files are in ``dev``."""
    write_image_engine(tmp_path, engine, security=security)
    identity = f'#!/bin/sh\ncase "$1" in -un) echo me;; -G) echo "{user} 44";; *) echo {user};; esac\n'
    (tmp_path / "id").write_text(identity)
    (tmp_path / "id").chmod(0o755)
    script = build_creation(build_plan(tmp_path, *arguments), bundle.read_container_holder())
    for directory in ("/dev/infiniband", "/dev/nvidiactl", "/dev/kfd", "/etc/cdi", "/var/run/cdi", "/sys/fs/selinux"):
        script = script.replace(f"-e {directory}", f"-e {tmp_path}{directory}").replace(
            f" {directory}/*", f" {tmp_path}{directory}/*"
        )
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": home, "LC_ALL": "C"}
    command = ["sh", "-c", f"engine={engine}\n{script}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done
    return read_run_words(tmp_path)


def has_words(words: list[str], *wanted: str) -> bool:
    """Return whether these words follow each other."""
    return any(tuple(words[at : at + len(wanted)]) == wanted for at in range(len(words)))


@pytest.mark.process
@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_container_has_the_flags_for_training(engine: str, tmp_path: Path) -> None:
    words = create_container(tmp_path, engine)
    assert words[:2] == ["run", "--pull"]
    for pair in (
        ("--pull", "never"),
        ("--network", "host"),
        ("--ipc", "host"),
        ("--log-driver", "none"),
        ("--entrypoint", ""),
        ("--mount", f"type=bind,src={tmp_path},dst={tmp_path}"),
        ("--label", "fanout.run=r1"),
        ("--label", "fanout.user=1000"),
        ("-e", "HOME=/tmp"),
        ("-e", "USER=me"),
    ):
        assert has_words(words, *pair), (pair, words)
    start = ("-d", "--rm", "--name", "fanout-r1", "train:1", "python3", "-I", "-S")
    assert tuple(words[-len(start) :]) == start
    assert "--gpus" not in words
    assert "--device" not in words


@pytest.mark.process
def test_docker_gets_the_ids_of_the_user_and_rootless_engines_do_not(tmp_path: Path) -> None:
    words = create_container(tmp_path, "docker")
    assert has_words(words, "--user", "1000:1000")
    assert has_words(words, "--group-add", "44")
    assert has_words(words, "--ulimit", "memlock=-1:-1")
    (tmp_path / "runs").unlink()
    assert has_words(create_container(tmp_path, "docker", security="[name=rootless]"), "--user", "0:0")
    (tmp_path / "runs").unlink()
    assert has_words(create_container(tmp_path, "podman"), "--userns", "keep-id")
    (tmp_path / "runs").unlink()
    words = create_container(tmp_path, "podman", user=0)
    assert has_words(words, "--user", "0:0")
    assert "-e" not in words


@pytest.mark.process
@pytest.mark.parametrize(
    ("engine", "wanted"), [("docker", ("--gpus", "all")), ("podman", ("--device", "nvidia.com/gpu=all"))]
)
def test_devices_of_the_host_are_passed_in(engine: str, wanted: tuple[str, str], tmp_path: Path) -> None:
    for path in ("dev/nvidiactl", "dev/infiniband", "etc/cdi/nvidia.yaml", "sys/fs/selinux/enforce"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("kind: nvidia.com/gpu\n")
    words = create_container(tmp_path, engine)
    assert has_words(words, *wanted)
    assert has_words(words, "--device", "/dev/infiniband", "--cap-add", "IPC_LOCK")
    assert has_words(words, "--security-opt", "label=disable")
    (tmp_path / "runs").unlink()
    words = create_container(tmp_path, engine, "--gpus=2", "--shm-size=32g", "--user=7")
    assert not has_words(words, *wanted)
    assert not has_words(words, "--ipc", "host")
    assert "1000:1000" not in words
    assert has_words(words, "--gpus=2", "--shm-size=32g", "--user=7")


@pytest.mark.process
def test_a_home_that_is_mounted_is_the_home(tmp_path: Path) -> None:
    assert has_words(create_container(tmp_path, "docker", home=f"{tmp_path}/me"), "-e", f"HOME={tmp_path}/me")


@pytest.mark.process
@pytest.mark.parametrize("shell", SHELLS)
def test_each_login_shell_creates_the_container_once_and_starts_the_agent_in_it(shell: str, tmp_path: Path) -> None:
    write_image_engine(tmp_path, "podman")
    script = build_creation(build_plan(tmp_path), bundle.read_container_holder())
    line = build_agent_entry(HOST, bundle.build_command("abc"), script)
    assert run_line(line, tmp_path, shell=shell, ends_input=True).stdout.startswith("\n@abc READY 3.")
    assert "fanout-r1" in read_run_words(tmp_path)
    (tmp_path / "arguments").unlink()
    assert run_line(line, tmp_path, shell=shell, ends_input=True).stdout.startswith("\n@abc READY 3.")
    assert not (tmp_path / "arguments").exists()
    assert run_line(build_removal("fanout-r1", ["podman"]), tmp_path, shell=shell).returncode == 0
    assert not (tmp_path / "runs").exists()


@pytest.mark.process
@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_each_engine_removes_a_container_at_once(engine: str, tmp_path: Path) -> None:
    """docker has no ``rm -t``, and an older podman neither: the container is killed first."""
    write_image_engine(tmp_path, engine)
    (tmp_path / "runs").touch()
    done = run_line(build_removal("fanout-r1", [engine]), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "runs").exists()
    assert (tmp_path / "killed").exists() == (engine == "docker")


@pytest.mark.process
def test_an_engine_that_does_not_answer_has_not_removed_anything(tmp_path: Path) -> None:
    path = tmp_path / "docker"
    path.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    path.chmod(0o755)
    done = run_line(build_removal("fanout-r1", ["docker"]), tmp_path)
    assert (done.returncode, done.stderr) == (1, "no engine answers: docker\n")
    write_image_engine(tmp_path, "podman")
    assert run_line(build_removal("fanout-r1", ["docker", "podman"]), tmp_path).returncode == 0


@pytest.mark.process
@pytest.mark.parametrize(
    ("image", "mount", "refusal", "text", "hint"),
    [
        ("other:1", "", "", "podman does not have it on this host", "ssh gpu01 podman pull train:1"),
        ("train:1", "/nothing/here", "", "nothing to mount at /nothing/here", "ls -ld /nothing/here"),
        ("train:1", "", "crun: executable file python3 not found in PATH", "no python3 in it", "python=/path"),
        ("train:1", "", "Error: bad flag", "podman could not create a container: bad flag", "podman run --rm"),
    ],
)
def test_the_error_names_what_is_missing_and_a_command(
    image: str, mount: str, refusal: str, text: str, hint: str, tmp_path: Path
) -> None:
    write_image_engine(tmp_path, "podman", image=image, refusal=refusal)
    plan = build_plan(tmp_path)
    plan = replace(plan, mounts=(*plan.mounts, Mount(source=mount, target=mount))) if mount else plan
    line = build_agent_entry(HOST, bundle.build_command("abc"), build_creation(plan, "pass"))
    done = run_line(line, tmp_path, ends_input=True)
    assert done.returncode == 125
    assert parse_entry_end(done.stderr).trouble
    error = explain_failed_entry(HOST, done.stderr, done.returncode, "ssh gpu01")
    assert text in str(error)
    assert hint in error.hint
    assert not (tmp_path / "runs").exists()


@pytest.mark.process
def test_an_engine_that_fails_is_not_reported_as_a_missing_image(tmp_path: Path) -> None:
    (tmp_path / "podman").write_text("#!/bin/sh\necho 'Error: database is locked' >&2; exit 125\n")
    (tmp_path / "podman").chmod(0o755)
    script = build_creation(build_plan(tmp_path), "pass")
    done = run_line(build_agent_entry(HOST, bundle.build_command("abc"), script), tmp_path, ends_input=True)
    error = explain_failed_entry(HOST, done.stderr, done.returncode, "ssh gpu01")
    assert "podman could not create a container: database is locked" in str(error)


@pytest.mark.process
def test_the_block_of_a_dry_run_creates_a_container_in_each_shell(tmp_path: Path) -> None:
    write_image_engine(tmp_path, "docker")
    *lines, enter = build_block_start(build_plan(tmp_path), "docker")
    text = "\n".join([*lines, f"{enter} <<'END'", "echo hello", "END", ""])
    for shell in ("sh", "bash", "zsh"):
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": "/home/me"}
        done = subprocess.run(
            [shutil.which(shell) or shell], input=text, env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), text
        assert read_run_words(tmp_path)[-4:] == ["fanout-r1", "train:1", "bash", "-s"]
