"""Shape of the model, with the names of llada2_mini's own ``config.json``."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .errors import FieldError, UserError
from .names import read_into, refuse_others

# Written in every such config.json; no value of these changes the model.
BOOKKEEPING = {
    *("architectures", "auto_map", "torch_dtype", "dtype", "transformers_version", "use_cache", "max_window_layers"),
    *("output_router_logits", "bos_token_id", "sliding_window"),
}
# Fields that would make another model: the values that this trainer computes, and the reason why there are no others.
_OTHER_NORMS = "this model has RMSNorm before each layer and a plain head"
_NO_DROPOUT = "this model has no dropout"
_NO_SCALING = "this model rotates by rope_theta alone, and a scaled rotation is another model"
ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "model_type": (("llada2_moe_veomni", "llada2_moe"), "this trainer trains LLaDA2 only"),
    "rope_scaling": ((None, {"rope_type": "default"}, {"type": "default"}), _NO_SCALING),
    "rope_parameters": ((None,), "write rope_theta and partial_rotary_factor"),
    **dict.fromkeys(["attention_dropout", "embedding_dropout", "output_dropout"], ((0.0, None), _NO_DROPOUT)),
    **dict.fromkeys(["norm_head", "norm_softmax"], ((False,), _OTHER_NORMS)),
    "use_rmsnorm": ((True,), _OTHER_NORMS),
    "use_sliding_window": ((False,), "every position attends to its block and all blocks before it"),
    "using_split_qkv_in_self_attention": ((False,), "weights of queries, keys and values are one tensor in a file"),
    "hidden_act": (("silu",), "experts are SwiGLU"),
    "score_function": (("sigmoid",), "the router has no other score"),
    "router_dtype": (("fp32",), "the router computes in fp32"),
    **dict.fromkeys(["use_bias", "use_qkv_bias"], ((False,), "no projection has a bias")),
    "use_qk_norm": ((True,), "queries and keys are normalised"),
    "norm_topk_prob": ((True,), "the weights of the chosen experts are normalised"),
    "moe_router_enable_expert_bias": ((True,), "the bias is part of the weights"),
    "tie_word_embeddings": ((False,), "embedding and head are two weights"),
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
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 16384
    rope_theta: float = 600000.0
    partial_rotary_factor: float = 0.5
    num_experts: int = 256
    num_experts_per_tok: int = 8
    num_shared_experts: int = 1
    moe_intermediate_size: int = 512
    first_k_dense_replace: int = 1
    n_group: int = 8
    topk_group: int = 4
    routed_scaling_factor: float = 2.5
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


def _must(condition: bool, field: str, text: str) -> None:
    if not condition:
        raise FieldError(field, text)


def _check(c: ModelConfig) -> None:
    """Raise FieldError for the first value that makes no model."""
    for name in POSITIVE:
        _must(0 < getattr(c, name) < math.inf, name, f"must be above 0, not {getattr(c, name)}")
    for name in NOT_NEGATIVE:
        _must(0 <= getattr(c, name) < math.inf, name, f"must be at least 0, not {getattr(c, name)}")
    factor = c.partial_rotary_factor
    _must(0 <= factor <= 1, "partial_rotary_factor", f"must be between 0 and 1, not {factor}")
    _check_divisors(c)
    even = c.rotary_dim % 2 == 0
    _must(even, "partial_rotary_factor", f"x head_dim = {c.rotary_dim} dimensions are rotated, which must be even")
    _must(c.init_scheme in ("normal", "fan_in"), "init_scheme", f"must be normal or fan_in, not {c.init_scheme!r}")
    for name in ("pad_token_id", "eos_token_id", "mask_token_id"):
        inside = 0 <= getattr(c, name) < c.vocab_size
        _must(inside, name, f"{getattr(c, name)} is outside the vocabulary of {c.vocab_size} tokens")


def _check_divisors(c: ModelConfig) -> None:
    heads, kv_heads, groups = c.num_attention_heads, c.num_key_value_heads, c.n_group
    _must(heads % kv_heads == 0, "num_attention_heads", f"{heads} is not a multiple of num_key_value_heads {kv_heads}")
    _must(c.num_experts % groups == 0, "num_experts", f"{c.num_experts} is not a multiple of n_group {groups}")
    _must(c.topk_group <= groups, "topk_group", f"{c.topk_group} is more than n_group {groups}")
    reachable = c.topk_group * c.num_experts // groups
    chosen = c.num_experts_per_tok
    _must(
        chosen <= reachable,
        "num_experts_per_tok",
        f"{chosen} is more than the {reachable} experts of topk_group groups",
    )


def _check_rotary_dim(config: ModelConfig, values: Mapping[str, object]) -> None:
    """Verify ``rotary_dim``, which repeats what partial_rotary_factor means."""
    given = values.get("rotary_dim")
    right = given is None or given == config.rotary_dim
    _must(right, "rotary_dim", f"{given} is not head_dim x partial_rotary_factor = {config.rotary_dim}")


def from_dict(
    values: Mapping[str, object], where: str, lines: Mapping[str, int] | None = None
) -> tuple[ModelConfig, list[str]]:
    """Return a checked configuration and its warnings; ``where`` names the file in every message."""
    try:
        known = (*BOOKKEEPING, *ONLY, "rotary_dim")
        config, warnings, _ = read_into(ModelConfig, values, "", idle=known)
        for name in ONLY.keys() & values.keys():
            refuse_others(name, values[name], *ONLY[name])
        _check_rotary_dim(config, values)
        _check(config)
    except FieldError as error:
        line = (lines or {}).get(error.field)
        raise UserError(f"{where}{f':{line}' if line else ''}: {error}") from None
    return config, [f"{where}: {warning}" for warning in warnings]


def to_dict(config: ModelConfig, dtype: str) -> dict[str, object]:
    """Return the contents of a ``config.json`` that upstream reads too; the tensors beside it have ``dtype``."""
    ours = {"init_scheme", "qk_norm_init"}
    shape = {name: value for name, value in asdict(config).items() if name not in ours}
    fixed = {name: allowed[0] for name, (allowed, _) in ONLY.items() if allowed[0] is not None}
    return {"architectures": ["LLaDA2MoeModelLM"], **fixed, **shape, "torch_dtype": dtype, "use_cache": False}


def find_file(path: str) -> str:
    """Return the file that ``path`` names: a JSON file, a directory that holds ``config.json``, or without ``.json``."""
    candidates = [os.path.join(path, "config.json") if os.path.isdir(path) else path, f"{path}.json"]
    found = next((candidate for candidate in candidates if os.path.isfile(candidate)), None)
    if found is None:
        raise UserError(f"model.config_path: no model configuration at {candidates[0]} (from {os.getcwd()})")
    return found


def load(path: str) -> tuple[ModelConfig, list[str]]:
    """Read the shape at ``path`` (see ``find_file``); return it and its warnings."""
    found = find_file(path)
    try:
        with open(found, encoding="utf-8") as stream:
            text = stream.read()
        values = json.loads(text)
    except (OSError, ValueError) as error:
        raise UserError(f"{found}: cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{found}: must hold one JSON object")
    numbered = list(enumerate(text.splitlines(), 1))
    lines = {name: next((number for number, line in numbered if f'"{name}"' in line), 0) for name in values}
    return from_dict(values, found, lines)
