"""Small parts of the tasks: learning rate, optimizer groups, stopping, counting, reporting."""

from __future__ import annotations

import os
import signal

import pytest
from llada2 import config, flops, optim, report, stop, world
from llada2.errors import UserError

from tests.tasks.task_places import YAML
from tests.tasks.task_shapes import tiny_model


def rates(*overrides: str) -> list[float]:
    train = config.load([YAML, "--train.lr", "1", "--train.lr_min", "0.1", *overrides], 1).train
    return [optim.learning_rate(step, 10, train) for step in range(10)]


def test_the_rate_rises_straight_and_falls_along_a_cosine_to_its_least() -> None:
    found = rates("--train.lr_warmup_ratio", "0.2")
    assert found[:3] == [0.5, 1.0, 1.0]
    assert found[6] == pytest.approx(0.55)
    assert found[3:] == sorted(found[3:], reverse=True)
    assert 0.1 < found[9] < 0.2


def test_a_linear_decay_may_end_early_and_a_constant_rate_never_falls() -> None:
    linear = rates("--train.lr_warmup_ratio", "0", "--train.lr_decay_style", "linear", "--train.lr_decay_ratio", "0.5")
    assert linear[0] == 1.0
    assert linear[5:] == pytest.approx([0.1] * 5)
    assert rates("--train.lr_decay_style", "constant", "--train.lr_warmup_ratio", "0") == [1.0] * 10


def test_norms_are_not_decayed_and_everything_is_in_one_group() -> None:
    import torch

    model = tiny_model()
    optimizer = optim.build(model, config.load([YAML], 1).train, torch.device("cpu"))
    decayed, kept = optimizer.param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim == 1 for p in kept["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def test_a_signal_is_remembered_and_every_rank_reads_the_same_from_the_sum() -> None:
    before = {number: signal.getsignal(number) for number in stop.SIGNALS}
    try:
        request = stop.StopRequest()
        request.install()
        assert request.votes() == [0, 0, 0]
        os.kill(os.getpid(), signal.SIGUSR1)
        assert request.votes() == [0, 0, 1]
        assert stop.StopRequest.decide([0, 0, 2]) == signal.SIGUSR1
        assert stop.StopRequest.decide([0, 1, 1]) == signal.SIGTERM
        assert stop.StopRequest.decide([0, 0, 0]) is None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert [stop.exit_code(number) for number in stop.SIGNALS] == [130, 143, 75]


def test_a_steps_line_reads_as_promised() -> None:
    numbers = {"loss": 3.24371, "grad_norm": 0.5741, "rate": 5.78e-3, "speed": 25938.4}
    line = report.step_line(76, 600, **numbers)
    assert line == "step 76/600 loss 3.2437 grad_norm 0.574 lr 5.78e-03 tok/s 25938"
    assert report.step_line(76, 600, **numbers, mfu=0.415, gpu_gb=12.34) == f"{line} mfu 41.5% gpu_gb 12.3"


def test_arithmetic_is_six_a_weight_and_twelve_a_pair_attended() -> None:
    model = tiny_model()
    active = 144_512 - 260 * 64 - 2 * 3 * 64 * 64  # no embedding, two of four experts
    weights = 6 * (active - 260 * 64) * 128 + 6 * 260 * 64 * 64
    assert flops.per_row(model, 64, 8) == weights + 12 * 4608 * 64 * 2


def test_a_missing_gpu_is_reported() -> None:
    import torch

    assert world.choose_device("cpu", 5, 8).type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="torch sees no GPU here"):
            world.choose_device("cuda", 0, 1)
