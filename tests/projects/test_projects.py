"""Real training libraries on two real sshd hosts: every rank's output, the metrics, and the end of a killed rank."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fanout.logs.metric_line import read_metrics
from tests.lab import ns
from tests.lab.drive import Done, Project, Running
from tests.lab.lab import Lab
from tests.lab.oracle import assert_clean
from tests.lab.specs import UID
from tests.projects.conftest import VENV

RECIPES = Path(__file__).parent / "recipes"
STEPS = 20
LONG = "100000"  # more steps than a run makes before its rank is killed
_PART = re.compile(r"[\r\n]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A train.sh that docs/recipes.md shows, with a small task."""

    name: str
    slots: int = 1
    task: str = "train.py"
    arguments: tuple[str, ...] = ()
    long: tuple[str, ...] = ()  # arguments of a run that does not end by itself
    prints_ranks: bool = True  # each rank prints `rank R of W` and `rank R done`

    @property
    def world(self) -> int:
        return 2 * self.slots


CPU = ("--use_cpu", "--bf16", "false", "--gradient_checkpointing", "false")
TABLE = (
    Recipe(name="accelerate", slots=2),
    Recipe(name="transformers"),
    Recipe(name="trl", task="sft.yaml", arguments=CPU, long=("--max_steps", LONG), prints_ranks=False),
    Recipe(name="lightning"),
    Recipe(name="deepspeed"),
    Recipe(name="titan", slots=2),
    Recipe(name="nanogpt"),
)


@pytest.fixture(params=TABLE, ids=lambda recipe: recipe.name)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    found: Recipe = request.param
    return found


@pytest.fixture
def project(recipe: Recipe, two_hosts: Lab, tiny_model: Path) -> Iterator[Project]:
    two_hosts.reset_machines()
    with contextlib.closing(Project(two_hosts)) as project:
        there = project.get_path()
        for source in (RECIPES / recipe.name, tiny_model):
            shutil.copytree(source, there, dirs_exist_ok=True)
        for path in [there, *there.rglob("*")]:
            os.chown(path, UID, UID)
        project.write_hostfile("".join(f"{host} slots={recipe.slots}\n" for host in two_hosts.names))
        yield project
    assert_clean(two_hosts)
    left = [path.name for host in two_hosts.hosts for path in host.get_path("/tmp").glob("torchelastic_*")]
    assert not left, "a temporary directory of torch is left"


def start_recipe(project: Project, recipe: Recipe, *, steps: str, arguments: tuple[str, ...] = ()) -> Running:
    flags = ["--skip-check", "--show", "all", "--venv", str(VENV)]
    for value in ("HF_HUB_OFFLINE=1", "OMP_NUM_THREADS=1", f"STEPS={steps}"):
        flags += ["--env", value]
    return project.start_command("run", *flags, "hosts.txt", recipe.task, *recipe.arguments, *arguments)


def read_rank(project: Project, recipe: Recipe, rank: int) -> str:
    """Return what a rank wrote to stdout and stderr, from the record."""
    host = f"h{rank // recipe.slots + 1}"
    paths = sorted((project.list_records()[-1] / "logs").glob(f"{host}.rank-{rank}*.log"))
    return "".join(path.read_text() for path in paths)


@pytest.mark.timeout(500)
def test_output_and_metrics_of_every_rank_are_read(project: Project, recipe: Recipe) -> None:
    done = start_recipe(project, recipe, steps=str(STEPS)).wait_for_end(300)
    assert done.code == 0, done.all
    assert "both hosts succeeded" in done.err
    assert "nothing is left on them" in done.err
    for rank in range(recipe.world):
        text = read_rank(project, recipe, rank)
        label = f"h{rank // recipe.slots + 1}:{rank} | "
        assert label in done.out, done.all
        if recipe.prints_ranks:
            assert f"rank {rank} of {recipe.world}" in text
            assert f"rank {rank} done" in text
            assert re.search(rf"^{re.escape(label)}.*rank {rank} of {recipe.world}$", done.out, re.MULTILINE), done.all
    readings = [read_metrics(part) for part in _PART.split(read_rank(project, recipe, 0))]
    steps = [(reading.step, reading.total) for reading in readings if reading is not None and reading.step is not None]
    losses = [reading.loss for reading in readings if reading is not None and reading.loss is not None]
    assert steps[-1][0] == STEPS, done.all
    assert losses, done.all
    assert all(0 <= loss < 1000 for loss in losses)


@pytest.mark.timeout(500)
def test_killed_rank_is_named_with_its_host(project: Project, recipe: Recipe, two_hosts: Lab) -> None:
    run = start_recipe(project, recipe, steps=LONG, arguments=recipe.long)
    run.wait_for_output(r"^h1:0 [|~].*(loss|it/s)", timeout=300)
    kill_rank(two_hosts, recipe.world - 1)
    done = run.wait_for_end(100)
    check_verdict(project, recipe, done)


def kill_rank(lab: Lab, rank: int) -> None:
    """Kill the process of the last host that has this RANK."""
    pids = [
        process.pid
        for process in lab.hosts[-1].list_processes()
        if b"RANK=%d" % rank in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    ]
    assert pids
    os.kill(min(pids), signal.SIGKILL)
    assert ns.wait_gone(pids[:1], 20.0)


def check_verdict(project: Project, recipe: Recipe, done: Done) -> None:
    """Check that the report names only the killed rank: the others lost their peer."""
    assert done.code == 1, done.all
    assert "left behind  nothing: verified on both hosts" in done.err, done.all
    verdict = json.loads((project.list_records()[-1] / "verdict.json").read_text())
    cause = verdict["cause"]
    assert (cause["host"], cause["rank"], cause["signal"]) == ("h2", recipe.world - 1, "SIGKILL"), done.all
    assert verdict["confidence"] == "high", done.all
