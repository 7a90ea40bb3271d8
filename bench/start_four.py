"""Benchmark of a run on four machines, from the command to the last host's first line, beside all installed launchers."""

from __future__ import annotations

import os
import shutil
import sys

from bench.common import Contender, Table, build_table, run_interleaved
from bench.stage import PROJECT, build_fanout, build_peer, build_start, build_venv_bind, start_machines
from tests.lab.lab import Lab
from tests.lab.specs import USER

HOSTS = 4
#: torchrunx forwards the stdout of its workers, but not that of their children.
_TORCHRUNX = """\
import subprocess, torchrunx
def task():
    print(subprocess.run(["bash", "train.sh"], check=True, capture_output=True, text=True).stdout, flush=True)
if __name__ == "__main__":
    torchrunx.Launcher(hostnames={names!r}, workers_per_host=1, ssh_config_file=None, backend="gloo").run(task)
"""


def measure(repeat: int = 5, peers: str = "") -> Table:
    """Measure all launchers. ``peers`` is a virtual environment with DeepSpeed and torchrunx."""
    with start_machines(HOSTS, binds=build_venv_bind(peers)) as lab:
        script = f"cd {PROJECT} && bash train.sh"
        contenders = [
            build_fanout("fanout run --skip-check", "run", "--skip-check", "../hosts.txt", "task.py"),
            build_fanout("fanout run", "run", "../hosts.txt", "task.py"),
            build_peer("pdsh, the plain script", "pdsh", "-R", "ssh", "-w", ",".join(lab.names), script),
            _build_mpirun(lab),
            _build_deepspeed(peers),
            _build_torchrunx(lab, peers),
        ]
        results = run_interleaved(contenders, build_start(lab), lines=HOSTS, repeat=repeat)
    return build_table(f"A train.sh that only prints, on {HOSTS} machines", results, base="fanout run --skip-check")


def _build_mpirun(lab: Lab) -> Contender:
    options = ["--host", ",".join(lab.names), "-np", str(HOSTS), "--map-by", "node"]
    quiet = ["--mca", "btl_base_warn_component_unused", "0", "--mca", "orte_base_help_aggregate", "0"]
    return build_peer("mpirun", "mpirun", *options, *quiet, "bash", "train.sh")


def _explain_absence(venv: str, program: str, name: str) -> str:
    """Return why a peer of a virtual environment is absent, or ""."""
    where = os.path.join(venv, "bin", program)
    return "" if venv and shutil.which(where) else f"{name} is not installed (see --peers)"


def _build_deepspeed(venv: str) -> Contender:
    absent = _explain_absence(venv, "deepspeed", "DeepSpeed")
    argv = (f"{venv}/bin/deepspeed", "--hostfile", "../hosts.txt", "--no_python", "--no_local_rank", "bash", "train.sh")
    path = {"PATH": f"{venv}/bin:/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""}
    return Contender(name="DeepSpeed's launcher", argv=argv, env=path, absent=absent)


def _build_torchrunx(lab: Lab, venv: str) -> Contender:
    """Return torchrunx as a contender; it has no command, so a program calls it with a function as the task."""
    site = f"{venv}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/torchrunx"
    absent = "" if venv and os.path.isdir(site) else "torchrunx is not installed (see --peers)"
    lab.launcher.write_file(f"{PROJECT}/torchrunx_bench.py", _TORCHRUNX.format(names=lab.names), user=USER)
    return Contender(name="torchrunx", argv=(f"{venv}/bin/python", "torchrunx_bench.py"), absent=absent)
