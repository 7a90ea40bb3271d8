"""The laws of the model: its size, its router, and that its kernels agree."""

from __future__ import annotations

import pytest
import torch
from llada2 import mask, model_config
from llada2.attention import RMSNorm, rotate, rotation
from llada2.errors import UserError
from llada2.model import LLaDA2, active_parameter_count, parameter_count
from llada2.moe import Router, why_not_grouped
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from tests.tasks.task_places import MID, MINI
from tests.tasks.task_shapes import tiny_model, tiny_shape


def inputs(length: int = 32, rows: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, 256, (rows, 2 * length), generator=torch.Generator().manual_seed(1))
    return ids, torch.arange(length).repeat(2), mask.block_diffusion(length, 8)


def block_mask() -> BlockMask:
    """Return the mask of ``inputs`` in FlexAttention's form."""
    return create_block_mask(lambda b, h, q, k: mask.allowed(q, k, 32, 8), None, None, 64, 64, device="cpu")


def test_the_tiny_model_has_144512_parameters() -> None:
    assert parameter_count(tiny_model()) == 144_512


def test_llada2_mini_has_its_16_billion_parameters_and_needs_no_memory_on_the_meta_device() -> None:
    shape, warnings = model_config.load(MINI)
    with torch.device("meta"):
        model = LLaDA2(shape)
    assert warnings == []
    assert parameter_count(model) == 16_255_638_528
    assert active_parameter_count(model) == 1_111_055_360
    assert model.layers[1].mlp.experts.gate_proj.shape == (256, 512, 2048)  # type: ignore[union-attr]


def test_the_configuration_for_a_gpu_has_about_a_hundred_million_parameters() -> None:
    shape, warnings = model_config.load(MID)
    with torch.device("meta"):
        count = parameter_count(LLaDA2(shape))
    assert warnings == []
    assert 95e6 < count < 110e6


@pytest.mark.parametrize("options", [{"attention": "eager"}, {"moe": "fused"}, {"attention": "flex_attention"}])
def test_every_kernel_gives_the_same_logits(options: dict[str, str]) -> None:
    ids, positions, look = inputs()
    with torch.no_grad():
        expected = tiny_model()(ids, positions, look)
        if "flex_attention" in options.values():
            with pytest.warns(UserWarning, match="flex_attention called without torch.compile"):
                found = tiny_model(0, **options)(ids, positions, block_mask())
        else:
            found = tiny_model(0, **options)(ids, positions, look)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "flex_attention"])
def test_a_fused_layer_is_traced_whole_and_gives_what_it_gives_untraced(attention: str) -> None:
    """What torch.compile sees is one graph without breaks; the grouped product is checked there as in bf16."""
    torch._dynamo.reset()
    layer, plain = (tiny_model(moe="fused", attention=name).layers[1] for name in (attention, "sdpa"))
    _, positions, look = inputs()
    x = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(1))
    cos, sin = rotation(positions, 8, 100.0)
    traced = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        seen = block_mask() if attention == "flex_attention" else look
        torch.testing.assert_close(traced(x, cos, sin, seen), plain(x, cos, sin, look), rtol=5e-2, atol=5e-2)


def test_experts_of_an_unsupported_size_are_reported_with_torchs_reason() -> None:
    """Its rows must be multiples of 16 bytes, and there may be other reasons on other devices."""
    assert why_not_grouped(tiny_shape(), torch.device("cpu")) == ""
    assert "multiple of 16 bytes" in why_not_grouped(tiny_shape(moe_intermediate_size=66), torch.device("cpu"))


def test_checkpointed_activations_change_no_gradient() -> None:
    ids, positions, look = inputs()
    norms = []
    for gradient_checkpointing in (False, True):
        model = tiny_model(gradient_checkpointing=gradient_checkpointing)
        torch.autograd.backward(model(ids, positions, look, 32).logsumexp(-1).sum())
        norms.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(norms[0], norms[1])


def test_a_noisy_block_attends_to_neither_its_clean_copy_nor_later_blocks() -> None:
    """Otherwise the answer could be read off: the loss would fall for nothing."""
    ids, positions, look = inputs()
    other = ids.clone()
    other[:, 32 + 8 :] = 7  # clean blocks 1, 2, 3
    other[:, 16:32] = 9  # noisy blocks 2, 3
    model = tiny_model()
    with torch.no_grad():
        before, after = model(ids, positions, look, 32), model(other, positions, look, 32)
    torch.testing.assert_close(before[:, :16], after[:, :16])
    assert not torch.allclose(before[:, 16:], after[:, 16:])


