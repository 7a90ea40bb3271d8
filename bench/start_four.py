"""A run on four real machines, from the command to the last host's first line, beside every launcher that is here."""

from __future__ import annotations

import os
import shutil
import sys

from bench.common import Contender, Table, interleaved, table
from bench.stage import PROJECT, fanout, machines, on, peer, venv_bind
from tests.lab.lab import Lab
from tests.lab.specs import USER

HOSTS = 4
#: Its workers' own stdout is passed on, that of their children is not.
_TORCHRUNX = """\
import subprocess, torchrunx
def task():
    print(subprocess.run(["bash", "train.sh"], check=True, capture_output=True, text=True).stdout, flush=True)
if __name__ == "__main__":
    torchrunx.Launcher(hostnames={names!r}, workers_per_host=1, ssh_config_file=None, backend="gloo").run(task)
"""


def measure(repeat: int = 5, peers: str = "") -> Table:
    """``peers``: a virtual environment that holds DeepSpeed and torchrunx."""
    with machines(HOSTS, binds=venv_bind(peers)) as lab:
        script = f"cd {PROJECT} && bash train.sh"
        contenders = [
            fanout("fanout run --skip-check", "run", "--skip-check", "../hosts.txt", "task.py"),
            fanout("fanout run", "run", "../hosts.txt", "task.py"),
            peer("pdsh, the bare script", "pdsh", "-R", "ssh", "-w", ",".join(lab.names), script),
            _mpirun(lab),
            _deepspeed(peers),
            _torchrunx(lab, peers),
        ]
        results = interleaved(contenders, on(lab), lines=HOSTS, repeat=repeat)
    return table(f"A train.sh that only prints, on {HOSTS} machines", results, base="fanout run --skip-check")


def _mpirun(lab: Lab) -> Contender:
    options = ["--host", ",".join(lab.names), "-np", str(HOSTS), "--map-by", "node"]
    quiet = ["--mca", "btl_base_warn_component_unused", "0", "--mca", "orte_base_help_aggregate", "0"]
    return peer("mpirun", "mpirun", *options, *quiet, "bash", "train.sh")


def _in_venv(venv: str, program: str, name: str) -> str:
    """Why a peer that lives in a virtual environment is not here, or ""."""
    where = os.path.join(venv, "bin", program)
    return "" if venv and shutil.which(where) else f"{name} is not installed (see --peers)"


def _deepspeed(venv: str) -> Contender:
    absent = _in_venv(venv, "deepspeed", "DeepSpeed")
    argv = (f"{venv}/bin/deepspeed", "--hostfile", "../hosts.txt", "--no_python", "--no_local_rank", "bash", "train.sh")
    path = {"PATH": f"{venv}/bin:/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""}
    return Contender(name="DeepSpeed's launcher", argv=argv, env=path, absent=absent)


def _torchrunx(lab: Lab, venv: str) -> Contender:
    """torchrunx has no command: a program calls it, and its task is a function."""
    site = f"{venv}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/torchrunx"
    absent = "" if venv and os.path.isdir(site) else "torchrunx is not installed (see --peers)"
    lab.launcher.write_file(f"{PROJECT}/torchrunx_bench.py", _TORCHRUNX.format(names=lab.names), user=USER)
    return Contender(name="torchrunx", argv=(f"{venv}/bin/python", "torchrunx_bench.py"), absent=absent)
