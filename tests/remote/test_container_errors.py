"""Failed entries into a container: the cause, and a next command that names the host, the engine and the container."""

from __future__ import annotations

import pytest

from fanout.model.errors import ContainerGone
from fanout.remote.container_entry import explain_end
from fanout.remote.container_errors import explain_failed_entry
from tests.remote.container_hosts import build_container_host

DOCKER, PODMAN = "fanout-container docker", "fanout-container podman"
CASES = [
    ("none of these programs is on the PATH: docker podman\n", 127, "no docker and no podman on the PATH", "leave out"),
    (
        f"Error response from daemon: No such container: work\n{DOCKER} Error: No such container: work\n",
        1,
        "docker has no such container",
        "ssh gpu01 docker ps -a",
    ),
    (
        f'Error: no container with name or ID "work" found\n{PODMAN} Error: inspecting object: no such container work\n',
        125,
        "podman has no such container",
        "ssh gpu01 podman ps -a",
    ),
    (f"Error: container state improper\n{PODMAN} exited\n", 255, "it is not running", "ssh gpu01 podman start work"),
    (f"Error: container state improper\n{PODMAN} paused\n", 255, "it is paused", "ssh gpu01 podman unpause work"),
    (
        f"permission denied while trying to connect to the docker API at unix:///var/run/docker.sock\n{DOCKER} x\n",
        1,
        "this user may not use docker",
        "sudo usermod -aG docker $(id -un)",
    ),
    (
        f"Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\n{DOCKER} x\n",
        1,
        "the docker daemon does not answer",
        "ssh gpu01 sudo systemctl start docker",
    ),
    (
        f"sh: 1: exec: python3: not found\n{DOCKER} running\n",
        127,
        "no python3 in it: sh: 1: exec: python3: not found",
        "ssh gpu01 docker exec work python3 -V",
    ),
    (
        f'time="2026-12-01T00:37:25Z" level=error msg="toml: bad \\"x\\""\n{PODMAN} \n',
        1,
        'podman cannot enter it (exit status 1): toml: bad "x"',
        "ssh gpu01 podman exec work python3 -V",
    ),
    (f"boom\n{DOCKER} running\n", 3, "did not start in it (exit status 3): it printed 'boom'", "docker exec work"),
]


@pytest.mark.parametrize(("output", "status", "cause", "command"), CASES)
def test_an_error_names_the_cause_and_a_command_for_the_engine_of_the_host(
    output: str, status: int, cause: str, command: str
) -> None:
    error = explain_failed_entry(build_container_host(), output, status, "ssh gpu01")
    assert str(error).startswith("container work: ")
    assert cause in str(error)
    assert command in error.hint


def test_only_a_container_that_exists_and_does_not_run_is_known_to_be_empty() -> None:
    errors = {
        state: explain_failed_entry(build_container_host(), f"{DOCKER} {state}\n", 1, "ssh gpu01") for state in STATES
    }
    gone = {state: error.is_empty for state, error in errors.items() if isinstance(error, ContainerGone)}
    assert gone == {"exited": True, "created": True, "dead": True, "Error: No such container: work": False}


STATES = ("running", "paused", "restarting", "removing", "exited", "created", "dead", "Error: No such container: work")


def test_the_end_of_a_connection_names_a_container_that_has_ended_and_no_other() -> None:
    host = build_container_host()
    assert explain_end(host, f"Killed\n{DOCKER} exited") == "container work: it is not running"
    assert explain_end(host, f"Killed\n{DOCKER} running") == "Killed"
    assert explain_end(host, f"{DOCKER} running") == "the connection was closed"
    assert explain_end(host, "") == "the connection was closed"
