"""Key lines of a traceback: the few lines that show where it failed in the user's code, and the error. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FRAME = re.compile(r'\s*File "')
_LEAST = 3


def select_key_lines(lines: Sequence[str], error: str, count: int) -> tuple[str, ...]:
    """Return at most ``count`` lines: up to ``error``, the line that names the exception, with the innermost frame.

    ``lines`` have only frames of the user's code, as after ``fold_frames``. Without ``error``, the last lines count.
    """
    end = max((at + 1 for at, line in enumerate(lines) if error and line.strip() == error.strip()), default=len(lines))
    block = lines[:end]
    chosen = block[max(0, len(block) - count) :]
    frames = [at for at, line in enumerate(block) if _FRAME.match(line)]
    if not error or count < _LEAST or not frames or frames[-1] >= len(block) - len(chosen):
        return tuple(chosen)
    frame = block[frames[-1] : frames[-1] + min(2, count - 1)]
    return (*frame, *block[max(frames[-1] + 2, len(block) - count + len(frame)) :])
