"""An exported Slurm job runs on a real cluster: slurmctld and two slurmd of the distribution."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sources import ROOT

pytestmark = pytest.mark.lab

TRAIN = """\
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
weight = torch.zeros(1)
for step in range(1, 4):
    gradient = torch.ones(1) * (dist.get_rank() + 1)
    dist.all_reduce(gradient)
    weight += gradient
    print(f"rank {dist.get_rank()} of {dist.get_world_size()} step {step} weight {weight.item():.0f}", flush=True)
dist.barrier()
dist.destroy_process_group()
"""
SCRIPT = """\
if [ "$1" = fail.py ] && [ "$NODE_RANK" = 1 ]; then exit 7; fi
[ "$1" = fail.py ] && exec sleep 60
exec torchrun --nnodes=$NNODES --node-rank=$NODE_RANK --nproc-per-node=$NPROC_PER_NODE \\
  --master-addr=$MASTER_ADDR --master-port=$MASTER_PORT "$@"
"""


def export_job(directory: Path, task: str, *flags: str) -> Path:
    """Write the job of ``task`` on two hosts with two ranks each; return its path."""
    hosts = directory / "hosts.txt"
    hosts.write_text("gpu01 slots=2\ngpu02 slots=2\n")
    command = [sys.executable, "-m", "fanout", "export", *flags, "--gpus", "0", "slurm", str(hosts), task, "it's"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    job = directory / f"{task}.sh"
    job.write_text(done.stdout)
    return job


def test_exported_job_trains_on_two_nodes_and_keeps_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text(SCRIPT)
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "fail.py").write_text("")
    good, bad = export_job(tmp_path, "train.py", "--name", "good"), export_job(tmp_path, "fail.py", "--name", "bad")
    cluster = tmp_path / "cluster"
    cluster.mkdir()
    namespaces = ("unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc")
    jobs = f"sbatch --wait {good}; echo good $?; sbatch --wait {bad}; echo bad $?"
    command = [*namespaces, "bash", str(ROOT / "tests/lab/slurm_cluster.sh"), str(cluster), "bash", "-c", jobs]
    environ = {"PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environ)
    outputs = {path.name.split("-")[0]: path.read_text() for path in tmp_path.glob("*-*.out")}
    assert "good 0" in done.stdout, (done.stdout, done.stderr, outputs)
    assert "bad 7" in done.stdout, (done.stdout, done.stderr, outputs)
    for rank in range(4):
        assert f"rank {rank} of 4 step 3 weight 30" in outputs["good"]
    assert "Exited with exit code 7" in outputs["bad"]
