"""Examples in memory, and batches that are a pure function of (seed, step): any rank can draw any step anew."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from . import text
from .errors import UserError
from .sections import Config
from .tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """``ids`` [N, L], padded with the pad token; positions from ``start`` [N] up to ``end`` [N] may be masked."""

    ids: Tensor
    start: Tensor
    end: Tensor
    digest: str

    def __len__(self) -> int:
        return self.ids.shape[0]

    def maskable(self, rows: Tensor) -> Tensor:
        """Return bool [len(rows), L]: true for the response, never for the prompt."""
        position = torch.arange(self.ids.shape[1])
        return (position >= self.start[rows, None]) & (position < self.end[rows, None])


def read(config: Config, tokenizer: Tokenizer, vocab_size: int) -> Examples:
    """Return all text of ``config.data`` as examples of ids below ``vocab_size``, with one SHA-256 over all of them."""
    data, length = config.data, config.data.max_seq_len
    if data.train_path == "pydoc":
        pairs = text.pydoc_pairs(tokenizer, length)
    elif data.data_type == "plaintext":
        pairs = text.plain_pairs(tokenizer, data.train_path, length)
    elif data.data_type == "tokenid":
        pairs = text.token_pairs(data.train_path, data.text_keys, vocab_size)
    else:
        pairs = text.chat_pairs(tokenizer, data.train_path, data.text_keys)
    return pack(list(pairs), length, config.train.block_size, tokenizer.pad, data.pad_in_loss, data.train_path)


def pack(pairs: list[text.Pair], length: int, block: int, pad: int, pad_in_loss: bool, where: str) -> Examples:
    """Pad and truncate pairs to ``length``.

    The response's end is rounded up to a whole block (the paper's "quantised" effective length): the padding within
    the last block is learnt, the rest is outside the loss, and no position before it attends to it. With ``pad_in_loss`` all padding may be masked, as upstream does.
    """
    ids, start, end = array("i"), array("i"), array("i")
    for prompt, response in pairs:
        row = (prompt + response)[:length]
        if len(prompt) >= length:
            continue  # nothing of the response fits
        start.append(len(prompt))
        end.append(length if pad_in_loss else min(length, -(-len(row) // block) * block))
        ids.extend(row + [pad] * (length - len(row)))
    if len(start) < 2:
        raise UserError(
            f"data.train_path {where}: {len(start)} usable examples at max_seq_len {length}; wants 2 or more"
        )
    digest = hashlib.sha256(ids.tobytes() + start.tobytes() + end.tobytes()).hexdigest()
    rows, starts, ends = (torch.frombuffer(part, dtype=torch.int32) for part in (ids, start, end))
    return Examples(ids=rows.view(-1, length), start=starts, end=ends, digest=digest)


def split(count: int, fraction: float, most: int) -> tuple[Tensor, Tensor]:
    """Return (training rows, validation rows): every 1/fraction-th row is held out, at most ``most`` are measured."""
    stride = max(2, round(1 / fraction))
    held_out = torch.arange(count) % stride == stride - 1
    held_out[-1] |= not held_out.any()
    return torch.nonzero(~held_out).flatten(), torch.nonzero(held_out).flatten()[:most]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Clean ``ids`` [R, L]; ``masked`` bool [R, L]; the noise level ``t`` [R]; ``maskable`` bool [R, L]."""

    ids: Tensor
    masked: Tensor
    maskable: Tensor
    t: Tensor

    def rows(self, start: int, stop: int) -> Batch:
        """Return the rows ``start`` to ``stop``."""
        cut = slice(start, stop)
        return Batch(ids=self.ids[cut], masked=self.masked[cut], maskable=self.maskable[cut], t=self.t[cut])

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on ``device``."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in self.__slots__}
        return Batch(**moved)


class Steps(Dataset[Batch]):
    """``self[step]`` is this rank's slice of the global batch of that step.

    Every rank draws the noise of the whole global batch from a generator seeded by (seed, step), then keeps its own
    rows: the batch does not depend on the number of ranks, and a resumed run needs no generator state.
    """

    def __init__(self, examples: Examples, rows: Tensor, config: Config, batch: int, rank: int, world: int) -> None:
        self.examples, self.rows = examples, rows
        self.low, self.high = config.data.noise_range_low, config.data.noise_range_high
        self.seed, self.batch, self.rank, self.world = config.train.seed, batch, rank, world
        self._order: tuple[int, Tensor] = (-1, rows)

    @property
    def per_epoch(self) -> int:
        """Return the number of whole global batches in one pass over the training rows."""
        return len(self.rows) // self.batch

    def _epoch(self, epoch: int) -> Tensor:
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._order = epoch, self.rows[torch.randperm(len(self.rows), generator=generator)]
        return self._order[1]

    def __getitem__(self, step: int) -> Batch:
        epoch, place = divmod(step, self.per_epoch)
        rows = self._epoch(epoch)[place * self.batch : (place + 1) * self.batch]
        generator = torch.Generator().manual_seed((self.seed + 1) * 1_000_003 + step)
        t = self.low + (self.high - self.low) * torch.rand(self.batch, generator=generator)
        noise = torch.rand(self.batch, self.examples.ids.shape[1], generator=generator)
        share = self.batch // self.world
        mine = slice(self.rank * share, (self.rank + 1) * share)
        return noisy(self.examples, rows[mine], t[mine], noise[mine])


def noisy(examples: Examples, rows: Tensor, t: Tensor, noise: Tensor) -> Batch:
    """Mask each position of the response with probability ``t`` (row by row, by uniform ``noise`` [R, L])."""
    maskable = examples.maskable(rows)
    return Batch(ids=examples.ids[rows].long(), masked=maskable & (noise < t[:, None]), maskable=maskable, t=t)


def unigram(examples: Examples, rows: Tensor, vocab: int) -> Tensor:
    """Return -log p [vocab] of the response tokens of ``rows``, with one added to every count."""
    seen = examples.ids[rows][examples.maskable(rows)]
    counts = torch.bincount(seen.long(), minlength=vocab).double() + 1
    return -(counts / counts.sum()).log()
