"""Validation of a configuration's values; the first invalid one is reported before any process group exists."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .errors import FieldError, UserError
from .model_config import ModelConfig
from .names import nearest
from .sections import Config, TrainSection


def check(config: Config, world_size: int) -> None:
    """Raise FieldError for the first value that cannot work, before any process group exists."""
    _check_choices(config)
    _check_numbers(config)
    _check_batches(config.train, world_size)
    _check_blocks(config)


def check_length(config: Config, shape: ModelConfig) -> None:
    """Reject sequences that are longer than the model supports."""
    length, most = config.data.max_seq_len, shape.max_position_embeddings
    if length > most:
        raise UserError(f"data.max_seq_len {length} is more than the model's max_position_embeddings {most}")


def _value(config: Config, name: str) -> Any:
    section, _, field = name.partition(".")
    return getattr(getattr(config, section), field)


def _check_choices(config: Config) -> None:
    choices = {
        "model.attn_implementation": ("eager", "sdpa", "flex_attention"),
        "model.moe_implementation": ("eager", "fused"),
        "data.data_type": ("conversation", "plaintext", "tokenid"),
        "train.loss_weighting": ("none", "inverse_t"),
        "train.block_schedule": ("constant", "wsd"),
        "train.lr_decay_style": ("constant", "linear", "cosine"),
        "train.data_parallel_mode": ("ddp", "fsdp2"),
        "train.device": ("auto", "cpu", "cuda"),
        "train.init_device": ("cpu", "cuda", "meta"),
    }
    for name, allowed in choices.items():
        value = _value(config, name)
        if value not in allowed:
            raise FieldError(name, f"must be one of {', '.join(allowed)}, not {value!r}{nearest(value, allowed)}")
    if config.train.init_device == "meta" and config.train.data_parallel_mode != "fsdp2":
        raise FieldError("train.init_device", "meta goes with data_parallel_mode fsdp2 only")
    if config.train.enable_fsdp_offload and config.train.data_parallel_mode != "fsdp2":
        raise FieldError("train.enable_fsdp_offload", "true goes with data_parallel_mode fsdp2 only")
    if config.train.save_hf_weights and not (config.train.save_steps or config.train.save_epochs):
        raise FieldError("train.save_hf_weights", "true needs a last checkpoint: save_steps and save_epochs are both 0")


# Condition on a number, as text and as a function, and the fields that must meet it; NaN meets none.
_BOUNDS: tuple[tuple[Callable[[float], bool], str, tuple[str, ...]], ...] = (
    (
        lambda value: value > 0,
        "above 0",
        (
            *("data.max_seq_len", "data.val_examples", "train.block_size", "train.lr", "train.num_train_epochs"),
            *("train.max_steps", "train.log_steps", "train.max_grad_norm", "train.timeout_s"),
        ),
    ),
    (lambda value: value >= 1, "at least 1", ("train.global_batch_size", "train.micro_batch_size")),
    (
        lambda value: value >= 0,
        "at least 0",
        (
            *("train.seed", "train.save_steps", "train.save_epochs", "train.eval_steps", "train.keep_last_n"),
            *("train.confidence_beta", "train.weight_decay", "train.lr_min", "train.lr_start"),
        ),
    ),
    (
        lambda value: 0 <= value <= 1,
        "between 0 and 1",
        ("train.lr_warmup_ratio", "train.lr_decay_ratio", "train.block_warmup_ratio", "train.block_decay_ratio"),
    ),
    (lambda value: 0 <= value < 1, "at least 0 and below 1", ("train.beta1", "train.beta2")),
    (lambda value: 0 < value < 1, "above 0 and below 1", ("data.val_fraction", "data.val_noise")),
    (lambda value: 0 <= value <= 1024, "between 0 and 1024", ("data.num_workers",)),
)


def _check_numbers(config: Config) -> None:
    data, train = config.data, config.train
    if not 0 <= data.noise_range_low <= data.noise_range_high <= 1:
        low, high = data.noise_range_low, data.noise_range_high
        raise FieldError("data.noise_range_low", f"{low} and noise_range_high {high} must obey 0 <= low <= high <= 1")
    for obeys, words, names in _BOUNDS:
        for name in names:
            value = _value(config, name)
            endless = value == math.inf and name != "train.max_grad_norm"  # there it means: never clip
            if value is not None and (not obeys(value) or endless):
                raise FieldError(name, f"must be {words}, not {value}")
    if train.lr_decay_style != "constant" and train.lr_min > train.lr:
        raise FieldError("train.lr_min", f"{train.lr_min} is more than lr {train.lr}, to which it would decay")


def _check_batches(train: TrainSection, world_size: int) -> None:
    ranks = f"{world_size} rank{'s' * (world_size != 1)}"
    if train.global_batch_size is None:
        return
    unit = (train.micro_batch_size or 1) * world_size
    total = train.global_batch_size
    if total % unit:
        micro = f"micro_batch_size {train.micro_batch_size} x " if train.micro_batch_size else ""
        below = total // unit * unit
        near = f"{below} or {below + unit}" if below else f"{unit}"
        raise FieldError("train.global_batch_size", f"{total} is not a multiple of {micro}{ranks} = {unit}; try {near}")
    if train.enable_fsdp_offload and train.micro_batch_size and total > unit:
        raise FieldError(
            "train.enable_fsdp_offload",
            f"true excludes gradient accumulation, as in upstream: global_batch_size {total} is more than "
            f"micro_batch_size {train.micro_batch_size} x {ranks} = {unit}; write global_batch_size {unit}, or false",
        )


def _check_blocks(config: Config) -> None:
    train, length = config.train, config.data.max_seq_len
    sizes: dict[str, tuple[int, ...]] = {"train.block_size": (train.block_size,)}
    if train.block_schedule == "wsd":
        sizes["train.block_warmup_sizes"] = train.block_warmup_sizes
        sizes["train.block_decay_sizes"] = train.block_decay_sizes
    for name, values in sizes.items():
        for size in values:
            if size < 1 or length % size:
                raise FieldError(name, f"{size} does not divide data.max_seq_len {length}")
