"""What the tests of the task share: where things are, the tiny model, and a configuration of two sections."""

from __future__ import annotations

import json
import os
from typing import Any

import torch
from llada2 import model_config
from llada2.model import LLaDA2

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TRAIN = os.path.join(ROOT, "tasks", "train_llada2_bd.py")
YAML = os.path.join(ROOT, "configs", "sft", "llada2_mini_bd_sft.yaml")
TINY = os.path.join(ROOT, "configs", "model_configs", "llada2_mini_tiny.json")
MID = os.path.join(ROOT, "configs", "model_configs", "llada2_mid.json")
MINI = os.path.join(ROOT, "configs", "model_configs", "llada2_mini.json")


def tiny_shape(**changes: Any) -> model_config.ModelConfig:
    """The tiny model's configuration, with some fields changed."""
    with open(TINY, encoding="utf-8") as stream:
        values = json.load(stream)
    shape, warnings = model_config.from_dict(values | changes, TINY)
    assert warnings == []
    return shape


def tiny_model(seed: int = 0, **options: Any) -> LLaDA2:
    """The tiny model with its first weights."""
    model = LLaDA2(tiny_shape(), **options)
    model.init_weights(torch.Generator().manual_seed(seed))
    return model
