"""Shape of the model, with the names of llada2_mini's own ``config.json``."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass

from .errors import FieldError, UserError
from .names import read_into

# Written in every such config.json, without a meaning for a model that is trained here from scratch.
IDLE = {
    *("architectures", "auto_map", "model_type", "torch_dtype", "dtype", "transformers_version", "use_cache"),
    *("max_window_layers", "norm_softmax", "norm_head", "use_rmsnorm", "rope_scaling", "rotary_dim"),
    *("using_split_qkv_in_self_attention", "output_router_logits", "bos_token_id", "attention_dropout"),
    *("embedding_dropout", "output_dropout", "use_sliding_window", "sliding_window"),
}
POSITIVE = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "num_experts", "num_experts_per_tok", "moe_intermediate_size"),
    *("n_group", "topk_group", "max_position_embeddings", "rope_theta", "routed_scaling_factor"),
)
NOT_NEGATIVE = ("num_shared_experts", "first_k_dense_replace", "rms_norm_eps", "initializer_range", "qk_norm_init")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """llada2_mini's fields; the last block is ours and makes a model of 145 thousand parameters learn at once."""

    vocab_size: int = 157184
    hidden_size: int = 2048
    intermediate_size: int = 5120
    num_hidden_layers: int = 20
    num_attention_heads: int = 16
    num_key_value_heads: int = 4
    head_dim: int = 128
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    use_bias: bool = False
    use_qkv_bias: bool = False
    use_qk_norm: bool = True
    max_position_embeddings: int = 16384
    rope_theta: float = 600000.0
    partial_rotary_factor: float = 0.5
    tie_word_embeddings: bool = False
    num_experts: int = 256
    num_experts_per_tok: int = 8
    num_shared_experts: int = 1
    moe_intermediate_size: int = 512
    first_k_dense_replace: int = 1
    n_group: int = 8
    topk_group: int = 4
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 2.5
    score_function: str = "sigmoid"
    router_dtype: str = "fp32"
    moe_router_enable_expert_bias: bool = True
    initializer_range: float = 0.02
    pad_token_id: int = 156892
    eos_token_id: int = 156892
    mask_token_id: int = 156895  # upstream has this number in its training script, not in its config

    init_scheme: str = "normal"  # or "fan_in": weights ~ 1/sqrt(fan_in), embeddings ~ 1, head ~ initializer_range
    qk_norm_init: float = 1.0

    @property
    def rotary_dim(self) -> int:
        """Return how many dimensions of a head are rotated: 64 of 128 in llada2_mini."""
        return int(self.head_dim * self.partial_rotary_factor)


def _must(condition: bool, where: str, text: str) -> None:
    if not condition:
        raise UserError(f"{where}: {text}")


def _check(c: ModelConfig, where: str) -> None:
    for name in POSITIVE:
        _must(0 < getattr(c, name) < math.inf, where, f"{name} must be above 0, not {getattr(c, name)}")
    for name in NOT_NEGATIVE:
        _must(0 <= getattr(c, name) < math.inf, where, f"{name} must be at least 0, not {getattr(c, name)}")
    factor = c.partial_rotary_factor
    _must(0 <= factor <= 1, where, f"partial_rotary_factor must be between 0 and 1, not {factor}")
    _must(
        c.num_attention_heads % c.num_key_value_heads == 0,
        where,
        f"num_attention_heads {c.num_attention_heads} is not a multiple of num_key_value_heads {c.num_key_value_heads}",
    )
    _must(
        c.num_experts % c.n_group == 0, where, f"num_experts {c.num_experts} is not a multiple of n_group {c.n_group}"
    )
    _must(c.topk_group <= c.n_group, where, f"topk_group {c.topk_group} is more than n_group {c.n_group}")
    reachable = c.topk_group * c.num_experts // c.n_group
    _must(
        c.num_experts_per_tok <= reachable,
        where,
        f"num_experts_per_tok {c.num_experts_per_tok} is more than the {reachable} experts of topk_group groups",
    )
    _must(c.rotary_dim % 2 == 0, where, f"head_dim x partial_rotary_factor = {c.rotary_dim} must be even")
    _must(c.init_scheme in ("normal", "fan_in"), where, f"init_scheme must be normal or fan_in, not {c.init_scheme!r}")
    fixed = {"hidden_act": "silu", "score_function": "sigmoid", "router_dtype": "fp32", "use_bias": False}
    fixed |= {"use_qkv_bias": False, "use_qk_norm": True, "norm_topk_prob": True, "tie_word_embeddings": False}
    for name, only in fixed.items():
        _must(getattr(c, name) == only, where, f"{name} can only be {only!r} here, not {getattr(c, name)!r}")
    for name in ("pad_token_id", "eos_token_id", "mask_token_id"):
        _must(0 <= getattr(c, name) < c.vocab_size, where, f"{name} {getattr(c, name)} is outside the vocabulary")


def from_dict(values: dict[str, object], where: str) -> tuple[ModelConfig, list[str]]:
    """Return a checked configuration and its warnings; ``where`` names the file in every message."""
    try:
        config, warnings, _ = read_into(ModelConfig, values, "", idle=IDLE)
    except FieldError as error:
        raise UserError(f"{where}: {error}") from None
    _check(config, where)
    return config, [f"{where}: {warning}" for warning in warnings]


def load(path: str) -> tuple[ModelConfig, list[str]]:
    """Reads ``path``: a JSON file, a directory that holds ``config.json``, or either of them without its ``.json``."""
    candidates = [os.path.join(path, "config.json") if os.path.isdir(path) else path, f"{path}.json"]
    found = next((candidate for candidate in candidates if os.path.isfile(candidate)), None)
    if found is None:
        raise UserError(f"model.config_path: no model configuration at {candidates[0]} (from {os.getcwd()})")
    try:
        with open(found, encoding="utf-8") as stream:
            values = json.load(stream)
    except (OSError, ValueError) as error:
        raise UserError(f"{found}: cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{found}: must hold one JSON object")
    return from_dict(values, found)
