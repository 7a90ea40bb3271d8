"""Score on held-out text, beside the simplest baseline: the frequency of each token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import objective
from .data import Examples, noisy, unigram
from .parallel import bare, precision
from .sections import Config
from .world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Nats per masked token: the model's, and that of token frequencies alone."""

    val_nll: float
    unigram_nll: float

    @property
    def ratio(self) -> float:
        """Return val_nll / unigram_nll: below 1 the model knows more than frequencies."""
        return self.val_nll / self.unigram_nll


@torch.no_grad()
def evaluate(
    model: nn.Module,
    examples: Examples,
    train_rows: Tensor,
    rows: Tensor,
    mask: Tensor | None,
    config: Config,
    world: World,
) -> Score:
    """Return the score on ``rows`` at noise ``data.val_noise``, with equal masks for any number of ranks and each call.

    Every rank does the same number of rounds (FSDP needs all of them); in the last one some rows may count nothing.
    """
    generator = torch.Generator().manual_seed(config.train.seed + 7)
    noise = torch.rand(len(rows), examples.ids.shape[1], generator=generator)
    share = 16
    surprise = unigram(examples, train_rows, bare(model).config.vocab_size)
    sums = [0.0, 0.0, 0.0]
    model.eval()
    for start in range(0, len(rows), share * world.size):
        index = torch.arange(start + world.rank * share, start + (world.rank + 1) * share)
        real = index < len(rows)
        index = index.clamp_max(len(rows) - 1)
        t = torch.full((share,), config.data.val_noise) * real
        batch = noisy(examples, rows[index], t, noise[index])
        scored = objective.scorable(batch.masked, same_token=config.train.same_token_labels)
        sums[1] += float(surprise[batch.ids[scored]].sum())
        sums[2] += float(scored.sum())
        batch = batch.to(world.device)
        ids, positions = objective.noisy_input(batch, bare(model).config.mask_token_id, clean=mask is not None)
        with precision(config, world):
            logits = model(ids, positions, mask, batch.ids.shape[1])
        loss, _, _ = objective.summed_loss(logits, batch, same_token=config.train.same_token_labels)
        sums[0] += float(loss)
    model.train()
    nll, plain, count = world.total(sums)
    return Score(val_nll=nll / max(count, 1), unigram_nll=plain / max(count, 1))
