"""The run's configuration: upstream's three sections and field names, checked before anything is started."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from .errors import FieldError, UserError
from .names import nearest, read_into


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSection:
    """Which model, from where, by which kernels."""

    config_path: str
    model_path: str | None = None
    tokenizer_path: str = "bytes"
    attn_implementation: str = "sdpa"
    moe_implementation: str = "eager"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSection:
    """Which text, and how it is made noisy."""

    train_path: str = "pydoc"
    data_type: str = "conversation"
    text_keys: str = "messages"
    max_seq_len: int = 2048
    noise_range_low: float = 0.3
    noise_range_high: float = 0.8
    pad_in_loss: bool = False
    num_workers: int = 0
    val_fraction: float = 0.05
    val_examples: int = 256
    val_noise: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSection:
    """How long, how fast, on what, and what is kept."""

    output_dir: str
    seed: int = 42
    # batches
    global_batch_size: int | None = None
    micro_batch_size: int | None = None
    num_train_epochs: int = 1
    max_steps: int | None = None
    # objective
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
    load_checkpoint_path: str | None = None
    metrics_jsonl: bool = False
    use_tensorboard: bool = False


# Upstream's fields that mean nothing here. The values in brackets are the only ones that say the same thing.
IDLE: dict[str, dict[str, tuple[Any, ...]]] = {
    "model": dict.fromkeys(["foundation", "encoders", "decoders", "basic_modules", "force_use_huggingface"], ()),
    "data": {
        "datasets_type": ("mapping",),
        "dataloader_type": ("native",),
        **dict.fromkeys(["train_size", "prefetch_factor", "drop_last", "pin_memory", "chat_template"], ()),
    },
    "train": {
        **dict.fromkeys(["tensor_parallel_size", "pipeline_parallel_size", "context_parallel_size"], (1,)),
        **dict.fromkeys(["ulysses_parallel_size", "expert_parallel_size"], (1,)),
        "optimizer": ("adamw",),
        "ckpt_manager": ("dcp",),
        "block_diffusion_mode": (True,),
        "rmpad": (False,),
        "rmpad_with_pos_ids": (False,),
        "enable_fsdp_offload": (False,),
        "enable_activation_offload": (False,),
        "enable_full_shard": (True,),
        "save_hf_weights": (False,),
        "use_wandb": (False,),
        **dict.fromkeys(["bsz_warmup_ratio", "dyn_bsz_margin", "dyn_bsz_buffer_size"], ()),
        **dict.fromkeys(["data_parallel_replicate_size", "data_parallel_shard_size", "ep_outside"], ()),
        **dict.fromkeys(["empty_cache_steps", "gc_steps", "broadcast_model_weights_from_rank0"], ()),
        **dict.fromkeys(["wandb_project", "wandb_name", "enable_profiling", "profile_trace_dir"], ()),
        **dict.fromkeys(["profile_start_step", "profile_end_step"], ()),
    },
}
_SECTIONS = {"model": ModelSection, "data": DataSection, "train": TrainSection}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One run, checked: every value here can be used as it is."""

    model: ModelSection
    data: DataSection
    train: TrainSection
    path: str
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The three sections as plain values, as they are written beside a checkpoint."""
        return {name: asdict(getattr(self, name)) for name in _SECTIONS}


def _overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """``--train.lr 1e-3`` and ``--train.lr=1e-3`` as {"train.lr": value}; a value is read as YAML reads it."""
    found: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, text = word.partition("=")
        section, dot, _ = name.removeprefix("--").partition(".")
        if not name.startswith("--") or not dot:
            raise UserError(f"command line: {word!r} is not understood; an override reads --section.field value")
        if section not in _SECTIONS:
            raise UserError(f"command line: {word}: no section {section!r}{nearest(section, _SECTIONS)}")
        if not equals:
            if not rest:
                raise UserError(f"command line: {word} wants a value: {word} VALUE")
            text = rest.pop(0)
        try:
            found[name.removeprefix("--")] = yaml.safe_load(text)
        except yaml.YAMLError:
            found[name.removeprefix("--")] = text
    return found


def _read_yaml(path: str) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """The file's sections, and the line on which each ``section.field`` is written."""
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror} (from {os.getcwd()})") from None
    try:
        values, tree = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {error.problem}") from None
    if not isinstance(values, dict) or not all(isinstance(v, dict) for v in values.values()):
        raise UserError(f"{path}: must hold the sections model, data and train, each with its fields")
    assert isinstance(tree, yaml.MappingNode)
    lines = {
        f"{section.value}.{field.value}": field.start_mark.line + 1
        for section, fields in tree.value
        for field, _ in fields.value
    }
    return values, lines


def _check_idle(section: str, values: dict[str, Any], unused: list[str]) -> list[str]:
    """Fields of upstream that do nothing here: a note where that changes nothing, a warning where it does."""
    notes = []
    for name in unused:
        meaning, value = IDLE[section][name.partition(".")[2]], values[name.partition(".")[2]]
        if meaning and value not in meaning:
            notes.append(f"{name} {value!r} has no effect here: this trainer only does {meaning[0]!r}")
    return notes


