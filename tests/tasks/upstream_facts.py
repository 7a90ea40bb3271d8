"""Names and values of upstream's configuration."""

from __future__ import annotations

from typing import Any

# Every field of configs/sft/llada2_mini_bd_sft.yaml in dFactory at 92b6890, with its value.
SHIPPED: dict[str, dict[str, Any]] = {
    "model": {
        "config_path": "./configs/model_configs/llada2_mini",
        "model_path": "./LLaDA2.0-mini-preview-moe-merge",
        "tokenizer_path": "./LLaDA2.0-mini-preview-moe-merge",
        "attn_implementation": "sdpa",
        "moe_implementation": "fused",
    },
    "data": {
        "train_path": "./gsm8k_datasets/gsm8k_train.jsonl",
        "data_type": "conversation",
        "datasets_type": "mapping",
        "dataloader_type": "native",
        "max_seq_len": 2048,
        "text_keys": "messages",
        "noise_range_low": 0.3,
        "noise_range_high": 0.8,
        "num_workers": 16,
    },
    "train": {
        "output_dir": "./llada2_mini_bd_sft_outputs",
        "data_parallel_mode": "fsdp2",
        **dict.fromkeys(["tensor_parallel_size", "ulysses_parallel_size", "expert_parallel_size"], 1),
        "global_batch_size": 8,
        "micro_batch_size": 1,
        "num_train_epochs": 1,
        "rmpad": False,
        "rmpad_with_pos_ids": False,
        "bsz_warmup_ratio": 0.007,
        "dyn_bsz_margin": 0,
        "dyn_bsz_buffer_size": 200,
        "optimizer": "adamw",
        "beta1": 0.9,
        "beta2": 0.999,
        "lr": 1.0e-5,
        "lr_warmup_ratio": 0.03,
        "lr_decay_style": "cosine",
        "lr_decay_ratio": 1.0,
        "weight_decay": 0.1,
        "max_grad_norm": 1.0,
        "enable_mixed_precision": True,
        "enable_gradient_checkpointing": True,
        "enable_full_shard": True,
        "enable_fsdp_offload": True,
        "enable_activation_offload": False,
        "init_device": "meta",
        "broadcast_model_weights_from_rank0": True,
        "enable_full_determinism": False,
        "empty_cache_steps": 500,
        "ckpt_manager": "dcp",
        "load_checkpoint_path": "",
        "save_epochs": 1,
        "save_hf_weights": True,
        "block_diffusion_mode": True,
        "block_size": 32,
        "same_token_labels": True,
        "use_wandb": False,
        "log_steps": 1,
    },
}
# All fields of the dataclasses: VeOmni at 600fe6d, which dFactory pins, and what dFactory adds.
FIELDS = {
    "model": """config_path model_path tokenizer_path foundation encoders decoders input_encoder output_encoder
        encode_target attn_implementation moe_implementation basic_modules force_use_huggingface""",
    "data": """train_path train_size data_type dataloader_type datasets_type enable_multisource source_name data_tag
        drop_resume_buffer text_keys image_keys chat_template max_seq_len num_workers prefetch_factor drop_last
        pin_memory shuffle_shard_nums split_nums predownload_factor silent_exception noise_range_low noise_range_high""",
    "train": """output_dir lr lr_min lr_start weight_decay no_decay_modules no_decay_params optimizer max_grad_norm
        micro_batch_size global_batch_size num_train_epochs rmpad rmpad_with_pos_ids dyn_bsz dyn_bsz_margin
        dyn_bsz_runtime dyn_bsz_buffer_size bsz_warmup_ratio bsz_warmup_init_mbtoken lr_warmup_ratio lr_decay_style
        lr_decay_ratio enable_mixed_precision enable_gradient_checkpointing enable_reentrant enable_full_shard
        enable_forward_prefetch enable_fsdp_offload enable_activation_offload activation_gpu_limit enable_rank0_init
        init_device broadcast_model_weights_from_rank0 enable_full_determinism allow_cuda_launch_blocking
        empty_cache_steps gc_steps data_parallel_mode data_parallel_replicate_size data_parallel_shard_size
        tensor_parallel_size expert_parallel_size ep_outside pipeline_parallel_size ulysses_parallel_size
        context_parallel_size ckpt_manager save_async load_checkpoint_path save_steps save_epochs save_hf_weights seed
        enable_compile use_wandb wandb_project wandb_name enable_profiling profile_start_step profile_end_step
        profile_trace_dir profile_record_shapes profile_profile_memory profile_with_stack profile_rank0_only max_steps
        beta1 beta2 block_diffusion_mode block_size same_token_labels""",
}
