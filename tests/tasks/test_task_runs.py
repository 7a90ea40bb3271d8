"""Real runs under torchrun: every topology computes the same, and a run that is stopped or killed goes on exactly."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from llada2 import checkpoint

from tests.tasks.task_runs import Curve, alone, curve, finish, launch, read_until, started, train
from tests.tasks.task_shapes import ROOT

pytestmark = pytest.mark.process
STEP = re.compile(r"^step (\d+)/\d+ loss (\S+) grad_norm (\S+) lr \S+ tok/s \d+$", re.MULTILINE)
TWELVE = ["--train.max_steps", "12", "--train.save_steps", "6"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve uninterrupted steps of one process, with checkpoints after 6 and 12."""
    output = tmp_path_factory.mktemp("reference")
    alone(train(output, *TWELVE))
    return output


@pytest.mark.parametrize(("nodes", "per_node"), [(1, 2), (2, 1), (2, 2)])
def test_every_topology_computes_the_same_first_step(
    nodes: int, per_node: int, reference: Path, tmp_path: Path
) -> None:
    """The global batch is one stream cut by rank: a wrong rank or world size would show here at once."""
    out = launch(nodes, per_node, train(tmp_path, "--train.max_steps", "3", "--train.lr_decay_style", "constant"))
    one = curve(reference)[1]
    assert curve(tmp_path)[1] == pytest.approx(one, rel=1e-4)
    assert f"world size: {nodes * per_node}" in out
    assert STEP.findall(out)[0][0] == "1"


def same(one: Curve, other: Curve, first: int, last: int) -> None:
    """Two runs computed the same between two steps, but for the order of additions."""
    for step in range(first, last + 1):
        assert one[step] == pytest.approx(other[step], rel=2e-3), step


def copy_of(reference: Path, output: Path) -> None:
    """The state of the reference run as it was after its sixth step."""
    shutil.copytree(reference / "checkpoints" / "global_step_6", output / "checkpoints" / "global_step_6")


RESUME = ["--train.load_checkpoint_path", "auto"]


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one_also_sharded_on_two_ranks_with_accumulation(
    reference: Path, tmp_path: Path
) -> None:
    """Written by one DDP process, read by two FSDP2 ranks, and read again by one DDP process."""
    copy_of(reference, tmp_path)
    sharded = ["--train.data_parallel_mode", "fsdp2", "--train.enable_gradient_checkpointing", "true"]
    accumulated = ["--train.micro_batch_size", "4", "--train.save_steps", "3"]
    out = launch(1, 2, train(tmp_path, *TWELVE, *RESUME, *sharded, *accumulated))
    assert "resumed after step 6" in out
    assert [int(step) for step, _, _ in STEP.findall(out)] == list(range(7, 13))
    same(curve(tmp_path), curve(reference), 7, 12)
    steps = checkpoint.whole(str(tmp_path / "checkpoints"))
    assert list(steps) == [6, 9, 12]
    back = alone(train(tmp_path, *TWELVE, "--train.load_checkpoint_path", steps[9]))
    assert "resumed after step 9" in back
    same(curve(tmp_path), curve(reference), 10, 12)


LONG = ["--train.max_steps", "1000", "--train.num_train_epochs", "9"]


def test_sigusr1_saves_and_ends_well_and_the_oldest_checkpoints_go(tmp_path: Path) -> None:
    keep = ["--train.save_steps", "2", "--train.keep_last_n", "2"]
    with started([sys.executable, *train(tmp_path, *LONG, *keep)]) as process:
        read_until(process, "step 7/")
        process.send_signal(signal.SIGUSR1)
        out = finish(process)
    stopped = re.search(r"stopped by SIGUSR1 after step (\d+)/1000; saved (\S+);", out)
    assert stopped is not None, out
    steps = checkpoint.whole(str(tmp_path / "checkpoints"))
    assert len(steps) == 2
    assert steps[int(stopped[1])] == stopped[2]


def test_sigterm_to_torchrun_on_one_host_saves_and_stops_both(tmp_path: Path) -> None:
    with started(["bash", "train.sh", *train(tmp_path, *LONG)], NPROC_PER_NODE="2") as process:
        read_until(process, "step 3/")
        began = time.monotonic()
        process.terminate()
        out, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert time.monotonic() - began < 30, "torchrun would have killed the ranks by now"
    assert "stopped by SIGTERM after step" in out
    assert len(checkpoint.whole(str(tmp_path / "checkpoints"))) == 1


