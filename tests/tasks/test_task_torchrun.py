"""The trainer by train.sh and torchrun, as a person starts it on every host: they meet, learn, and are stopped."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from llada2 import checkpoint

from tests.tasks.task_places import GENERATE
from tests.tasks.task_runs import RankForker, launch, read_until, started, train

pytestmark = pytest.mark.process
STEP = re.compile(r"^step (\d+)/\d+ loss (\S+) grad_norm (\S+) lr \S+ tok/s \d+$", re.MULTILINE)


@pytest.mark.slow
def test_forty_steps_on_two_hosts_of_two_learn_and_the_sampler_reads_their_checkpoint(
    forker: RankForker, tmp_path: Path
) -> None:
    """What a newcomer does: train by train.sh on every host, then write a little."""
    out = launch(2, 2, train(tmp_path, "--train.max_steps", "40"))
    losses = [float(loss) for _, loss, _ in STEP.findall(out)]
    assert "Process rank: 0, world size: 4" in out
    assert len(losses) == 40
    assert 5.4 < losses[0] < 5.8
    assert sum(losses[-5:]) / 5 < 3.6
    assert re.search(r"^val_nll \d\.\d+ unigram_nll 3\.\d+ ratio \d\.\d+$", out, re.MULTILINE)
    written = forker.alone([GENERATE, str(tmp_path), "--prompt", "assert", "--gen-length", "16", "--temperature", "1"])
    assert re.search(r"-- \d+ tokens in \d+ forwards: \d+\.\d\d tokens per forward", written)


def test_sigterm_to_torchrun_on_one_host_saves_and_stops_both(tmp_path: Path) -> None:
    """torchrun hands the signal to its ranks, and kills them after 30 seconds: they are ready long before."""
    long = train(tmp_path, "--train.max_steps", "1000", "--train.num_train_epochs", "9")
    with started(["bash", "train.sh", *long], NPROC_PER_NODE="2") as process:
        read_until(process.stdout, "step 3/")
        began = time.monotonic()
        process.terminate()
        out, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert time.monotonic() - began < 30, "torchrun would have killed the ranks by now"
    assert "stopped by SIGTERM after step" in out
    assert len(checkpoint.whole(str(tmp_path / "checkpoints"))) == 1