def test_training_sees_each_noisy_block_just_as_sampling_will_behind_its_clean_past() -> None:
    """One pass over x_t ‖ x_0 gives the logits of a pass for each block: clean text before it, nothing after it."""
    clean = torch.randint(0, 256, (1, 32), generator=torch.Generator().manual_seed(1))
    noisy = clean.masked_fill(torch.rand(1, 32, generator=torch.Generator().manual_seed(2)) < 0.5, 257)
    model, positions = tiny_model(), torch.arange(32)
    with torch.no_grad():
        at_once = model(torch.cat((noisy, clean), 1), positions.repeat(2), mask.block_diffusion(32, 8), 32)
        for left in range(0, 32, 8):
            right = left + 8
            alone = model(
                torch.cat((clean[:, :left], noisy[:, left:right]), 1), positions[:right], mask.block_causal(right, 8)
            )
            torch.testing.assert_close(at_once[:, left:right], alone[:, left:])


def test_only_the_asked_positions_are_scored() -> None:
    ids, positions, look = inputs()
    with torch.no_grad():
        assert tiny_model()(ids, positions, look, 32).shape == (2, 32, 260)


def router(**changes: object) -> Router:
    gate = Router(tiny_shape(**{"num_experts": 8, "n_group": 4, "topk_group": 2, "hidden_size": 8} | changes))
    with torch.no_grad():
        gate.weight.copy_(torch.eye(8))
    return gate


def test_a_routers_weights_are_normalised_sigmoids_times_the_scaling_factor() -> None:
    x = torch.tensor([[4.0, 3.0, 0, 0, 2.0, 1.0, 0, 0]])
    experts, weights = router()(x)
    assert experts.tolist() == [[0, 1]]
    best = torch.tensor([4.0, 3.0]).sigmoid()
    torch.testing.assert_close(weights[0], best / best.sum() * 2.5)


def test_a_router_chooses_groups_by_their_two_best_and_experts_within_them() -> None:
    """Expert 0 is the best of all, but its group (0, 1) is worth less than groups (2, 3) and (4, 5)."""
    x = torch.tensor([[5.0, -9, 3.0, 2.9, 2.0, 2.0, -9, -9]])
    assert sorted(router()(x)[0][0].tolist()) == [2, 3]
    assert sorted(router(topk_group=4)(x)[0][0].tolist()) == [0, 2]


def test_the_expert_bias_moves_the_choice_and_never_the_weight() -> None:
    x = torch.tensor([[1.0, 0.5, 0, 0, 0, 0, 0, 0]])
    gate = router(topk_group=4)
    gate.expert_bias[7] = 10.0
    experts, weights = gate(x)
    assert sorted(experts[0].tolist()) == [0, 7]
    chosen = torch.stack([x[0, e].sigmoid() for e in experts[0]])
    torch.testing.assert_close(weights[0], chosen / chosen.sum() * 2.5)


def test_the_router_works_in_fp32_even_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, weights = router()(torch.randn(3, 8, dtype=torch.bfloat16))
    assert weights.dtype == torch.float32


def test_rotation_turns_part_of_a_head_and_scores_depend_on_distance_alone() -> None:
    query, key = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)
    cos, sin = rotation(torch.arange(20), 8, 100.0)
    turned = rotate(query.expand(1, 1, 20, 16), cos, sin)
    torch.testing.assert_close(turned[..., 8:], query[..., 8:].expand(1, 1, 20, 8))
    scores = turned @ rotate(key.expand(1, 1, 20, 16), cos, sin).transpose(-1, -2)
    torch.testing.assert_close(scores[0, 0, 3, 1], scores[0, 0, 13, 11])
    assert not torch.allclose(scores[0, 0, 3, 1], scores[0, 0, 3, 2])


def test_rmsnorm_is_x_over_its_root_mean_square() -> None:
    x = torch.tensor([3.0, 4.0])
    torch.testing.assert_close(RMSNorm(2, 0.0)(x), x / (12.5**0.5))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
        ({"n_group": 3}, "num_experts 4 is not a multiple of n_group 3"),
        ({"mask_token_id": 260}, "mask_token_id 260 is outside the vocabulary"),
        ({"hidden_act": "gelu"}, "hidden_act can only be silu here, not gelu: experts are SwiGLU"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok 9 is more than the 4 experts"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor must be between 0 and 1, not 1.5"),
        ({"num_shared_experts": -1}, "num_shared_experts must be at least 0, not -1"),
        ({"rope_theta": float("nan")}, "rope_theta must be above 0, not nan"),
        ({"hidden_size": "wide"}, "hidden_size must be a whole number, not 'wide'"),
    ],
)
def test_impossible_model_shape_is_refused_in_one_line(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as caught:
        tiny_shape(**changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
