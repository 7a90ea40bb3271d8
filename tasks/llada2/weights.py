"""First weights of a run and its last ones: read from ``model_path``, exported as a Hugging Face folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from . import checkpoint, hf_names, model_config, shards
from .errors import UserError, first_line
from .hf_folder import WeightFolder, is_folder, load_library, write_tensors
from .hf_names import Shape
from .model_config import ModelConfig
from .tokenizer import HuggingFaceTokenizer, Tokenizer

# Fields that no shape of a tensor shows.
_UNSEEN = (
    *("num_attention_heads", "head_dim", "rms_norm_eps", "rope_theta", "partial_rotary_factor", "rope_scaling"),
    *("num_experts_per_tok", "n_group", "topk_group", "routed_scaling_factor"),
)
Plan = dict[str, tuple[Shape, torch.dtype]]


def check(path: str, shape: ModelConfig) -> list[str]:
    """Verify that ``path`` holds weights of this shape, before any model is built; return warnings.

    It is a checkpoint of this trainer, or a directory of safetensors with merged or with split experts.
    """
    if os.path.isfile(os.path.join(path, "meta.json")):
        check_shape(path, shape)
        return []
    if is_folder(path):
        WeightFolder(path).check(hf_names.merged_shapes(shape))
        return _compare(os.path.join(path, "config.json"), shape)
    raise UserError(f"model.model_path {path}: {_why_no_weights(path)}")


def _why_no_weights(path: str) -> str:
    if os.path.isfile(path):
        return "this is a file; write the directory that contains it"
    if not os.path.isdir(path):
        return f"no such directory (from {os.getcwd()})"
    newest = checkpoint.newest(path)
    if newest != path:
        return f"this is the output_dir of a run; write {newest}"
    if any(name.endswith((".bin", ".pt", ".pth")) for name in os.listdir(path)):
        return "weights in a pickle are not read; convert them to safetensors"
    return "neither a checkpoint of this trainer (meta.json) nor weights of Hugging Face (*.safetensors)"


def check_shape(path: str, shape: ModelConfig) -> None:
    """Verify that the checkpoint of this trainer at ``path`` is of a model of this shape."""
    other = checkpoint.read_meta(path).get("model", {})
    for name, value in asdict(shape).items():
        if other.get(name, value) != value:
            raise UserError(f"{path}: its model has {name} {other[name]}, model.config_path has {value}")


def _compare(path: str, shape: ModelConfig) -> list[str]:
    """Return a warning for each value in the folder's ``config.json`` that differs and changes the model."""
    try:
        with open(path, encoding="utf-8") as stream:
            theirs = json.load(stream)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        return [f"{path}: not compared with model.config_path: {error}"]
    ours = asdict(shape) | {"rope_scaling": None}
    return [
        f"{path} has {name} {theirs[name]}, model.config_path has {ours[name]}, which counts"
        for name in _UNSEEN
        if name in theirs and theirs[name] != ours[name]
    ]


@torch.no_grad()
def load(path: str, model: nn.Module, shape: ModelConfig, *, alone: bool = False) -> None:
    """Fill ``model`` with the weights at ``path``; each rank reads the rows that it holds.

    ``alone``: there is no process group.
    """
    if os.path.isfile(os.path.join(path, "meta.json")):
        checkpoint.load_weights(path, model, alone=alone)
        return
    folder = WeightFolder(path)
    for name, weight in model.state_dict().items():
        source, first = hf_names.file_name(name, shape)
        rows = shards.row_range(weight)
        shards.local_rows(weight).copy_(folder.read_rows(source, first + rows.start, first + rows.stop))


def plan_export(shape: ModelConfig, start: str | None) -> Plan:
    """Return the tensors of a merged folder, in the dtypes of the folder ``start``, or else in bf16.

    The router's bias stays fp32 then: it only moves a choice between experts, and bf16 would move it again.
    """
    load_library()  # a run must not end without it after days
    dtypes: Mapping[str, torch.dtype] = {}
    if start is not None and is_folder(start):
        dtypes = WeightFolder(start).dtypes
    plan = {}
    for name, size in hf_names.merged_shapes(shape).items():
        usual = torch.float32 if name.endswith(".expert_bias") else torch.bfloat16
        plan[name] = (size, dtypes.get(name, usual))
    return plan


@torch.no_grad()
def export(directory: str, model: nn.Module, shape: ModelConfig, plan: Plan, *, leader: bool) -> None:
    """Write the weights of ``model`` into ``directory`` under upstream's names; all ranks call it together."""
    state, parts = model.state_dict(), hf_names.layout(shape)

    def gather(name: str) -> Tensor:
        whole = [state[part] for part in parts[name]]
        return torch.cat([w.full_tensor() if isinstance(w, DTensor) else w for w in whole])

    write_tensors(directory, plan, gather, leader=leader)


def split_experts(plan: Plan, read: Callable[[str], Tensor]) -> tuple[Plan, Callable[[str], Tensor]]:
    """Return ``plan`` and ``read`` of merged tensors as those of a folder with one tensor for each expert."""
    split: Plan = {}
    for name, (shape, dtype) in plan.items():
        names = hf_names.split_names(name, shape[0])
        split |= dict.fromkeys(names, (shape[1:], dtype)) if names else {name: (shape, dtype)}
    last: dict[str, Tensor] = {}

    def read_one(name: str) -> Tensor:
        merged = hf_names.merged_name(name)
        if merged is None:
            return read(name)
        if merged[0] not in last:
            last.clear()
            last[merged[0]] = read(merged[0])
        return last[merged[0]][merged[1]]

    return split, read_one


def make_folder(path: str) -> None:
    """Create the directory ``path``, so that nothing in it can be overwritten."""
    try:
        os.makedirs(path)
    except FileExistsError:
        raise UserError(f"{path}: it exists already; remove it if an earlier export left it") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def publish(partial: str, final: str) -> None:
    """Give a complete folder its name."""
    try:
        os.rename(partial, final)
    except OSError as error:
        raise UserError(f"{final}: {error.strerror}") from None


def write_assets(directory: str, shape: ModelConfig, words: Tokenizer, dtype: torch.dtype, *, merged: bool) -> None:
    """Write ``config.json`` and the tokenizer's files beside weights of ``dtype``."""
    values = model_config.to_dict(shape, str(dtype).removeprefix("torch."))
    values["model_type"] = "llada2_moe_veomni" if merged else "llada2_moe"
    try:
        with open(os.path.join(directory, "config.json"), "w", encoding="utf-8") as stream:
            json.dump(values, stream, indent=2)
        if isinstance(words, HuggingFaceTokenizer):
            words.save(directory)
    except OSError as error:
        raise UserError(f"{directory}: {first_line(error)}") from None
