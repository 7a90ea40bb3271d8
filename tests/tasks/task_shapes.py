"""The tiny model, as it is and with changes."""

from __future__ import annotations

import json
from typing import Any

import torch
from llada2 import model_config
from llada2.model import LLaDA2

from tests.tasks.task_places import TINY


def tiny_shape(**changes: Any) -> model_config.ModelConfig:
    """Return the tiny model's configuration, with some fields changed."""
    with open(TINY, encoding="utf-8") as stream:
        values = json.load(stream)
    shape, warnings = model_config.from_dict(values | changes, TINY)
    assert warnings == []
    return shape


def tiny_model(seed: int = 0, **options: Any) -> LLaDA2:
    """Return the tiny model with its first weights."""
    model = LLaDA2(tiny_shape(), **options)
    model.init_weights(torch.Generator().manual_seed(seed))
    return model
