"""On a GPU: nccl, bf16 and FSDP2 compute the first step that the CPU computes, within what bf16 can hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tasks.task_runs import curve, launch, train

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
BF16 = ["--train.enable_mixed_precision", "true"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["--train.data_parallel_mode", "fsdp2", *BF16],
        [*BF16],
        ["--train.data_parallel_mode", "fsdp2", *BF16, "--model.moe_implementation", "fused"],
        ["--train.data_parallel_mode", "fsdp2", *BF16, "--model.attn_implementation", "flex_attention"],
    ],
)
def test_one_gpu_in_bf16_gives_the_cpus_first_loss(overrides: list[str], tmp_path: Path) -> None:
    launch(1, 1, train(tmp_path / "cpu", "--train.max_steps", "2", "--train.device", "cpu"))
    launch(1, 1, train(tmp_path / "gpu", "--train.max_steps", "2", "--train.device", "cuda", *overrides))
    loss, norm = curve(tmp_path / "gpu")[1]
    expected_loss, expected_norm = curve(tmp_path / "cpu")[1]
    assert loss == pytest.approx(expected_loss, rel=1e-2)
    assert norm == pytest.approx(expected_norm, rel=5e-2)
