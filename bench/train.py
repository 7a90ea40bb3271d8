"""Benchmark of the training task on a GPU: tokens per second and MFU for each kernel option.

Each row changes one option of the row before it. All rows train on the same batches, so their losses must agree. Without
a GPU, the tiny configuration only tests that everything works; its results do not apply to a GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.common import REPOSITORY, Table

_TASK = "tasks/train_llada2_bd.py"
_MID, _TINY = "configs/sft/llada2_mid_bd_sft.yaml", "configs/sft/llada2_mini_bd_sft.yaml"
_LIMIT_SECONDS = 1800.0
_WINDOW = 10  # steps between two lines; the first window includes compilation and is not shown


def _build_options(
    attention: str, experts: str, *, compiled: bool, mode: str = "fsdp2", checkpointing: bool = False
) -> list[str]:
    words = ["--model.attn_implementation", attention, "--model.moe_implementation", experts]
    words += ["--train.data_parallel_mode", mode, "--train.enable_mixed_precision", "true"]
    words += ["--train.enable_compile", str(compiled).lower()]
    return [*words, "--train.enable_gradient_checkpointing", str(checkpointing).lower()]


_VARIANTS = {
    "bf16, FSDP2, eager attention, a loop over the experts": _build_options("eager", "eager", compiled=False),
    "sdpa": _build_options("sdpa", "eager", compiled=False),
    "sdpa, fused experts": _build_options("sdpa", "fused", compiled=False),
    "sdpa, fused experts, compiled": _build_options("sdpa", "fused", compiled=True),
    "flex_attention, fused experts": _build_options("flex_attention", "fused", compiled=False),
    "flex_attention, fused experts, compiled": _build_options("flex_attention", "fused", compiled=True),
    "the same with DDP": _build_options("flex_attention", "fused", compiled=True, mode="ddp"),
    "the same with FSDP2, activations checkpointed": _build_options(
        "flex_attention", "fused", compiled=True, checkpointing=True
    ),
}


def measure(repeat: int = 3) -> Table:
    """Measure ``repeat`` windows of ten steps after the first one; a row shows its fastest window."""
    import torch

    gpu = torch.cuda.is_available()
    config, steps = (_MID if gpu else _TINY), str(_WINDOW * (1 + repeat))
    rows, notes, base = [], [], 0.0
    for name, options in _VARIANTS.items():
        with tempfile.TemporaryDirectory() as output:
            arguments = [
                "--train.output_dir",
                output,
                "--train.metrics_jsonl",
                "true",
                "--train.log_steps",
                str(_WINDOW),
            ]
            arguments += ["--train.max_steps", steps, "--train.save_steps", "0", "--train.save_epochs", "0"]
            reason = _run_training([_TASK, config, *arguments, *options])
            if reason:
                notes.append(f"Left out: {name}: {reason}")
                continue
            windows = _read_windows(Path(output))
        best = max(windows, key=lambda window: float(window["speed"]))
        base = base or best["speed"]
        rows.append((name, *_build_cells(best, windows[-1], base)))
    where = f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()}" if gpu else "CPU, the tiny model"
    title = f"{config}, {where}, torch {torch.__version__}"
    columns = ("", "tok/s", "×", "MFU", "GB a GPU", f"loss at step {steps}")
    return Table(title=title, columns=columns, rows=tuple(rows), notes=tuple(notes))


def _run_training(words: Sequence[str]) -> str:
    """Train with train.sh on all GPUs of this machine; return the error, or ""."""
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    try:
        done = subprocess.run(
            ["bash", "train.sh", *words],
            cwd=REPOSITORY,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=_LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it took over {_LIMIT_SECONDS / 60:.0f} minutes"
    said = (done.stdout + done.stderr).splitlines()
    errors = [line for line in said if "error: " in line.lower()] or said[-1:] or ["it printed nothing"]
    return errors[0] if done.returncode else ""


def _read_windows(output: Path) -> list[dict[str, Any]]:
    """Return the training lines of metrics.jsonl, without those of the first window."""
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if "speed" in row and row["step"] > _WINDOW]


def _build_cells(best: dict[str, Any], last: dict[str, Any], base: float) -> tuple[str, ...]:
    mfu = f"{best['mfu']:.1%}" if "mfu" in best else "–"
    memory = f"{last['gpu_gb']:.1f}" if "gpu_gb" in last else "–"
    return f"{best['speed']:.0f}", f"{best['speed'] / base:.2f}", mfu, memory, f"{last['loss']:.4f}"
