"""Slurm: a batch script with one task per host, in which torchrun starts the ranks. Pure.

Tried with Slurm 22.05. Sources: the manual pages of sbatch and srun. ``--kill-on-bad-exit`` is given because the default
is the site's. srun passes ``--cpus-per-task`` on by itself only from 23.11 on.
"""

from __future__ import annotations

import shlex

from fanout.export.job import Job, list_head_comments

_VARIABLES = {
    "NNODES": '"$SLURM_JOB_NUM_NODES"',
    "NPROC_PER_NODE": '"${SLURM_GPUS_ON_NODE:-1}"',
}


def render_slurm(job: Job) -> str:
    """Return the text for ``sbatch FILE``."""
    lines = ["#!/bin/bash"]
    lines += [
        f"# {line}" for line in list_head_comments(job, secrets="export it before sbatch, which passes it to the job")
    ]
    lines += [f"#SBATCH {option}" for option in _list_options(job)]
    lines += ["#", "# Fill in what your cluster needs, and remove one # of the line:"]
    lines += [f"##SBATCH {option}" for option in _list_unknown(job)]
    lines.append("")
    lines += [f': "${{{name}:?export it before sbatch}}"' for name in job.secrets]
    lines += [f"export {name}={value}" for name, value in job.fill_variables(_VARIABLES).items()]
    lines += [
        'MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"',
        "export MASTER_ADDR",
        "",
        'srun --kill-on-bad-exit=1 --wait=60 --label ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \\',
        f"  bash -c {shlex.quote(_build_node_script(job))} fanout {shlex.join(job.task)}",
    ]
    return "\n".join(lines) + "\n"


def _list_options(job: Job) -> list[str]:
    options = [f"--job-name={shlex.quote(job.name)}", f"--nodes={job.nodes}", "--ntasks-per-node=1", "--exclusive"]
    if job.gpus:
        options.append(f"--gpus-per-node={job.gpus}")
    if job.seconds is not None:
        options.append(f"--time={_format_limit(job.seconds)}")
    options += [f"--chdir={shlex.quote(job.directory)}", "--output=%x-%j.out", "--open-mode=append"]
    return options


def _list_unknown(job: Job) -> list[str]:
    unknown = ["--partition=PARTITION", "--account=ACCOUNT"]
    if job.gpus is None:
        unknown.append("--gpus-per-node=GPUS")
    if job.seconds is None:
        unknown.append("--time=24:00:00")
    return unknown


def _format_limit(seconds: float) -> str:
    """Return a time limit as Slurm writes it: D-HH:MM:SS."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{f'{days}-' if days else ''}{hours:02}:{minutes:02}:{rest:02}"


def _build_node_script(job: Job) -> str:
    """Return the script of one task of srun.

    After a failure Slurm ends the other tasks by SIGTERM, and srun returns the highest status of all. 143 would hide the
    status of the host that failed, so a task that Slurm ends returns 1.
    """
    exports = job.list_exports({"NODE_RANK": '"$SLURM_NODEID"'})
    return "\n".join([*exports, 'trap "exit 1" TERM', f'{job.head} "$@"', "exit"])
