"""Attention mask: which token may attend to which."""

from __future__ import annotations

import pytest
from llada2 import mask


@pytest.mark.parametrize(
    ("length", "block", "count"),
    [(64, 8, 4608), (64, 4, 4352), (128, 32, 20480), (96, 16, 10752), (64, 64, 8192), (64, 1, 4160), (60, 8, 4064)],
)
def test_the_training_mask_allows_as_many_pairs_as_upstreams(length: int, block: int, count: int) -> None:
    assert int(mask.block_diffusion(length, block).sum()) == count


def test_the_training_mask_is_the_papers_case_by_case() -> None:
    length, block = 12, 4
    table = mask.block_diffusion(length, block)
    for query in range(2 * length):
        for key in range(2 * length):
            query_block, key_block = query % length // block, key % length // block
            noisy_query, noisy_key = query < length, key < length
            if noisy_query and noisy_key:
                expected = query_block == key_block
            elif noisy_query:
                expected = query_block > key_block
            else:
                expected = not noisy_key and query_block >= key_block
            assert bool(table[query, key]) == expected, (query, key)


def test_sampling_mask_shows_own_and_earlier_blocks() -> None:
    assert mask.block_causal(4, 2).int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
