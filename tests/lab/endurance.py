"""``make endurance SEED=7``: the real training task lives through 12 random faults on four hosts and two spares.

``SEED='1 2 3'`` plays three runs and compares them with one undisturbed run.

A fault strikes when the current attempt has reported some steps. The run must end with 0, with the ``val_nll`` of an
undisturbed run of the same command. No byte of a log may be lost, nothing may be left, and no rank may start twice.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab import ns
from tests.lab.drive import Project, list_processes
from tests.lab.endurance_check import (
    SAVE_STEPS,
    Row,
    Struck,
    compare_attempts,
    compare_logs,
    find_overlaps,
    read_attempts,
)
from tests.lab.endurance_faults import draw_faults
from tests.lab.endurance_play import EnduranceRun
from tests.lab.lab import Lab
from tests.lab.oracle import assert_clean
from tests.lab.specs import UID, Bind

DISK = "/home/lab/disk"
DISK_MB = 64
STEPS_PER_FAULT = 40  # an attempt fails after at most 40 steps, and resumes from a multiple of 20
RUN_SECONDS = 1800.0  # a run without faults takes a fifth of it on two idle cores
TOLERANCE = 0.002  # of val_nll, relative: a resume changes the order of additions
HOSTS = "".join(f"h{number} slots=1{' spare' if number > 4 else ''}\n" for number in range(1, 7))
FLAGS = (
    *("--max-restarts", "3", "--restart-rate", "off", "--lease", "12", "--grace", "4", "--last-words", "1"),
    *("--connect-timeout", "5", "--resume-args", "--train.load_checkpoint_path auto", "--hide", "^beat "),
)
TASK = ("own_log_task.py", "tasks/train_llada2_bd.py", "configs/sft/llada2_mini_bd_sft.yaml")


def build_arguments(output: str, steps: int) -> tuple[str, ...]:
    """Return the task and its arguments: a checkpoint every 20 steps, a line for every step."""
    numbers = ("--train.max_steps", str(steps), "--train.save_steps", str(SAVE_STEPS), "--train.log_steps", "1")
    more = ("--train.keep_last_n", "2", "--train.num_train_epochs", "50", "--train.timeout_s", "300")
    return (*TASK, "--train.output_dir", output, *numbers, *more)


@contextlib.contextmanager
def mount_small_disk() -> Iterator[Path]:
    """Mount a small file system on this machine for the checkpoints."""
    with tempfile.TemporaryDirectory(prefix="fanout-endurance-") as name:
        options = f"size={DISK_MB}m,mode=755,uid={UID},gid={UID}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", name], check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "-l", name], check=True)


def start_project(lab: Lab) -> Project:
    """Return the project with the real task; every rank writes its own log."""
    project = Project(lab)
    project.copy_real_tasks()
    project.write_file(TASK[0], Path(__file__).with_name(TASK[0]).read_text(encoding="utf-8"))
    project.write_hostfile(HOSTS)
    return project


def run_undisturbed(project: Project, steps: int) -> float:
    """Run the command without faults; return its val_nll."""
    run = EnduranceRun(project, ("run", *FLAGS, "hosts.txt", *build_arguments(f"{DISK}/calm", steps)))
    run.wait_for_success(timeout=RUN_SECONDS)
    return run.read_val_nll()


def play_faults(lab: Lab, project: Project, disk: Path, seed: str, count: int) -> tuple[EnduranceRun, list[Struck]]:
    """Run the command, and strike with one fault after the other; return the run and the faults."""
    chance = random.Random(seed)
    steps = STEPS_PER_FAULT * count
    run = EnduranceRun(project, ("run", *FLAGS, "hosts.txt", *build_arguments(f"{DISK}/faults", steps)))
    struck: list[Struck] = []
    for fault in draw_faults(chance, count):
        struck.append(run.strike_fault(lab, fault, disk, struck, chance))
        print(f"     {struck[-1].text}", flush=True)
    run.wait_for_success(timeout=RUN_SECONDS)
    return run, struck


def find_leftovers(lab: Lab) -> list[str]:
    """Wait for the guardians; return what is left: a process, a directory, a claim, a segment."""
    ns.wait_until(lambda: not list_processes(lab.launcher, "fanout.run.guardian"), 120.0, "the guardians end")
    found = []
    try:
        assert_clean(lab)
    except AssertionError as error:
        found.append(str(error))
    for host in lab.hosts:
        left = [entry.name for entry in host.get_path("/dev/shm").iterdir()]
        found += [f"{host.name}: left in /dev/shm: {left}"] if left else []
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class EnduranceResult:
    """What a run through the faults of one seed showed."""

    rows: list[Row]
    val_nll: float
    logs: str  # a summary
    wrong: list[str]
    text: str  # of the run, without its steps


@contextlib.contextmanager
def open_project() -> Iterator[tuple[Lab, Project, Path]]:
    """Open a fresh lab with the project; yield both, and the small disk."""
    with (
        mount_small_disk() as disk,
        Lab(6, shared="/home/lab/shared", binds=[Bind(source=str(disk), target=DISK, writable=True)]) as lab,
        contextlib.closing(start_project(lab)) as project,
    ):
        yield lab, project, disk


def endure_faults(seed: str, count: int) -> EnduranceResult:
    """Play the faults of one seed in a fresh lab, and compare everything but val_nll."""
    with open_project() as (lab, project, disk):
        run, struck = play_faults(lab, project, disk, seed, count)
        left = find_leftovers(lab)
        record = project.list_records()[-1]
        rows = compare_attempts(read_attempts(record), struck)
        logs, lost = compare_logs(record, project.get_path("own"), struck)
        wrong = [*find_overlaps(project.get_path("marks"), struck), *left, *lost]
        wrong += [row.format_row() for row in rows if not row.is_right]
        return EnduranceResult(rows=rows, val_nll=run.read_val_nll(), logs=logs, wrong=wrong, text=run.text)


def report_seed(seed: str, count: int, calm: float) -> int:
    """Play and print one seed; return the number of differences."""
    began = time.monotonic()
    result = endure_faults(seed, count)
    wrong = list(result.wrong)
    if abs(result.val_nll - calm) > TOLERANCE * calm:
        wrong.append(f"val_nll {result.val_nll}, not {calm}")
    took = f"{time.monotonic() - began:.0f} s"
    print("\n".join(row.format_row() for row in result.rows))
    print(f"val_nll {result.val_nll:.4f}, undisturbed {calm:.4f}; {result.logs}; {took}; seed {seed}")
    print("\n".join([f"{len(wrong)} differences", *wrong]), flush=True)
    if wrong:
        print(result.text, flush=True)
    return len(wrong)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.endurance", description=__doc__)
    parser.add_argument("--seed", nargs="+", default=["1"])
    parser.add_argument("--faults", type=int, default=12)
    options = parser.parse_args()
    began = time.monotonic()
    with open_project() as (_, project, _):
        calm = run_undisturbed(project, STEPS_PER_FAULT * options.faults)
    print(f"undisturbed: val_nll {calm:.4f} after {time.monotonic() - began:.0f} s", flush=True)
    differences = [report_seed(seed, options.faults, calm) for seed in options.seed]
    return 1 if any(differences) else 0


if __name__ == "__main__":
    sys.exit(main())
