"""The mechanics of sampling: everything is filled, nothing changes twice, and the passes are bounded."""

from __future__ import annotations

import math

import pytest
import torch
from llada2 import sampling
from llada2.model import LLaDA2

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


def test_accepted_tokens_never_change() -> None:
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


def naive_decoding(
    model: LLaDA2, prompt: list[int], length: int, block: int, steps: int, threshold: float
) -> tuple[list[int], int]:
    """Return the greedy decoding of the paper, place by place on plain lists: all ids, and the number of passes."""
    total = math.ceil((len(prompt) + length) / block) * block
    steps = min(steps, length)
    ids: list[int | None] = [*prompt, *[None] * (total - len(prompt))]
    passes = 0
    for left in range(len(prompt) // block * block, total, block):
        right = left + block
        looks = torch.tensor([[i // block >= j // block for j in range(right)] for i in range(right)])
        for step in range(steps):
            open_places = [place for place in range(left, right) if ids[place] is None]
            if not open_places:
                break
            known = torch.tensor([257 if token is None else token for token in ids[:right]])
            p = model(known[None], torch.arange(right), looks)[0].double()
            passes += 1
            p[:, 257] = -math.inf
            best = {place: p[place].softmax(-1).max(-1) for place in open_places}
            kept = [place for place in open_places if float(best[place].values) > threshold]
            least = block // steps + (1 if step < block % steps else 0)
            if len(kept) < least:
                kept = sorted(open_places, key=lambda place: -float(best[place].values))[:least]
            for place in kept:
                ids[place] = int(best[place].indices)
    return [token for token in ids if token is not None][: len(prompt) + length], passes


@pytest.mark.parametrize("sharpness", [1.0, 30.0, 200.0])
@pytest.mark.parametrize("prompt_length", [8, 13])
@pytest.mark.parametrize("steps", [8, 3, 2, 20])
@pytest.mark.parametrize(("threshold", "length"), [(0.95, 20), (0.5, 20), (0.95, 3)])
def test_greedy_decoding_equals_the_naive_one(
    sharpness: float, prompt_length: int, steps: int, threshold: float, length: int
) -> None:
    """Also when an early pass accepts more than its quota, so that fewer places than a later quota are open."""
    model = tiny_model(seed=int(sharpness)).eval()
    prompt = list(range(60, 60 + prompt_length))
    with torch.no_grad():
        model.lm_head.weight *= sharpness
        expected, passes = naive_decoding(model, prompt, length, 8, steps, threshold)
    out = sampling.generate(
        model, torch.tensor(prompt), gen_length=length, block_size=8, steps=steps, threshold=threshold
    )
    assert (out.ids.tolist(), out.forwards) == (expected, passes)


def test_quotas_are_even_and_sum_to_the_block_size() -> None:
    assert sampling.quota(8, 3) == [3, 3, 2]
    assert sampling.quota(2, 4) == [1, 1, 0, 0]


def test_the_sure_are_accepted_and_where_they_are_too_few_the_surest() -> None:
    confidence = torch.tensor([0.2, 0.99, 0.5, 0.97])
    assert sampling.accept(confidence, 0.95, 1).tolist() == [False, True, False, True]
    assert sampling.accept(confidence, 0.95, 3).tolist() == [False, True, True, True]
    assert sampling.accept(confidence, 1.0, 1).tolist() == [False, True, False, False]
    assert sampling.accept(confidence[:2], 1.0, 4).tolist() == [True, True]
    assert sampling.accept(confidence, 0.999, 0).tolist() == [False] * 4


def test_temperature_zero_takes_the_most_probable_and_returns_its_probability() -> None:
    tokens, p = sampling.guess(torch.tensor([[0.0, 2.0]]), 0.0, None)
    assert tokens.tolist() == [1]
    torch.testing.assert_close(p, torch.tensor([2.0]).sigmoid())
