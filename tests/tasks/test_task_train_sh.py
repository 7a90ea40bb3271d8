"""train.sh, with a torchrun that only prints its arguments: defaults, quoting, and the true exit code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.tasks.task_places import ROOT

SCRIPT = os.path.join(ROOT, "train.sh")
pytestmark = pytest.mark.process


def start(tmp_path: Path, *arguments: str, exit_code: str = "0", **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs train.sh with nothing in its environment but PATH and ``variables``."""
    directory = tmp_path / "bin"
    directory.mkdir()
    stub = directory / "torchrun"
    stub.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@"\necho "OMP=$OMP_NUM_THREADS"\nexit {exit_code}\n')
    stub.chmod(0o755)
    path = f"{directory}:/usr/bin:/bin"
    argv = ["bash", SCRIPT, *arguments]
    return subprocess.run(
        argv, env={"PATH": path, **variables}, capture_output=True, text=True, timeout=30, check=False
    )


def test_one_host_is_standalone_and_the_exit_code_is_torchruns(tmp_path: Path) -> None:
    run = start(tmp_path, "task.py", "c.yaml", exit_code="7", NPROC_PER_NODE="2", NNODES="")
    assert run.returncode == 7
    assert run.stdout.split("\n")[:-1] == [
        *("--nnodes=1", "--nproc-per-node=2", "--node-rank=0", "--standalone", "--local-addr=127.0.0.1"),
        *("task.py", "c.yaml", "OMP=1"),
    ]
    assert run.stderr == ""


def test_an_address_of_the_users_replaces_the_local_one(tmp_path: Path) -> None:
    assert "--local-addr=10.0.0.7" in start(tmp_path, "t.py", NPROC_PER_NODE="1", PET_LOCAL_ADDR="10.0.0.7").stdout


def test_many_hosts_meet_at_the_masters_port(tmp_path: Path) -> None:
    exports = {"NNODES": "3", "NODE_RANK": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
    run = start(tmp_path, "task.py", NPROC_PER_NODE="8", OMP_NUM_THREADS="4", **exports)
    assert run.stdout.split("\n")[:-1] == [
        *("--nnodes=3", "--nproc-per-node=8", "--node-rank=2", "--rdzv_endpoint=10.0.0.1:29500", "task.py", "OMP=4")
    ]


def test_the_defaults_are_upstreams(tmp_path: Path) -> None:
    run = start(tmp_path, "task.py", NPROC_PER_NODE="1", NNODES="2")
    assert "--rdzv_endpoint=0.0.0.0:12345" in run.stdout


def test_arguments_keep_their_spaces_and_stars(tmp_path: Path) -> None:
    run = start(tmp_path, "task.py", "--a", "x y", "*", NPROC_PER_NODE="1")
    assert run.stdout.split("\n")[5:-2] == ["task.py", "--a", "x y", "*"]


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0,2,5"}, 3),
        ({"HIP_VISIBLE_DEVICES": "1"}, 1),
        ({"ASCEND_RT_VISIBLE_DEVICES": "0,1"}, 2),
        ({"CUDA_VISIBLE_DEVICES": ""}, 1),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, 1),
    ],
)
def test_visible_accelerators_are_counted(tmp_path: Path, variables: dict[str, str], count: int) -> None:
    run = start(tmp_path, "task.py", **variables)
    assert f"--nproc-per-node={count}" in run.stdout
    assert ("no accelerator" in run.stderr) == (next(iter(variables.values())) in ("", "-1"))


def test_nvidia_smi_is_queried_without_a_given_count(tmp_path: Path) -> None:
    directory = tmp_path / "smi"
    directory.mkdir()
    smi = directory / "nvidia-smi"
    smi.write_text('#!/bin/bash\nprintf "GPU 0: A\\nGPU 1: B\\n"\n')
    smi.chmod(0o755)
    (tmp_path / "run").mkdir()
    stub_path = tmp_path / "run"
    stub = stub_path / "torchrun"
    stub.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    env = {"PATH": f"{directory}:{stub_path}:/usr/bin:/bin"}
    out = subprocess.run(["bash", SCRIPT, "t.py"], env=env, capture_output=True, text=True, timeout=30, check=True)
    assert "--nproc-per-node=2" in out.stdout


def test_train_sh_without_torchrun_prints_a_remedy_and_exits_127(tmp_path: Path) -> None:
    (tmp_path / "uname").symlink_to("/usr/bin/uname")
    run = subprocess.run(
        ["/bin/bash", SCRIPT, "t.py"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 127
    assert "torchrun: not found" in run.stderr
    assert "--venv" in run.stderr
    assert run.stderr.count("\n") == 1