def load(arguments: Sequence[str], world_size: int) -> Config:
    """Reads ``[config.yaml, --section.field, value, …]`` and checks it for ``world_size`` ranks."""
    if not arguments or not arguments[0].endswith((".yaml", ".yml", ".json")):
        raise UserError("usage: train_llada2_bd.py CONFIG.yaml [--section.field VALUE ...]")
    path = arguments[0]
    values, lines = _read_yaml(path)
    overrides = _overrides(arguments[1:])
    for name, value in overrides.items():
        section, _, field = name.partition(".")
        values.setdefault(section, {})[field] = value

    def place(field: str) -> str:
        if field in overrides:
            return "command line"
        return f"{path}:{lines[field]}" if field in lines else path

    notes = [f"{path}: unknown section {s!r} is ignored{nearest(s, _SECTIONS)}" for s in values if s not in _SECTIONS]
    try:
        sections: dict[str, Any] = {}
        for name, cls in _SECTIONS.items():
            given = values.get(name, {})
            for required in {"model": ["config_path"], "train": ["output_dir"]}.get(name, []):
                if given.get(required) is None:
                    raise FieldError(f"{name}.{required}", "is missing")
            section, warnings, unused = read_into(cls, given, f"{name}.", idle=IDLE[name])
            sections[name] = section
            notes += [f"{place(warning.split()[2])}: {warning}" for warning in warnings]
            notes += [f"{place(note.split()[0])}: {note}" for note in _check_idle(name, given, unused)]
        config = Config(path=path, notes=tuple(notes), **sections)
        check(config, world_size)
    except FieldError as error:
        raise UserError(f"{place(error.field)}: {error}") from None
    return config


def check(config: Config, world_size: int) -> None:
    """Raises FieldError for the first value that cannot work, before any process group exists."""
    _check_choices(config)
    _check_numbers(config)
    _check_batches(config.train, world_size)
    _check_blocks(config)


def _check_choices(config: Config) -> None:
    choices = {
        "model.attn_implementation": ("eager", "sdpa", "flex_attention"),
        "model.moe_implementation": ("eager", "fused"),
        "data.data_type": ("conversation", "plaintext"),
        "train.loss_weighting": ("none", "inverse_t"),
        "train.block_schedule": ("constant", "wsd"),
        "train.lr_decay_style": ("constant", "linear", "cosine"),
        "train.data_parallel_mode": ("ddp", "fsdp2"),
        "train.device": ("auto", "cpu", "cuda"),
        "train.init_device": ("cpu", "cuda", "meta"),
    }
    for name, allowed in choices.items():
        section, _, field = name.partition(".")
        value = getattr(getattr(config, section), field)
        if value not in allowed:
            raise FieldError(name, f"must be one of {', '.join(allowed)}, not {value!r}{nearest(value, allowed)}")
    if config.train.init_device == "meta" and config.train.data_parallel_mode != "fsdp2":
        raise FieldError("train.init_device", "meta goes with data_parallel_mode fsdp2 only")


def _check_numbers(config: Config) -> None:
    data, train = config.data, config.train
    if not 0 <= data.noise_range_low <= data.noise_range_high <= 1:
        low, high = data.noise_range_low, data.noise_range_high
        raise FieldError("data.noise_range_low", f"{low} and noise_range_high {high} must obey 0 <= low <= high <= 1")
    above = {"data.max_seq_len": data.max_seq_len, "train.block_size": train.block_size, "train.lr": train.lr}
    above |= {"train.num_train_epochs": train.num_train_epochs, "train.log_steps": train.log_steps}
    above |= {"train.max_grad_norm": train.max_grad_norm, "train.timeout_s": train.timeout_s}
    above |= {} if train.max_steps is None else {"train.max_steps": train.max_steps}
    for name, value in above.items():
        if not value > 0:
            raise FieldError(name, f"must be above 0, not {value}")
    for name in ("save_steps", "save_epochs", "eval_steps", "keep_last_n", "confidence_beta", "weight_decay"):
        if getattr(train, name) < 0:
            raise FieldError(f"train.{name}", f"must not be negative, not {getattr(train, name)}")
    for name in ("lr_warmup_ratio", "lr_decay_ratio", "block_warmup_ratio", "block_decay_ratio"):
        if not 0 <= getattr(train, name) <= 1:
            raise FieldError(f"train.{name}", f"must be between 0 and 1, not {getattr(train, name)}")
    for name in ("val_fraction", "val_noise"):
        if not 0 < getattr(data, name) < 1:
            raise FieldError(f"data.{name}", f"must be between 0 and 1, not {getattr(data, name)}")
    if not data.val_examples > 0:
        raise FieldError("data.val_examples", f"must be above 0, not {data.val_examples}")


def _check_batches(train: TrainSection, world_size: int) -> None:
    ranks = f"{world_size} rank{'s' * (world_size != 1)}"
    for name in ("global_batch_size", "micro_batch_size"):
        value = getattr(train, name)
        if value is not None and value < 1:
            raise FieldError(f"train.{name}", f"must be at least 1, not {value}")
    if train.global_batch_size is None:
        return
    unit = (train.micro_batch_size or 1) * world_size
    total = train.global_batch_size
    if total % unit:
        micro = f"micro_batch_size {train.micro_batch_size} x " if train.micro_batch_size else ""
        below = total // unit * unit
        near = f"{below} or {below + unit}" if below else f"{unit}"
        raise FieldError("train.global_batch_size", f"{total} is not a multiple of {micro}{ranks} = {unit}; try {near}")


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


def batch_sizes(train: TrainSection, world_size: int) -> tuple[int, int, int]:
    """(global batch, micro batch, micro-batches a step and rank); without micro_batch_size there is one a step."""
    total = train.global_batch_size or (train.micro_batch_size or 1) * world_size
    micro = train.micro_batch_size or total // world_size
    return total, micro, total // (micro * world_size)
