"""One host that does not resolve its own name, as in a container or a minimal installation: real torchrun meets itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.lab.drive import Project
from tests.lab.lab import REPOSITORY, Lab
from tests.lab.oracle import assert_clean

PATIENCE = 110.0
VENV = sys.prefix
TASK = """
import os
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
total = torch.ones(1)
dist.all_reduce(total)
print("sum", int(total), os.environ["MASTER_ADDR"], flush=True)
dist.destroy_process_group()
"""
OTHER = 'torchrun --standalone --nproc-per-node=$NPROC_PER_NODE "$@"\n'  # the commonest train.sh of other projects


@pytest.fixture(scope="module")
def nameless() -> Iterator[Lab]:
    """Open a lab of a launcher and one host whose name only its own kernel knows."""
    with Lab(1, shared="/home/lab/shared") as lab:
        yield lab


@pytest.fixture
def project(nameless: Lab) -> Iterator[Project]:
    nameless.reset_machines()
    host = nameless["h1"]
    table = host.read_file("/etc/hosts").splitlines()
    host.get_path("/etc/hosts").write_text("".join(f"{line}\n" for line in table if "localhost" in line))
    with closing(Project(nameless)) as project:
        project.write_file("task.py", TASK)
        project.write_hostfile("h1 slots=2\n")
        yield project
    assert_clean(nameless)


@pytest.mark.parametrize("script", ["our own", "another project's", "none"])
def test_torchrun_meets_itself_without_the_name_of_the_host(project: Project, script: str) -> None:
    """The ranks get a local address, whichever train.sh starts torchrun; the check warns of the name."""
    if script == "our own":
        project.write_train_script((REPOSITORY / "train.sh").read_text())
    elif script == "another project's":
        project.write_train_script(OTHER)
    done = project.run_training("--venv", VENV, timeout=PATIENCE)
    assert done.code == 0, done.all
    assert done.out.count("sum 2 127.0.0.1") == 1, done.all


def test_the_check_of_one_host_reports_a_name_that_does_not_resolve(project: Project) -> None:
    done = project.run_fanout("check", "--only", "own-name", "hosts.txt", timeout=PATIENCE)
    assert "its own name h1 does not resolve" in done.out, done.all
    assert f"echo {project.lab['h1'].address} h1 | sudo tee -a /etc/hosts" in done.out, done.all


def test_ranks_that_cannot_resolve_their_master_are_ended_after_the_start_timeout(project: Project) -> None:
    """As torch 2.4 always does: MASTER_ADDR is the name of the host. Without an end it takes 15 minutes."""
    project.write_train_script(OTHER)
    done = project.run_training("--venv", VENV, "--env", "PET_LOCAL_ADDR=h1", "--start-timeout", "4", timeout=PATIENCE)
    assert done.code not in (0, 124), done.all
    assert "MASTER_ADDR did not resolve on h1 for 4 s" in done.err, done.all
    assert "cannot resolve the master's name h1" in done.err, done.all
    assert "fanout check --only own-name" in done.err, done.all


def test_a_torchrun_that_waits_for_other_hosts_is_ended_after_the_start_timeout(project: Project) -> None:
    """A train.sh with a fixed number of hosts that ignores NNODES."""
    project.write_train_script(
        OTHER.replace("--standalone", "--nnodes=2 --node-rank=0 --master-addr=127.0.0.1 --master-port=29511")
    )
    done = project.run_training("--venv", VENV, "--start-timeout", "4", timeout=PATIENCE)
    assert done.code not in (0, 124), done.all
    assert "torchrun on h1 started no rank for 4 s" in done.err, done.all
