"""LLaDA2 written out in loops, from tensors with upstream's names: the reference for weights that are imported."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

Tensors = dict[str, Tensor]


def make_tensors(values: dict[str, Any], *, split: bool, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Tensors:
    """Return random weights under upstream's names for a model of the ``config.json`` ``values``."""
    c, found = values, {}
    generator = torch.Generator().manual_seed(seed)
    size, inner, head = c["hidden_size"], c["moe_intermediate_size"], c["head_dim"]
    heads = c["num_attention_heads"] + 2 * c["num_key_value_heads"]

    def add(name: str, *shape: int, around: float = 0.0) -> None:
        found[name] = (around + torch.randn(shape, generator=generator) / math.sqrt(shape[-1])).to(dtype)

    add("model.word_embeddings.weight", c["vocab_size"], size)
    for number in range(c["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        for norm, length in (("input_layernorm", size), ("post_attention_layernorm", size)):
            add(f"{layer}.{norm}.weight", length, around=1.0)
        for norm in ("query_layernorm", "key_layernorm"):
            add(f"{layer}.attention.{norm}.weight", head, around=1.5)
        add(f"{layer}.attention.query_key_value.weight", heads * head, size)
        add(f"{layer}.attention.dense.weight", size, c["num_attention_heads"] * head)
        if number < c["first_k_dense_replace"]:
            add_mlp(add, f"{layer}.mlp", size, c["intermediate_size"])
            continue
        add(f"{layer}.mlp.gate.weight", c["num_experts"], size)
        add(f"{layer}.mlp.gate.expert_bias", c["num_experts"])
        add_mlp(add, f"{layer}.mlp.shared_experts", size, inner * c["num_shared_experts"])
        for expert in range(c["num_experts"]):
            add_mlp(add, f"{layer}.mlp.experts.{expert}", size, inner)
        if not split:
            merge(found, f"{layer}.mlp.experts", c["num_experts"])
    add("model.norm.weight", size, around=1.0)
    add("lm_head.weight", c["vocab_size"], size)
    return found


def add_mlp(add: Any, name: str, size: int, inner: int) -> None:
    """Add the three matrices of a SwiGLU."""
    add(f"{name}.gate_proj.weight", inner, size)
    add(f"{name}.up_proj.weight", inner, size)
    add(f"{name}.down_proj.weight", size, inner)


def merge(tensors: Tensors, name: str, count: int) -> None:
    """Stack the experts of one layer, as upstream's converter does."""
    for part in ("gate_proj", "up_proj", "down_proj"):
        tensors[f"{name}.{part}"] = torch.stack([tensors.pop(f"{name}.{i}.{part}.weight") for i in range(count)])


def write_folder(path: Path, values: dict[str, Any], tensors: Tensors, files: int = 1) -> str:
    """Write a Hugging Face folder: ``config.json``, and the tensors in one file or in several with an index."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(values, indent=1))
    if files == 1:
        save_file(tensors, path / "model.safetensors")
        return str(path)
    places = {name: f"model-{i % files + 1:05}-of-{files:05}.safetensors" for i, name in enumerate(tensors)}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in places if places[name] == file}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return str(path)


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return x / rms(x) * weight."""
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def swiglu(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    """Return down(silu(gate x) * up x)."""
    gate, up, down = (tensors[f"{name}.{part}.weight"] for part in ("gate_proj", "up_proj", "down_proj"))
    return down @ (torch.nn.functional.silu(gate @ x) * (up @ x))


def rotate(x: Tensor, position: int, size: int, theta: float) -> Tensor:
    """Rotate the pairs (i, i + size/2) of the first ``size`` dimensions of x by position / theta^(2i/size)."""
    out = x.clone()
    for i in range(size // 2):
        angle = position / theta ** (2 * i / size)
        one, two = x[..., i], x[..., i + size // 2]
        out[..., i] = one * math.cos(angle) - two * math.sin(angle)
        out[..., i + size // 2] = two * math.cos(angle) + one * math.sin(angle)
    return out


def route(tensors: Tensors, name: str, x: Tensor, c: dict[str, Any]) -> list[tuple[int, float]]:
    """Return the chosen experts of one token with their weights."""
    scores = (tensors[f"{name}.weight"] @ x).sigmoid()
    biased = (scores + tensors[f"{name}.expert_bias"]).tolist()
    per_group = c["num_experts"] // c["n_group"]
    groups = [range(g * per_group, (g + 1) * per_group) for g in range(c["n_group"])]
    groups.sort(key=lambda group: -sum(sorted((biased[e] for e in group), reverse=True)[:2]))
    open_experts = [expert for group in groups[: c["topk_group"]] for expert in group]
    chosen = sorted(open_experts, key=lambda expert: -biased[expert])[: c["num_experts_per_tok"]]
    total = float(sum(scores[expert] for expert in chosen)) if len(chosen) > 1 else 1.0
    return [(expert, float(scores[expert]) / total * c["routed_scaling_factor"]) for expert in chosen]


def forward(tensors: Tensors, c: dict[str, Any], ids: list[int], positions: list[int], look: Tensor) -> Tensor:
    """Return the logits [T, V] in fp64 of tokens ``ids`` with split experts; ``look`` [T, T] is the mask."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    eps, head, queries, keys = c["rms_norm_eps"], c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
    rotated = int(head * c["partial_rotary_factor"])
    x = tensors["model.word_embeddings.weight"][ids]
    for number in range(c["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        inner = norm(x, tensors[f"{layer}.input_layernorm.weight"], eps)
        qkv = (inner @ tensors[f"{layer}.attention.query_key_value.weight"].T).view(len(ids), -1, head)
        query, key, value = torch.split(qkv, [queries, keys, keys], dim=1)
        query = norm(query, tensors[f"{layer}.attention.query_layernorm.weight"], eps)
        key = norm(key, tensors[f"{layer}.attention.key_layernorm.weight"], eps)
        query, key = (
            torch.stack([rotate(row, at, rotated, c["rope_theta"]) for row, at in zip(part, positions, strict=True)])
            for part in (query, key)
        )
        heads = []
        for number_of_head in range(queries):
            shared = number_of_head * keys // queries
            scores = query[:, number_of_head] @ key[:, shared].T / math.sqrt(head)
            heads.append(scores.masked_fill(~look, -math.inf).softmax(-1) @ value[:, shared])
        x = x + torch.cat(heads, dim=1) @ tensors[f"{layer}.attention.dense.weight"].T
        inner = norm(x, tensors[f"{layer}.post_attention_layernorm.weight"], eps)
        x = x + torch.stack([feed(tensors, f"{layer}.mlp", token, c) for token in inner])
    return norm(x, tensors["model.norm.weight"], eps) @ tensors["lm_head.weight"].T


def feed(tensors: Tensors, name: str, x: Tensor, c: dict[str, Any]) -> Tensor:
    """Return the feed-forward layer of one token: dense, or the chosen experts and the shared ones."""
    if f"{name}.gate.weight" not in tensors:
        return swiglu(tensors, name, x)
    out = swiglu(tensors, f"{name}.shared_experts", x)
    for expert, weight in route(tensors, f"{name}.gate", x, c):
        out = out + weight * swiglu(tensors, f"{name}.experts.{expert}", x)
    return out
