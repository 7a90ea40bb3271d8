"""Train a small Llama with the Trainer of transformers."""

import os

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

steps = int(os.environ.get("STEPS", "20"))
print(f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}", flush=True)
config = LlamaConfig(
    vocab_size=64,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=2,
)
rows = [{"input_ids": row, "labels": row} for row in torch.randint(0, 64, (4096, 16))]
arguments = TrainingArguments(
    output_dir="out",
    max_steps=steps,
    per_device_train_batch_size=2,
    logging_steps=5,
    save_strategy="no",
    report_to="none",
    use_cpu=not torch.cuda.is_available(),
)
Trainer(model=LlamaForCausalLM(config), args=arguments, train_dataset=rows).train()
print(f"rank {os.environ['RANK']} done", flush=True)
