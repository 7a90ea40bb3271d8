"""Names and shapes of the weights in a Hugging Face folder of LLaDA2, against those of this model.

Upstream's file has one tensor ``query_key_value`` for the three projections here, and other names for three weights.
Its experts are stacked as here (``merged``), or one tensor for each expert (``split``, as the published weights are).
"""

from __future__ import annotations

import re

import torch

from .model import LLaDA2
from .model_config import ModelConfig

Shape = tuple[int, ...]
_RENAMED = {
    "attention.o_proj.": "attention.dense.",
    "attention.q_norm.": "attention.query_layernorm.",
    "attention.k_norm.": "attention.key_layernorm.",
}
_MERGED = re.compile(r"(.*\.mlp\.experts)\.(gate_proj|up_proj|down_proj)")
_SPLIT = re.compile(r"(.*\.mlp\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight")


def file_name(name: str, config: ModelConfig) -> tuple[str, int]:
    """Return the name in a file of this model's weight ``name``, and the row of that tensor where it begins."""
    head, queries, keys = config.head_dim, config.num_attention_heads, config.num_key_value_heads
    first = 0
    for part, row in (("q_proj", 0), ("k_proj", queries * head), ("v_proj", (queries + keys) * head)):
        if f"attention.{part}." in name:
            name, first = name.replace(part, "query_key_value"), row
    for ours, theirs in _RENAMED.items():
        name = name.replace(ours, theirs)
    return (name if name.startswith("lm_head.") else f"model.{name}"), first


def layout(config: ModelConfig) -> dict[str, list[str]]:
    """Return the tensors of a merged folder in order, each with the weights of this model that are its rows."""
    found: dict[str, list[str]] = {}
    for name in our_shapes(config):
        found.setdefault(file_name(name, config)[0], []).append(name)
    return found


def merged_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Return the shape of each tensor of a merged folder."""
    shapes = our_shapes(config)
    return {
        name: (sum(shapes[part][0] for part in parts), *shapes[parts[0]][1:]) for name, parts in layout(config).items()
    }


def our_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Return the shape of each weight of this model."""
    with torch.device("meta"):
        return {name: tuple(weight.shape) for name, weight in LLaDA2(config).state_dict().items()}


def split_names(name: str, count: int) -> list[str]:
    """Return the names of the ``count`` experts that a merged tensor is split into; none for another tensor."""
    match = _MERGED.fullmatch(name)
    return [f"{match[1]}.{expert}.{match[2]}.weight" for expert in range(count)] if match else []


def merged_name(name: str) -> tuple[str, int] | None:
    """Return the merged tensor of one expert's weight, and the expert's row in it; None for another tensor."""
    match = _SPLIT.fullmatch(name)
    return (f"{match[1]}.{match[3]}", int(match[2])) if match else None
