"""Training loss: cross entropy on masked tokens, with the paper's weightings as options."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import Batch


def complement(batch: Batch) -> Batch:
    """Append the mirror of the batch: its mask is the inverse within the response, at noise level 1 - t.

    Complementary masking (arXiv 2512.15745, SFT): each response token is clean exactly once in the pair.
    """
    mirror = batch.maskable & ~batch.masked
    return Batch(
        ids=batch.ids.repeat(2, 1),
        masked=torch.cat((batch.masked, mirror)),
        maskable=batch.maskable.repeat(2, 1),
        t=torch.cat((batch.t, 1 - batch.t)),
    )


def noisy_input(batch: Batch, mask_id: int, clean: bool) -> tuple[Tensor, Tensor]:
    """Return (ids, positions): x_t ‖ x_0 [R, 2L] with 0..L-1 twice, or x_t [R, L] alone without ``clean``."""
    noisy = batch.ids.masked_fill(batch.masked, mask_id)
    positions = torch.arange(noisy.shape[1], device=noisy.device)
    if not clean:
        return noisy, positions
    return torch.cat((noisy, batch.ids), dim=1), positions.repeat(2)


def scorable(mask: Tensor, *, same_token: bool) -> Tensor:
    """Return the tokens of ``mask`` [R, L] that have a prediction: with ``same_token`` false, the first one has none."""
    if same_token:
        return mask
    return torch.cat((torch.zeros_like(mask[:, :1]), mask[:, 1:]), dim=1)


def denominator(batch: Batch, weighting: str, *, same_token: bool = True) -> Tensor:
    """Return what divides the summed loss: scored tokens as upstream does, response tokens under ``inverse_t``."""
    return scorable(batch.masked if weighting == "none" else batch.maskable, same_token=same_token).sum()


def summed_loss(
    logits: Tensor, batch: Batch, *, weighting: str = "none", same_token: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the summed loss of ``logits`` [R, L, V], the scored logits [M, V] in fp32 and their targets [M].

    ``none``: sum of -log p(x0_i) over masked i; divided by their number it is upstream's mean cross entropy.
    ``inverse_t``: each term times 1/t of its row, which is alpha'_t / (1 - alpha_t) for the linear schedule
    alpha_t = 1 - t (arXiv 2512.15745, L_SFT): divided by the response's length, a bound on its negative log likelihood.
    With ``same_token`` false position i predicts token i + 1, as an autoregressive model does.
    """
    masked, ids = batch.masked, batch.ids
    if not same_token:
        logits, masked, ids = logits[:, :-1], masked[:, 1:], ids[:, 1:]
    scored, targets = logits[masked].float(), ids[masked]
    losses = F.cross_entropy(scored, targets, reduction="none")
    if weighting == "inverse_t":
        losses = losses / batch.t[:, None].clamp_min(1e-3).expand_as(masked)[masked]
    return losses.sum(), scored, targets


def confidence(scored: Tensor, targets: Tensor) -> Tensor:
    """Return the mean entropy of the predictions that are already right; 0 if none is.

    CAP, confidence-aware parallel training (arXiv 2512.15745): added times lambda (``confidence_beta``) it sharpens
    what is right, so that sampling may accept more tokens at once. The mean is over one rank's micro-batch, because the
    right guesses are known only after the forward pass, which is too late for a count over all ranks.
    """
    right = scored.argmax(-1) == targets
    log_p = scored.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return (entropy * right).sum() / right.sum().clamp_min(1)


def block_size_at(
    step: int,
    steps: int,
    *,
    schedule: str,
    block: int,
    length: int,
    warmup: Sequence[int],
    decay: Sequence[int],
    warmup_ratio: float,
    decay_ratio: float,
) -> int:
    """Return the block size at ``step`` (from 0) of ``steps``.

    ``constant``: ``block``. ``wsd`` (arXiv 2512.15745, warmup-stable-decay, there 1-4-32-64-4096, 4096, 4096-...-32):
    equal shares of the first ``warmup_ratio`` for the ``warmup`` sizes, then ``length`` (plain masked diffusion), then
    equal shares of the last ``decay_ratio`` for the ``decay`` sizes, or for ``block`` where none are given.
    """
    if schedule == "constant":
        return block
    decay = tuple(decay) or (block,)
    rise, fall = int(steps * warmup_ratio), int(steps * (1 - decay_ratio))
    if step < rise and warmup:
        return warmup[step * len(warmup) // rise]
    if step < fall:
        return length
    return decay[min((step - fall) * len(decay) // max(steps - fall, 1), len(decay) - 1)]
