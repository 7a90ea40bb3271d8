"""Progress reports of the training: a line every few steps, metrics.jsonl, TensorBoard, and a progress bar."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from .errors import UserError
from .sections import Config


def print_line(text: str) -> None:
    """Write one whole line to standard output, at once: lines of two ranks must not mix."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def step_line(
    step: int,
    steps: int,
    *,
    loss: float,
    grad_norm: float,
    rate: float,
    speed: float,
    mfu: float | None = None,
    gpu_gb: float | None = None,
) -> str:
    """Return ``step 76/600 loss 3.2437 grad_norm 0.574 lr 5.78e-03 tok/s 25938``, and the figures of a GPU."""
    line = f"step {step}/{steps} loss {loss:.4f} grad_norm {grad_norm:.3f} lr {rate:.2e} tok/s {speed:.0f}"
    line += "" if mfu is None else f" mfu {mfu:.1%}"
    return line if gpu_gb is None else f"{line} gpu_gb {gpu_gb:.1f}"


class Reporter:
    """Output of the training, which only rank 0 writes."""

    def __init__(self, config: Config, first: bool, start: int, steps: int) -> None:
        self.first, self.steps, self.every = first, steps, config.train.log_steps
        self._jsonl: Any = None
        self._board: Any = None
        self._bar: Any = None
        if not first:
            return
        if config.train.metrics_jsonl:
            self._jsonl = open(os.path.join(config.train.output_dir, "metrics.jsonl"), "a", encoding="utf-8")  # noqa: SIM115
        if config.train.use_tensorboard:
            self._board = _tensorboard(config.train.output_dir)
        if sys.stderr.isatty():
            self._bar = _bar(start, steps)

    def due(self, step: int) -> bool:
        """Return whether ``step`` (from 1) gets a line: the first, the last, and every log_steps-th."""
        return step in (1, self.steps) or step % self.every == 0

    def step(self, step: int, **numbers: float | None) -> None:
        """Report one step: print ``step_line`` and record the metrics if the step is due."""
        if self.first and self.due(step):
            self.print_line(step_line(step, self.steps, **numbers))  # type: ignore[arg-type]
            self.record(step, numbers)
        if self._bar is not None:
            self._bar.update(1)

    def record(self, step: int, numbers: dict[str, float | None]) -> None:
        """Add numbers to metrics.jsonl and TensorBoard."""
        kept = {name: value for name, value in numbers.items() if value is not None}
        if self._jsonl is not None:
            self._jsonl.write(json.dumps({"step": step, **kept}) + "\n")
            self._jsonl.flush()
        if self._board is not None:
            for name, value in kept.items():
                self._board.add_scalar(name, value, step)

    def print_line(self, text: str) -> None:
        """Print a line on rank 0, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(text)
        elif self.first:
            print_line(text)

    def close(self) -> None:
        """Close the files and the bar."""
        for stream in (self._jsonl, self._board, self._bar):
            if stream is not None:
                stream.close()


def _tensorboard(directory: str) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("train.use_tensorboard: tensorboard is not installed; type: pip install tensorboard") from None
    return SummaryWriter(os.path.join(directory, "tensorboard"))


def _bar(start: int, steps: int) -> Any:
    try:
        from tqdm import tqdm  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        return None
    return tqdm(initial=start, total=steps, unit="step", dynamic_ncols=True)
