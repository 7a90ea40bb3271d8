"""Entry into a container through every login shell, with a stand-in for the engine."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from fanout.agent import bundle
from fanout.model.hosts import Host
from fanout.remote.container_entry import build_agent_entry, build_command_entry, parse_entry_end
from tests.processes import SECONDS, end_process
from tests.remote.container_hosts import build_container_host, write_engine

SHELLS = ("sh", "bash", "zsh", "fish")
ODD = r"""printf '%s|' "a  b" '!!' '\\x' "it's" "$((1+2))" 'ü'; echo; exit 7
# a second line"""


def run_line(
    line: str, programs: Path, *, shell: str = "sh", ends_input: bool = False
) -> subprocess.CompletedProcess[str]:
    """Give the line to a login shell whose PATH begins with ``programs``. Its stdin stays open, or ends at once."""
    reading, writing = os.pipe()
    try:
        return subprocess.run(
            [shutil.which(shell) or shell, "-c", line],
            stdin=subprocess.DEVNULL if ends_input else reading,
            env={"PATH": f"{programs}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(programs)},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    finally:
        os.close(reading)
        os.close(writing)


def count_calls(programs: Path) -> list[str]:
    """Return the programs that were called, in order, by name and first word."""
    lines = (programs / "calls").read_text().splitlines() if (programs / "calls").exists() else []
    return [" ".join([os.path.basename(line.split()[0]), *line.split()[1:3]]) for line in lines]


@pytest.mark.process
@pytest.mark.parametrize("shell", SHELLS)
def test_each_login_shell_passes_the_command_on_unchanged(shell: str, tmp_path: Path) -> None:
    write_engine(tmp_path, "docker")
    done = run_line(build_command_entry(build_container_host(engine="docker"), ODD), tmp_path, shell=shell)
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == "a  b|!!|\\\\x|it's|3|ü|\n"


@pytest.mark.process
@pytest.mark.parametrize("shell", SHELLS)
def test_the_agent_reports_ready_in_the_container(shell: str, tmp_path: Path) -> None:
    write_engine(tmp_path, "podman")
    line = build_agent_entry(build_container_host(engine="podman"), bundle.build_command("abc"))
    done = run_line(line, tmp_path, shell=shell, ends_input=True)  # it exits with 3, because no agent follows
    assert done.stdout.startswith("\n@abc READY 3.")
    assert (done.returncode, parse_entry_end(done.stderr).state) == (3, "running")


@pytest.mark.process
def test_a_tilde_in_the_path_of_python_is_the_home_inside_the_container(tmp_path: Path) -> None:
    write_engine(tmp_path, "docker")
    (tmp_path / "python").symlink_to(shutil.which("python3") or "")
    line = build_agent_entry(build_container_host(engine="docker"), bundle.build_command("abc", "~/python"))
    assert run_line(line, tmp_path, ends_input=True).stdout.startswith("\n@abc READY 3.")


@pytest.mark.process
@pytest.mark.parametrize(
    ("docker", "podman", "chosen"),
    [
        ("running", None, ["docker exec -i"]),
        (None, "running", ["podman exec -i"]),
        ("running", "running", ["docker container inspect", "docker exec -i"]),
        ("other", "running", ["docker container inspect", "podman container inspect", "podman exec -i"]),
    ],
)
def test_the_engine_that_has_the_container_is_entered(
    docker: str | None, podman: str | None, chosen: list[str], tmp_path: Path
) -> None:
    for name, state in (("docker", docker), ("podman", podman)):
        if state == "other":
            (tmp_path / name).write_text('#!/bin/sh\necho "$0 $1 $2" >> "$(dirname "$0")/calls"\nexit 1\n')
            (tmp_path / name).chmod(0o755)
        elif state is not None:
            write_engine(tmp_path, name, state=state)
    line = build_command_entry(_choose_host(docker, podman), "true")
    assert run_line(line, tmp_path).returncode == 0
    assert count_calls(tmp_path) == chosen


def _choose_host(docker: str | None, podman: str | None) -> Host:
    """Return a host on which only the given engines are found, also if this machine has both."""
    if docker is None:
        return build_container_host(engine="podman")
    return build_container_host(engine="docker" if podman is None else None)


@pytest.mark.process
@pytest.mark.parametrize("state", ["exited", "paused"])
def test_a_login_reports_the_state_of_a_container_that_does_not_run(state: str, tmp_path: Path) -> None:
    write_engine(tmp_path, "docker", state=state)
    done = run_line(build_agent_entry(build_container_host(engine="docker"), bundle.build_command("abc")), tmp_path)
    assert done.returncode == 1
    assert parse_entry_end(done.stderr).state == state
    missing = build_agent_entry(build_container_host(engine="docker", container="wok"), bundle.build_command("abc"))
    assert parse_entry_end(run_line(missing, tmp_path).stderr).state == "missing"


@pytest.mark.process
def test_the_end_of_stdin_ends_the_command_and_its_children(tmp_path: Path) -> None:
    write_engine(tmp_path, "docker")
    child = f"trap 'touch {tmp_path}/child; exit' TERM; echo ready; while :; do sleep 0.05; done"
    command = f"trap 'wait; echo ended; exit 9' TERM; sh -c {shlex.quote(child)} & wait"
    line = build_command_entry(build_container_host(engine="docker"), command)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    task = subprocess.Popen(
        ["sh", "-c", line], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert task.stdout is not None
        assert task.stdin is not None
        assert task.stdout.readline() == "ready\n"
        task.stdin.close()
        assert (task.wait(SECONDS), task.stdout.read()) == (9, "ended\n")
        assert (tmp_path / "child").exists()
    finally:
        end_process(task, kill=True)


@pytest.mark.process
def test_a_command_ends_whose_stdin_has_ended_before_it_started(tmp_path: Path) -> None:
    write_engine(tmp_path, "docker")
    line = build_command_entry(build_container_host(engine="docker"), "sleep 600")
    assert run_line(line, tmp_path, ends_input=True).returncode == 143