def test_a_run_killed_while_it_writes_leaves_the_last_whole_checkpoint(tmp_path: Path) -> None:
    directory = tmp_path / "checkpoints"
    with started([sys.executable, *train(tmp_path, *LONG, "--train.save_steps", "1")]) as process:
        read_until(process, "step 4/")
        deadline = time.monotonic() + 30
        while not any(name.startswith(".partial-") for name in os.listdir(directory)):
            assert time.monotonic() < deadline, "it never wrote a checkpoint"
        process.kill()
        process.wait()
    newest = max(checkpoint.whole(str(directory)))
    assert newest >= 3
    out = alone(train(tmp_path, *LONG, *RESUME, "--train.max_steps", str(newest + 1)))
    assert f"resumed after step {newest}" in out
    assert not [name for name in os.listdir(directory) if name.startswith(".")]


@pytest.mark.slow
def test_forty_steps_on_two_hosts_learn_and_the_sampler_reads_their_checkpoint(tmp_path: Path) -> None:
    out = launch(2, 1, train(tmp_path, "--train.max_steps", "40"))
    losses = [float(loss) for _, loss, _ in STEP.findall(out)]
    assert len(losses) == 40
    assert 5.4 < losses[0] < 5.8
    assert sum(losses[-5:]) / 5 < 3.6
    assert re.search(r"^val_nll \d\.\d+ unigram_nll 3\.\d+ ratio \d\.\d+$", out, re.MULTILINE)
    sampler = [os.path.join(ROOT, "tasks", "generate_llada2.py"), str(tmp_path), "--prompt", "assert"]
    written = alone([*sampler, "--gen-length", "16", "--temperature", "1"])
    assert re.search(r"-- \d+ tokens in \d+ forwards: \d+\.\d\d tokens per forward", written)


def test_hosts_that_read_different_texts_are_told_apart_before_the_first_step(tmp_path: Path) -> None:
    tasks = []
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(name * 1000)
        text = ["--data.train_path", str(tmp_path / f"{name}.txt"), "--data.data_type", "plaintext"]
        tasks.append(train(tmp_path / "out", *text))
    out = launch(2, 1, *tasks, expected=1)
    assert out.count("error: data.train_path") == 1
    assert "give every host the same files" in out
    assert STEP.findall(out) == []


@pytest.mark.slow
def test_hosts_without_a_shared_directory_keep_whole_checkpoints_each_and_resume_from_them(tmp_path: Path) -> None:
    homes = [tmp_path / "a", tmp_path / "b"]
    four = ["--train.max_steps", "4", "--train.save_steps", "2"]
    out = launch(2, 1, *[train(home, *four) for home in homes])
    assert "is not shared by the hosts: each keeps whole checkpoints of its own" in out
    for home in homes:
        steps = checkpoint.whole(str(home / "checkpoints"))
        assert list(steps) == [2, 4]
        shutil.rmtree(steps[4])
    again = launch(2, 1, *[train(home, *four, *RESUME) for home in homes])
    assert "resumed after step 2" in again
    assert [line for _, *line in STEP.findall(again)] == [line for _, *line in STEP.findall(out)[2:]]


def test_a_mistake_found_by_both_ranks_is_told_once_and_nobody_hangs(tmp_path: Path) -> None:
    task = train(tmp_path, "--data.train_path", "nowhere.jsonl")
    with started(["bash", "train.sh", *task], NPROC_PER_NODE="2") as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert out.count("error: data.train_path nowhere.jsonl: no such file or directory") == 1
    assert "exitcode  : 2" in out


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["--train.load_checkpoint_path", "gone"], "error: gone: not a checkpoint of this trainer (no meta.json)"),
        (["--train.output_dir", "/proc/no"], "error: train.output_dir: /proc/no/checkpoints: No such file"),
    ],
)
def test_a_mistake_found_while_starting_is_one_line_without_a_traceback(
    overrides: list[str], words: str, tmp_path: Path
) -> None:
    out = alone(train(tmp_path, *overrides), expected=2)
    assert words in out
    assert "Traceback" not in out


@pytest.mark.slow
def test_hello_and_allreduce_check_their_sums_on_two_ranks() -> None:
    said = launch(1, 2, [os.path.join(ROOT, "tasks", "hello.py")])
    assert "hello from rank 0/2" in said
    assert "hello from rank 1/2" in said
    assert "gave [1, 2], expected [1, 2]: right" in said
    table = launch(1, 2, [os.path.join(ROOT, "tasks", "allreduce.py"), "--max-bytes", "65536", "--iterations", "2"])
    assert [line.split()[0] for line in table.splitlines() if line.endswith("right")] == [
        *("1024", "4096", "16384", "65536")
    ]
