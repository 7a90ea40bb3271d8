"""Sections of a configuration file: upstream's three sections and field names, with their defaults."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSection:
    """The model: its shape, its first weights, its tokenizer and its kernels."""

    config_path: str
    model_path: str | None = None
    tokenizer_path: str = "bytes"
    attn_implementation: str = "sdpa"
    moe_implementation: str = "eager"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSection:
    """The text, and how noise is added to it."""

    train_path: str = "pydoc"
    data_type: str = "conversation"
    text_keys: str = "messages"
    max_seq_len: int = 2048
    noise_range_low: float = 0.3
    noise_range_high: float = 0.8
    # not upstream's
    pad_in_loss: bool = False
    num_workers: int = 0
    val_fraction: float = 0.05
    val_examples: int = 256
    val_noise: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSection:
    """The training: duration, speed, hardware, and the files that are kept."""

    output_dir: str
    seed: int = 42
    # batches
    global_batch_size: int | None = None
    micro_batch_size: int | None = None
    num_train_epochs: int = 1
    max_steps: int | None = None
    # objective
    block_diffusion_mode: bool = True
    block_size: int = 32
    block_schedule: str = "constant"
    block_warmup_sizes: tuple[int, ...] = (1, 4)
    block_decay_sizes: tuple[int, ...] = ()
    block_warmup_ratio: float = 0.2
    block_decay_ratio: float = 0.2
    same_token_labels: bool = True
    loss_weighting: str = "none"
    complementary_masking: bool = False
    confidence_beta: float = 0.0
    # optimizer
    lr: float = 5e-5
    lr_min: float = 1e-7
    lr_start: float = 0.0
    lr_warmup_ratio: float = 0.0
    lr_decay_ratio: float = 1.0
    lr_decay_style: str = "constant"
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    # parallelism and memory
    device: str = "auto"
    data_parallel_mode: str = "ddp"
    enable_fsdp_offload: bool = False
    enable_mixed_precision: bool = False
    enable_gradient_checkpointing: bool = False
    enable_compile: bool = False
    enable_full_determinism: bool = False
    init_device: str = "cpu"
    timeout_s: int = 600
    # what is written
    log_steps: int = 1
    eval_steps: int = 0
    save_steps: int = 0
    save_epochs: int = 1
    keep_last_n: int = 3
    save_hf_weights: bool = False
    load_checkpoint_path: str | None = None
    metrics_jsonl: bool = False
    use_tensorboard: bool = False


SECTIONS = {"model": ModelSection, "data": DataSection, "train": TrainSection}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The checked configuration of one run: every value can be used as it is."""

    model: ModelSection
    data: DataSection
    train: TrainSection
    path: str
    warnings: tuple[str, ...] = ()  # probable mistakes
    remarks: tuple[str, ...] = ()  # fields of upstream that do not apply, and defaults that depend on other fields

    def as_dict(self) -> dict[str, Any]:
        """Return the three sections as plain values, as they are written beside a checkpoint."""
        return {name: asdict(getattr(self, name)) for name in SECTIONS}


def batch_sizes(train: TrainSection, world_size: int) -> tuple[int, int, int]:
    """Return (global batch, micro batch, micro-batches per step and rank); without micro_batch_size it is one."""
    total = train.global_batch_size or (train.micro_batch_size or 1) * world_size
    micro = train.micro_batch_size or total // world_size
    return total, micro, total // (micro * world_size)
