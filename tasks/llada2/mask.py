"""Attention mask of block diffusion, over the noisy half x_t and the clean half x_0.

Paper arXiv 2512.15745, section on block-diffusion training; upstream builds the same mask (block-causal on the clean
half, although its text calls that part "standard causal").
"""

from __future__ import annotations

import torch
from torch import Tensor


def allowed(query: Tensor, key: Tensor, length: int, block: int) -> Tensor:
    """Return whether position ``query`` of x_t ‖ x_0 may attend to ``key``; any broadcastable integer tensors, bool out.

    b(i) is the block of a position within its half. A query sees its own block in its own half. A noisy query sees the
    clean blocks before its own, and so does a clean query. Clean never sees noisy, and
    noisy never sees another noisy block.
    """
    query_block, key_block = (query % length) // block, (key % length) // block
    query_clean, key_clean = query >= length, key >= length
    own = (query_clean == key_clean) & (query_block == key_block)
    return own | (key_clean & (query_block > key_block))


def block_diffusion(length: int, block: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the training mask, bool [2L, 2L] for x_t ‖ x_0 of ``length`` L each; True means "may attend"."""
    index = torch.arange(2 * length, device=device)
    return allowed(index[:, None], index[None, :], length, block)


def block_causal(length: int, block: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the sampling mask, bool [L, L]: a position sees its own block and all blocks before it."""
    index = torch.arange(length, device=device) // block
    return index[:, None] >= index[None, :]
