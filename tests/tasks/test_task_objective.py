"""The objective, worked out by hand beside the code."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from llada2 import objective
from llada2.data import Batch


def batch() -> Batch:
    """Return two rows of four tokens out of a vocabulary of three; position 0 is the prompt."""
    return Batch(
        ids=torch.tensor([[0, 1, 2, 1], [2, 2, 0, 1]]),
        masked=torch.tensor([[0, 1, 0, 1], [0, 0, 1, 0]]).bool(),
        maskable=torch.tensor([[0, 1, 1, 1], [0, 1, 1, 0]]).bool(),
        t=torch.tensor([0.5, 0.25]),
    )


def logits() -> torch.Tensor:
    return torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(3))


def minus_log_p(row: int, position: int, token: int) -> float:
    values: list[float] = logits()[row, position].tolist()
    return math.log(sum(math.exp(v) for v in values)) - values[token]


def test_upstreams_loss_is_the_mean_cross_entropy_of_masked_tokens_at_their_own_place() -> None:
    total, _, _ = objective.summed_loss(logits(), batch())
    by_hand = minus_log_p(0, 1, 1) + minus_log_p(0, 3, 1) + minus_log_p(1, 2, 0)
    assert float(total) == pytest.approx(by_hand, rel=1e-5)
    assert int(objective.denominator(batch(), "none")) == 3


def test_the_papers_weight_is_one_over_t_and_its_sum_is_over_the_response() -> None:
    total, _, _ = objective.summed_loss(logits(), batch(), weighting="inverse_t")
    by_hand = (minus_log_p(0, 1, 1) + minus_log_p(0, 3, 1)) / 0.5 + minus_log_p(1, 2, 0) / 0.25
    assert float(total) == pytest.approx(by_hand, rel=1e-5)
    assert int(objective.denominator(batch(), "inverse_t")) == 5


def test_shifted_labels_are_predicted_by_the_position_before() -> None:
    total, _, _ = objective.summed_loss(logits(), batch(), same_token=False)
    by_hand = minus_log_p(0, 0, 1) + minus_log_p(0, 2, 1) + minus_log_p(1, 1, 0)
    assert float(total) == pytest.approx(by_hand, rel=1e-5)


def test_the_denominator_counts_only_tokens_that_are_scored() -> None:
    """The first token of a row without a prompt may be masked, but no position before it predicts it."""
    whole = batch()
    whole = replace(whole, masked=whole.masked | (torch.arange(4) == 0), maskable=torch.ones(2, 4).bool())
    for same_token, masked, response in ((True, 5, 8), (False, 3, 6)):
        _, scored, _ = objective.summed_loss(logits(), whole, same_token=same_token)
        assert len(scored) == masked
        assert int(objective.denominator(whole, "none", same_token=same_token)) == masked
        assert int(objective.denominator(whole, "inverse_t", same_token=same_token)) == response


def test_complementary_masks_make_each_response_token_clean_exactly_once() -> None:
    pair = objective.complement(batch())
    first, second = pair.masked.chunk(2)
    assert torch.equal(first ^ second, batch().maskable)
    assert not (first & second).any()
    assert pair.t.tolist() == [0.5, 0.25, 0.5, 0.75]


def test_confidence_is_the_mean_entropy_of_right_guesses_alone() -> None:
    scored = torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    value = objective.confidence(scored, torch.tensor([0, 0]))
    p = [math.exp(2) / (math.exp(2) + 2), 1 / (math.exp(2) + 2), 1 / (math.exp(2) + 2)]
    assert float(value) == pytest.approx(-sum(x * math.log(x) for x in p), rel=1e-5)
    assert float(objective.confidence(scored, torch.tensor([1, 0]))) == 0.0


def test_the_models_input_is_the_noisy_text_then_the_clean_one_with_positions_twice() -> None:
    ids, positions = objective.noisy_input(batch(), 9, clean=True)
    assert ids[0].tolist() == [0, 9, 2, 9, 0, 1, 2, 1]
    assert positions.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    alone, positions = objective.noisy_input(batch(), 9, clean=False)
    assert alone[1].tolist() == [2, 2, 9, 1]
    assert positions.tolist() == [0, 1, 2, 3]


def test_the_block_schedule_rises_stays_and_decays() -> None:
    def sizes(schedule: str) -> list[int]:
        return [
            objective.block_size_at(
                step,
                10,
                schedule=schedule,
                block=8,
                length=64,
                warmup=(1, 4),
                decay=(32, 8),
                warmup_ratio=0.4,
                decay_ratio=0.4,
            )
            for step in range(10)
        ]

    assert sizes("wsd") == [1, 1, 4, 4, 64, 64, 32, 32, 8, 8]
    assert sizes("constant") == [8] * 10
