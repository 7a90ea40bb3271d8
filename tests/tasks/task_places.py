"""Where the task's files are."""

from __future__ import annotations

import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TASKS = os.path.join(ROOT, "tasks")
TRAIN = os.path.join(TASKS, "train_llada2_bd.py")
GENERATE = os.path.join(TASKS, "generate_llada2.py")
HELLO = os.path.join(TASKS, "hello.py")
ALLREDUCE = os.path.join(TASKS, "allreduce.py")
YAML = os.path.join(ROOT, "configs", "sft", "llada2_mini_bd_sft.yaml")
TINY = os.path.join(ROOT, "configs", "model_configs", "llada2_mini_tiny.json")
MID = os.path.join(ROOT, "configs", "model_configs", "llada2_mid.json")
MINI = os.path.join(ROOT, "configs", "model_configs", "llada2_mini.json")
CONVERT = os.path.join(TASKS, "convert_llada2.py")
