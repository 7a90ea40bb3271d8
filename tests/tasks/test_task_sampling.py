"""The mechanics of sampling: everything is filled, nothing changes twice, and the passes are bounded."""

from __future__ import annotations

import pytest
import torch
from llada2 import sampling

from tests.tasks.task_shapes import tiny_model

PROMPT = torch.tensor([258, *b"assert", 259])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("order", ["confidence", "chance"])
@pytest.mark.parametrize(("gen_length", "steps"), [(24, 8), (21, 3), (1, 1), (40, 100)])
def test_all_masks_are_filled_the_prompt_is_kept_and_passes_stay_below_steps_times_blocks(
    temperature: float, order: str, gen_length: int, steps: int
) -> None:
    model = tiny_model().eval()
    out = sampling.generate(
        model,
        PROMPT,
        gen_length=gen_length,
        block_size=8,
        steps=steps,
        temperature=temperature,
        in_order_of=order,
        generator=torch.Generator().manual_seed(1),
    )
    blocks = -(-(len(PROMPT) + gen_length) // 8) - len(PROMPT) // 8
    assert torch.equal(out.ids[: len(PROMPT)], PROMPT)
    assert len(out.ids) == len(PROMPT) + gen_length
    assert not (out.ids == 257).any()
    assert out.forwards <= min(steps, 8) * blocks
    assert out.tokens_per_forward == gen_length / out.forwards


def test_a_threshold_of_zero_fills_a_block_in_one_pass() -> None:
    out = sampling.generate(tiny_model().eval(), PROMPT, gen_length=16, block_size=8, steps=8, threshold=0.0)
    assert out.forwards == 2
    assert out.tokens_per_forward == 8


def test_what_is_accepted_never_changes() -> None:
    model = tiny_model().eval()
    seen: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0][0].clone()))
    out = sampling.generate(model, PROMPT, gen_length=24, block_size=8, steps=8)
    for ids in (*seen, out.ids):
        known = ids != 257
        upto = min(len(ids), len(out.ids))
        assert torch.equal(ids[:upto][known[:upto]], out.ids[:upto][known[:upto]])


def test_sampling_stops_at_the_end_sign() -> None:
    model = tiny_model().eval()
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[256] = 1e3 * model.norm.weight
    with torch.no_grad():
        logits = model(PROMPT[None], torch.arange(len(PROMPT)), None)
        model.lm_head.weight[256] *= logits[0, -1, 256].sign()
    out = sampling.generate(model, PROMPT, gen_length=64, block_size=8, steps=1, eos_id=256)
    assert out.ids[-1] == 256
    assert out.written < 64
    assert not (out.ids[:-1] == 256).any()


def test_quotas_are_even_and_sum_to_what_is_masked() -> None:
    assert sampling.quota(8, 3) == [3, 3, 2]
    assert sampling.quota(2, 4) == [1, 1, 0, 0]


def test_the_sure_are_accepted_and_where_they_are_too_few_the_surest() -> None:
    confidence = torch.tensor([0.2, 0.99, 0.5, 0.97])
    assert sampling.accept(confidence, 0.95, 1).tolist() == [False, True, False, True]
    assert sampling.accept(confidence, 0.95, 3).tolist() == [False, True, True, True]
    assert sampling.accept(confidence, 1.0, 1).tolist() == [False, True, False, False]


def test_temperature_zero_takes_the_most_probable_and_returns_its_probability() -> None:
    tokens, p = sampling.guess(torch.tensor([[0.0, 2.0]]), 0.0, None)
    assert tokens.tolist() == [1]
    torch.testing.assert_close(p, torch.tensor([2.0]).sigmoid())
