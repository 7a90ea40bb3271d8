"""The first loss that the trainer prints is the one that the naive model computes from the same weights and noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from llada2 import config, data
from llada2.tokenizer import ByteTokenizer

from tests.tasks import naive_llada2 as naive
from tests.tasks.task_places import TINY
from tests.tasks.task_runs import RankForker, curve, train

LENGTH, BLOCK, MASK = 16, 4, 257
VALUES: dict[str, Any] = json.loads(Path(TINY).read_text()) | {"rope_theta": 10.0}
SHORT = [
    *("--data.max_seq_len", str(LENGTH), "--train.block_size", str(BLOCK), "--train.global_batch_size", "4"),
    *("--train.max_steps", "1", "--data.val_examples", "1", "--train.save_epochs", "0", "--train.save_steps", "0"),
]


def write_chats(path: Path) -> str:
    """Write answers of all lengths up to more than a row."""
    rows = [
        [{"role": "user", "content": "a" * (i % 3)}, {"role": "assistant", "content": "xyz" * i}] for i in range(1, 9)
    ]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return str(path)


def naive_loss(overrides: list[str]) -> float:
    """Return the mean cross entropy over the masked tokens of the first batch, row by row and token by token."""
    settings = config.load(train(Path("out"), *SHORT, *overrides)[1:], 1)
    examples = data.read(settings, ByteTokenizer(), 260)
    rows, _ = data.split(len(examples), settings.data.val_fraction, 1)
    batch = data.Steps(examples, rows, settings, 4, 0, 1)[0]
    tensors = naive.make_tensors(VALUES, split=True)
    block_wise, shifted = settings.train.block_diffusion_mode, not settings.train.same_token_labels
    total, count = 0.0, 0
    for row, masked in zip(batch.ids.tolist(), batch.masked.tolist(), strict=True):
        noisy = [MASK if hidden else token for token, hidden in zip(row, masked, strict=True)]
        if block_wise:
            ids, positions = noisy + row, [*range(LENGTH), *range(LENGTH)]
            places = [(half, at // BLOCK) for half in ("noisy", "clean") for at in range(LENGTH)]
            look = torch.tensor([[attends(query, key) for key in places] for query in places])
        else:
            ids, positions, look = noisy, [*range(LENGTH)], torch.ones(LENGTH, LENGTH, dtype=torch.bool)
        log_p = naive.forward(tensors, VALUES, ids, positions, look)[:LENGTH].log_softmax(-1)
        for at in range(1 if shifted else 0, LENGTH):
            if masked[at]:
                total -= float(log_p[at - 1 if shifted else at, row[at]])
                count += 1
    return total / count


def attends(query: tuple[str, int], key: tuple[str, int]) -> bool:
    """Return whether a place (half, block) sees another: its own block of its half, and clean blocks before it."""
    return query == key or (key[0] == "clean" and key[1] < query[1])


@pytest.mark.process
@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param([], id="block diffusion"),
        pytest.param(["--train.block_diffusion_mode", "false"], id="one block"),
        pytest.param(["--train.same_token_labels", "false"], id="shifted labels"),
        pytest.param(["--data.pad_in_loss", "true"], id="padding in the loss"),
    ],
)
def test_the_first_loss_equals_the_naive_one(overrides: list[str], forker: RankForker, tmp_path: Path) -> None:
    folder = naive.write_folder(tmp_path / "hf", VALUES, naive.make_tensors(VALUES, split=False))
    weights = ["--model.model_path", folder, "--model.config_path", folder]
    overrides = [*overrides, "--data.train_path", write_chats(tmp_path / "chats.jsonl")]
    forker.alone(train(tmp_path / "out", *SHORT, *weights, *overrides))
    loss, _ = curve(tmp_path / "out")[1]
    assert loss == pytest.approx(naive_loss(overrides), rel=1e-5)
