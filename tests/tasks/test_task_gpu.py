"""On a GPU: nccl, bf16 and each kernel compute the first step that the CPU computes, within what bf16 can hold.

test_task_topology.py holds bf16 to the same tolerances on the CPU.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.skips import needs
from tests.tasks.task_places import ALLREDUCE, HELLO
from tests.tasks.task_runs import Curve, curve, launch, train

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.timeout(600),  # compiling takes minutes where nothing is cached
    needs("gpu"),
]
BF16 = ["--train.enable_mixed_precision", "true"]
SHARDED = ["--train.data_parallel_mode", "fsdp2", *BF16]
FUSED = ["--model.moe_implementation", "fused"]
FLEX = ["--model.attn_implementation", "flex_attention"]
COMPILED = ["--train.enable_compile", "true"]
SHORT = ["--train.max_steps", "2", "--data.val_examples", "16"]


@pytest.fixture(scope="module")
def on_the_cpu(tmp_path_factory: pytest.TempPathFactory) -> Curve:
    """Compute two steps in fp32."""
    output = tmp_path_factory.mktemp("cpu")
    launch(1, 1, train(output, *SHORT, "--train.device", "cpu"))
    return curve(output)


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(BF16, id="DDP"),
        pytest.param(SHARDED, id="FSDP2"),
        pytest.param(
            [*SHARDED, "--train.init_device", "cuda", "--train.enable_gradient_checkpointing", "true"], id="ac"
        ),
        pytest.param(
            [*SHARDED, "--train.init_device", "meta", "--train.enable_fsdp_offload", "true"], id="meta, offload"
        ),
        pytest.param([*SHARDED, *FUSED], id="fused"),
        pytest.param([*SHARDED, *FLEX], id="flex"),
        pytest.param([*SHARDED, *COMPILED], id="compiled"),
        pytest.param([*SHARDED, *FUSED, *FLEX, *COMPILED], id="fused, flex, compiled"),
        pytest.param([*BF16, *FUSED, *FLEX, *COMPILED], id="fused, flex, compiled, DDP"),
    ],
)
def test_one_gpu_in_bf16_gives_the_cpus_first_loss(overrides: list[str], on_the_cpu: Curve, tmp_path: Path) -> None:
    """A GPU draws other weights than the CPU does, so that only the size of its loss is compared then."""
    drawn_there = "--train.init_device" in overrides
    out = launch(1, 1, train(tmp_path, *SHORT, "--train.device", "cuda", *overrides), patience=500)
    loss, norm = curve(tmp_path)[1]
    assert "device: cuda:0" in out
    assert re.search(r"^step 2/2 .* gpu_gb \d+\.\d$", out, re.MULTILINE)
    assert loss == pytest.approx(on_the_cpu[1][0], rel=2e-2 if drawn_there else 1e-2)
    assert drawn_there or norm == pytest.approx(on_the_cpu[1][1], rel=5e-2)


def test_hello_and_allreduce_work_over_nccl() -> None:
    """On as many ranks as there are GPUs."""
    count = torch.cuda.device_count()
    assert f"rank 0/{count}" in launch(1, count, [HELLO])
    table = launch(1, count, [ALLREDUCE, "--backend", "nccl", "--max-bytes", "65536"])
    assert f"over {count} ranks, nccl" in table
    assert len(re.findall("right$", table, re.MULTILINE)) == 4
