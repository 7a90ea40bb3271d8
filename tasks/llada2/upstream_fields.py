"""Upstream's fields that this trainer does not read: each is reported with the reason, or refused with the right value.

Together with the sections these are all fields of the dataclasses of dFactory and of the VeOmni that it pins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .names import refuse_others, show

# Fields that change neither weights nor loss: any value is accepted, and reported with the reason.
_PADDING_FREE = "it belongs to rmpad, which this trainer lacks"
_PROFILING = "this trainer has no profiler; py-spy or torch.profiler can be attached"
_NO_WANDB = "this trainer has no wandb; see metrics_jsonl and use_tensorboard"
_BYTED = "it belongs to data sets of type byted"
NOT_APPLICABLE: dict[str, dict[str, str]] = {
    "model": {
        "basic_modules": "FSDP2 shards each layer here",
        "force_use_huggingface": "this trainer has a model of its own",
        **dict.fromkeys(["input_encoder", "output_encoder"], "this trainer has no images"),
    },
    "data": {
        "train_size": _PADDING_FREE,
        "prefetch_factor": "torch's default is used",
        "drop_last": "the rows that do not fill the last batch of an epoch are left out",
        "pin_memory": "batches are small: they are copied without pinned memory",
        "chat_template": "the template of the tokenizer is used, as upstream does",
        "source_name": "it belongs to enable_multisource",
        **dict.fromkeys(["data_tag", "image_keys"], "this trainer has no images"),
        **dict.fromkeys(["shuffle_shard_nums", "split_nums", "predownload_factor", "silent_exception"], _BYTED),
        "drop_resume_buffer": "a batch is a function of the step: no buffer is saved",
    },
    "train": {
        **dict.fromkeys(["no_decay_modules", "no_decay_params"], "norms are never decayed; upstream ignores it too"),
        **dict.fromkeys(["dyn_bsz", "dyn_bsz_margin", "dyn_bsz_runtime", "dyn_bsz_buffer_size"], _PADDING_FREE),
        **dict.fromkeys(["bsz_warmup_ratio", "bsz_warmup_init_mbtoken"], _PADDING_FREE),
        "enable_reentrant": "checkpointing is never reentrant here",
        "enable_forward_prefetch": "it belongs to FSDP1",
        "activation_gpu_limit": "it belongs to enable_activation_offload",
        "enable_rank0_init": "every rank makes its own rows of the weights",
        "broadcast_model_weights_from_rank0": "every rank reads only its own rows of the weights",
        "allow_cuda_launch_blocking": "CUDA_LAUNCH_BLOCKING is left as it is",
        "empty_cache_steps": "torch manages its cache of GPU memory",
        "gc_steps": "Python's garbage collector stays on",
        "ep_outside": "it belongs to expert parallelism",
        "save_async": "a checkpoint is complete before the next step begins",
        "use_wandb": _NO_WANDB,
        **dict.fromkeys(["wandb_project", "wandb_name"], _NO_WANDB),
        **dict.fromkeys(
            ["enable_profiling", "profile_start_step", "profile_end_step", "profile_trace_dir"], _PROFILING
        ),
        **dict.fromkeys(["profile_record_shapes", "profile_profile_memory", "profile_with_stack"], _PROFILING),
        "profile_rank0_only": _PROFILING,
    },
}

# Fields that change the run: the values that this trainer carries out, and the reason why it has no others.
_NO_IMAGES = "this trainer reads text only"
_ONE_WAY = "this trainer splits batches over the ranks, and weights with fsdp2, in no other way"
ONLY: dict[str, dict[str, tuple[tuple[Any, ...], str]]] = {
    "model": {
        **dict.fromkeys(["foundation", "encoders", "decoders"], (({}, None), _NO_IMAGES)),
        "encode_target": ((False,), _NO_IMAGES),
    },
    "data": {
        "datasets_type": (("mapping",), "files are read whole; save a data set on disk as parquet"),
        "dataloader_type": (("native",), "upstream implements no other one"),
        "enable_multisource": ((False,), "write several paths in train_path, separated by commas"),
    },
    "train": {
        **dict.fromkeys(["tensor_parallel_size", "pipeline_parallel_size"], ((1,), _ONE_WAY)),
        **dict.fromkeys(["context_parallel_size", "ulysses_parallel_size"], ((1,), _ONE_WAY)),
        "expert_parallel_size": ((1,), _ONE_WAY),
        "data_parallel_replicate_size": ((-1, 1), _ONE_WAY),
        "data_parallel_shard_size": ((-1,), _ONE_WAY),
        "optimizer": (("adamw",), "this trainer has no other optimizer"),
        "ckpt_manager": (("dcp",), "checkpoints are written by torch's DCP"),
        "rmpad": ((False,), "rows are padded to max_seq_len"),
        "rmpad_with_pos_ids": ((False,), "rows are padded to max_seq_len"),
        "enable_full_shard": ((True,), "fsdp2 always shards weights, gradients and optimizer"),
        "enable_activation_offload": ((False,), "use enable_gradient_checkpointing to save memory"),
    },
}


def names(section: str) -> list[str]:
    """Return the fields of upstream's ``section`` that the sections of this trainer lack."""
    return [*NOT_APPLICABLE[section], *ONLY[section]]


def review(section: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (field, remark) for each value that does not apply; raise FieldError for one that would change the run."""
    for name, value in values.items():
        field = f"{section}.{name}"
        if name in ONLY[section]:
            refuse_others(field, value, *ONLY[section][name])
        elif name in NOT_APPLICABLE[section] and not _asks_for_nothing(name, value):
            yield field, f"{field} {show(value)} does not apply: {NOT_APPLICABLE[section][name]}"


def _asks_for_nothing(name: str, value: Any) -> bool:
    """Return whether ``value`` switches the feature off, so that there is nothing to report."""
    return value is None or value == [] or (value is False and name not in ("drop_last", "pin_memory"))
