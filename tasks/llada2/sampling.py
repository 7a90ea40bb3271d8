"""Text from a model: block by block, several tokens at once where their probability is high."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import mask
from .model import LLaDA2


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """``ids`` [T]: the prompt and what was written; ``written`` tokens took ``forwards`` passes of the model."""

    ids: Tensor
    written: int
    forwards: int

    @property
    def tokens_per_forward(self) -> float:
        """Return the tokens that a forward pass writes: an autoregressive model has 1."""
        return self.written / max(self.forwards, 1)


def quota(block_size: int, steps: int) -> list[int]:
    """Return the minimum number of tokens that each of ``steps`` passes must accept; they sum to ``block_size``.

    Upstream counts from the block size too, also in a block that holds the end of the prompt.
    """
    return [block_size // steps + (i < block_size % steps) for i in range(steps)]


def guess(logits: Tensor, temperature: float, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Return (token, its probability) for each row of ``logits`` [M, V]; temperature 0 takes the most probable one."""
    p = (logits.float() / temperature if temperature else logits.float()).softmax(-1)
    tokens = torch.multinomial(p, 1, generator=generator)[:, 0] if temperature else p.argmax(-1)
    return tokens, p.gather(1, tokens[:, None])[:, 0]


def accept(confidence: Tensor, threshold: float, least: int) -> Tensor:
    """Select the guesses to keep: all above ``threshold``, or the ``least`` most probable if those are too few.

    Fewer than ``least`` guesses are all kept: an earlier pass may have accepted more than its quota.
    """
    sure = confidence > threshold
    least = min(least, len(confidence))
    if int(sure.sum()) < least:
        sure = torch.zeros_like(sure)
        sure[confidence.topk(least).indices] = True
    return sure


@torch.no_grad()
def generate(
    model: LLaDA2,
    prompt: Tensor,
    *,
    gen_length: int,
    block_size: int = 32,
    steps: int = 32,
    threshold: float = 0.95,
    temperature: float = 0.0,
    in_order_of: str = "confidence",
    eos_id: int | None = None,
    generator: torch.Generator | None = None,
) -> Sampled:
    """Continue ``prompt`` [P] by at most ``gen_length`` tokens, or to the end sign ``eos_id``.

    Confidence-threshold decoding of arXiv 2512.15745: within a block each pass predicts every masked token and accepts
    the probable ones (at least the pass's quota), so a block takes at most ``steps`` passes. Accepted tokens and the
    prompt never change. ``in_order_of`` "chance" fills the quota from places drawn at random: for a tiny model blanks
    are the most probable, and it writes nothing else if the most probable go first.
    """
    mask_id, start = model.config.mask_token_id, prompt.shape[0]
    steps = min(steps, gen_length)  # as upstream: no block needs more passes than there are tokens to write
    total = -(-(start + gen_length) // block_size) * block_size
    ids = torch.full((total,), mask_id, dtype=torch.long, device=prompt.device)
    ids[:start] = prompt
    unknown = torch.arange(total, device=prompt.device) >= start  # by place: the prompt may hold the mask's id as text
    looks = mask.block_causal(total, block_size, prompt.device)
    positions = torch.arange(total, device=prompt.device)
    forwards, end = 0, start + gen_length
    for left in range(start // block_size * block_size, total, block_size):
        right = left + block_size
        here = torch.arange(left, right, device=prompt.device)
        for least in quota(block_size, steps):
            open_places = here[unknown[left:right]]
            if not len(open_places):
                break
            logits = model(ids[None, :right], positions[:right], looks[:right, :right])[0, open_places]
            forwards += 1
            logits[:, mask_id] = float("-inf")
            tokens, confidence = guess(logits, temperature, generator)
            if in_order_of == "chance":
                chance = torch.rand(len(tokens), generator=generator, device=tokens.device) * threshold
                confidence = torch.where(confidence > threshold, confidence, chance)
            keep = accept(confidence, threshold, least)
            ids[open_places[keep]] = tokens[keep]
            unknown[open_places[keep]] = False
        ends = (ids[max(left, start) : right] == eos_id).nonzero() if eos_id is not None else ids[:0]
        if len(ends):
            end = min(end, max(left, start) + int(ends[0]) + 1)
            break
    return Sampled(ids=ids[:end], written=end - start, forwards=forwards)
