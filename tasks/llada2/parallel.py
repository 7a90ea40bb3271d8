"""One model over many ranks: replicated by DDP, or sharded by FSDP2."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from .errors import UserError
from .model import LLaDA2
from .model_config import ModelConfig
from .moe import why_not_grouped
from .sections import Config
from .world import World


def build(shape: ModelConfig, config: Config, world: World, *, draw: bool = True) -> nn.Module:
    """Return the model, ready to train; the same first weights for every number of ranks.

    On the meta device a rank never holds more than its shard and one whole weight. Without ``draw`` the weights have
    no values yet: the caller fills them from a file.
    """
    train = config.train
    options: dict[str, Any] = {
        "attention": config.model.attn_implementation,
        "moe": config.model.moe_implementation,
        "gradient_checkpointing": train.enable_gradient_checkpointing,
    }
    if train.init_device == "meta":
        with torch.device("meta"):
            model = LLaDA2(shape, **options)
        shard(model, config, world)
        home = torch.device("cpu") if train.enable_fsdp_offload else world.device
        model.to_empty(device=home)
        if draw:  # on the device that computes: a GPU draws billions of weights at once
            model.init_weights(torch.Generator(world.device).manual_seed(train.seed))
        move_buffers(model, world.device)
    else:
        on_gpu = train.init_device == "cuda" and world.device.type == "cuda"
        start = world.device if on_gpu else torch.device("cpu")
        with start:
            model = LLaDA2(shape, **options)
        if draw:
            model.init_weights(torch.Generator(start).manual_seed(train.seed))
        model.to(world.device)
        if train.data_parallel_mode == "fsdp2":
            shard(model, config, world)
    if train.enable_compile:
        # DDP overlaps between compiled layers as usual; its splitter of graphs is not needed.
        torch._dynamo.config.optimize_ddp = False
        for layer in model.layers:
            layer.compile()
    if train.data_parallel_mode == "ddp":
        ids = [world.device.index] if world.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)
    return model


def check_kernels(shape: ModelConfig, config: Config, device: torch.device) -> None:
    """Verify that this device can train what ``model`` and ``enable_compile`` demand."""
    on_cpu, fused = device.type == "cpu", config.model.moe_implementation == "fused"
    if on_cpu and config.model.attn_implementation == "flex_attention":
        raise UserError("model.attn_implementation flex_attention trains on a GPU only; write sdpa for the CPU")
    if fused and (reason := why_not_grouped(shape, device)):
        raise UserError(f"model.moe_implementation fused does not work here, write eager: {reason}")
    if on_cpu and fused and config.train.enable_compile and not config.train.enable_mixed_precision:
        raise UserError(
            "train.enable_compile: torch compiles the product of moe_implementation fused in bf16 alone; "
            "add --train.enable_mixed_precision true, or write eager"
        )


def shard(model: LLaDA2, config: Config, world: World) -> None:
    """Shard by FSDP2, layer by layer: bf16 in the products and fp32 in the sums where mixed precision is on.

    With ``enable_fsdp_offload`` weights, gradients and optimizer stay in the host's memory between their uses.
    """
    mesh = init_device_mesh(world.device.type, (world.size,))
    options: dict[str, Any] = {"mesh": mesh}
    if config.train.enable_mixed_precision:
        options["mp_policy"] = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    if config.train.enable_fsdp_offload:
        options["offload_policy"] = CPUOffloadPolicy(pin_memory=world.device.type == "cuda")
    for layer in model.layers:
        fully_shard(layer, **options)
    fully_shard(model, **options)


def move_buffers(model: nn.Module, device: torch.device) -> None:
    """Move the buffers to the device that computes: FSDP2 brings offloaded weights there, but no buffers."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))


def bare(model: nn.Module) -> LLaDA2:
    """Return the model without DDP's wrapper."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    assert isinstance(inner, LLaDA2)
    return inner


@contextlib.contextmanager
def accumulating(model: nn.Module, last: bool) -> Iterator[None]:
    """Average gradients over the ranks after the ``last`` micro-batch only."""
    if isinstance(model, DistributedDataParallel):
        with contextlib.nullcontext() if last else model.no_sync():
            yield
    else:
        assert isinstance(model, FSDPModule)
        model.set_requires_gradient_sync(last)
        yield


def precision(config: Config, world: World) -> contextlib.AbstractContextManager[Any]:
    """Return autocast to bf16 under DDP; FSDP2 casts by its own policy."""
    wanted = config.train.enable_mixed_precision and config.train.data_parallel_mode == "ddp"
    return torch.autocast(world.device.type, dtype=torch.bfloat16, enabled=wanted)


def clip(model: nn.Module, most: float) -> float:
    """Scale the gradients down to norm ``most``; return the norm that they had, over all ranks."""
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), most)
    full = norm.full_tensor() if isinstance(norm, dist.tensor.DTensor) else norm
    return float(full)
