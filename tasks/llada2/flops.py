"""Arithmetic of a step, and the share of the GPU's peak that it uses."""

from __future__ import annotations

import torch

from . import mask
from .model import LLaDA2, active_parameter_count

# Dense bf16 peak of one device, from the makers' data sheets, by a part of torch's device name.
PEAKS = {
    "H200": 989e12,
    "H100": 989e12,
    "GH200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "L40S": 362e12,
    "4090": 165e12,
}


def peak(device: torch.device) -> float | None:
    """Return the floating-point operations per second of ``device`` in bf16; None if they are not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((value for part, value in PEAKS.items() if part in name), None)


def per_row(model: LLaDA2, length: int, block: int) -> float:
    """Count the operations of one row x_t ‖ x_0: 6 for each weight and token, 12 for each head dimension and attended pair.

    Both halves pass the layers, only the noisy one passes the head.
    """
    c = model.config
    head = model.lm_head.weight.numel()
    tokens, pairs = (length, length * length) if block >= length else (2 * length, 0)
    if not pairs:
        pairs = int(mask.block_diffusion(length, block).sum())
    attention = 12 * pairs * c.num_attention_heads * c.head_dim * c.num_hidden_layers
    return 6.0 * (active_parameter_count(model) - head) * tokens + 6.0 * head * length + attention
