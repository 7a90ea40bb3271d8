"""AdamW with weight decay on matrices alone, and a learning rate that is a function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from .sections import TrainSection


def learning_rate(step: int, steps: int, train: TrainSection) -> float:
    """Return the rate at ``step`` (from 0): linear warm-up from lr_start, then constant, linear or cosine to lr_min.

    The warm-up takes lr_warmup_ratio of all steps, the decay ends at lr_decay_ratio of them.
    """
    warmup = int(steps * train.lr_warmup_ratio)
    if step < warmup:
        return train.lr_start + (train.lr - train.lr_start) * (step + 1) / warmup
    if train.lr_decay_style == "constant":
        return train.lr
    progress = min(1.0, (step - warmup) / max(1.0, steps * train.lr_decay_ratio - warmup))
    share = 1 - progress if train.lr_decay_style == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return train.lr_min + (train.lr - train.lr_min) * share


def build(model: nn.Module, train: TrainSection, device: torch.device) -> torch.optim.AdamW:
    """Return AdamW. Norms are not decayed; everything with two dimensions or more is."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": train.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (train.beta1, train.beta2)
    fused = (device.type == "cuda" and not train.enable_fsdp_offload) or None
    return torch.optim.AdamW(groups, lr=train.lr, betas=betas, eps=1e-8, fused=fused)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group: it is a function of the step, so that a checkpoint needs no scheduler."""
    for group in optimizer.param_groups:
        group["lr"] = rate
