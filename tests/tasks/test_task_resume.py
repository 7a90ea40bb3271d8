"""A run that is stopped or killed at any moment goes on exactly, on any number of ranks."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from llada2 import checkpoint

from tests.tasks.task_runs import Curve, Rank, RankForker, curve, read_until, train

pytestmark = pytest.mark.process
EIGHT = ["--train.max_steps", "8", "--train.save_steps", "4", "--data.val_examples", "32"]
LONG = ["--train.max_steps", "1000", "--train.num_train_epochs", "9", "--data.val_examples", "32"]
RESUME = ["--train.load_checkpoint_path", "auto"]


@pytest.fixture(scope="module")
def reference(forker: RankForker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight uninterrupted steps of one process, with checkpoints after 4 and 8."""
    output = tmp_path_factory.mktemp("reference")
    forker.alone(train(output, *EIGHT))
    return output


def same(one: Curve, other: Curve, first: int, last: int) -> None:
    """Return whether two runs computed the same between two steps, but for the order of additions."""
    for step in range(first, last + 1):
        assert one[step] == pytest.approx(other[step], rel=2e-3), step


def test_a_resumed_run_is_the_uninterrupted_one_also_sharded_on_two_ranks_with_accumulation(
    forker: RankForker, reference: Path, tmp_path: Path
) -> None:
    """Written by one DDP process, read by two FSDP2 ranks, and read again by one DDP process."""
    shutil.copytree(reference / "checkpoints" / "global_step_4", tmp_path / "checkpoints" / "global_step_4")
    sharded = ["--train.data_parallel_mode", "fsdp2", "--train.enable_gradient_checkpointing", "true"]
    accumulated = ["--train.micro_batch_size", "4", "--train.save_steps", "2"]
    out = forker.launch(1, 2, train(tmp_path, *EIGHT, *RESUME, *sharded, *accumulated))
    assert "resumed after step 4" in out
    assert list(curve(tmp_path)) == [5, 6, 7, 8]
    same(curve(tmp_path), curve(reference), 5, 8)
    steps = checkpoint.whole(str(tmp_path / "checkpoints"))
    assert list(steps) == [4, 6, 8]
    back = forker.alone(train(tmp_path, *EIGHT, "--train.load_checkpoint_path", steps[6]))
    assert "resumed after step 6" in back
    same(curve(tmp_path), curve(reference), 7, 8)


def while_it_writes(directory: Path) -> None:
    """Waits for a checkpoint that is half written."""
    deadline = time.monotonic() + 30
    while not any(name.startswith(".partial-") for name in os.listdir(directory)):
        assert time.monotonic() < deadline, "it never wrote a checkpoint"


def writer(forker: RankForker, output: Path, *overrides: str) -> Rank:
    """Start a run that saves at every step; stop it while it writes its fourth checkpoint or a later one."""
    rank = forker.start(train(output, *LONG, "--train.save_steps", "1", "--train.keep_last_n", "2", *overrides))
    read_until(rank.stdout, "step 4/")
    while_it_writes(output / "checkpoints")
    return rank


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 75), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_also_in_the_middle_of_a_checkpoint_saves_and_stops_and_the_oldest_go(
    number: signal.Signals, code: int, forker: RankForker, tmp_path: Path
) -> None:
    """The checkpoint being written is finished, then one is written of the step being computed."""
    rank = writer(forker, tmp_path)
    os.kill(rank.pid, number)
    out = rank.finish(code)
    stopped = re.search(rf"stopped by {number.name} after step (\d+)/1000; saved (\S+);", out)
    assert stopped is not None, out
    steps = checkpoint.whole(str(tmp_path / "checkpoints"))
    assert len(steps) == 2
    assert steps[int(stopped[1])] == stopped[2]
    assert not [name for name in os.listdir(tmp_path / "checkpoints") if name.startswith(".")]


def test_a_run_killed_while_it_writes_leaves_the_last_whole_checkpoint(forker: RankForker, tmp_path: Path) -> None:
    """SIGKILL, where nothing can be tidied up: the next run goes on from the newest whole one, and sweeps."""
    directory = tmp_path / "checkpoints"
    rank = writer(forker, tmp_path)
    os.kill(rank.pid, signal.SIGKILL)
    rank.finish(-signal.SIGKILL)
    newest = max(checkpoint.whole(str(directory)))
    assert newest >= 3
    out = forker.alone(train(tmp_path, *LONG, *RESUME, "--train.max_steps", str(newest + 1)))
    assert f"resumed after step {newest}" in out
    assert not [name for name in os.listdir(directory) if name.startswith(".")]


def test_checkpoints_of_another_run_or_trainer_in_the_same_directory_stay(forker: RankForker, tmp_path: Path) -> None:
    """Only what this run wrote, or resumed from, counts for ``keep_last_n``; a name that is taken is moved aside."""
    directory = tmp_path / "checkpoints"
    kept = ["--train.save_steps", "1", "--train.keep_last_n", "1", "--data.val_examples", "32", "--train.max_steps"]
    forker.alone(train(tmp_path, *kept, "3"))
    (directory / "global_step_2").mkdir()
    (directory / "global_step_2" / "model.safetensors").write_text("weights of another trainer")
    (directory / ".partial-notes").mkdir()
    forker.alone(train(tmp_path, *kept, "2"))
    assert list(checkpoint.whole(str(directory))) == [2, 3]
    (aside,) = directory.glob("global_step_2.other-*")
    assert (aside / "model.safetensors").read_text() == "weights of another trainer"
    assert (directory / ".partial-notes").is_dir()
    forker.alone(train(tmp_path, *kept, "4", *RESUME))
    assert list(checkpoint.whole(str(directory))) == [4]
