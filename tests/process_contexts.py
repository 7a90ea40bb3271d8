"""Context of a fanout process for tests that call a command's function: no environment, no terminal, one output."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fanout.run.process_context import ProcessContext


def build_process(
    cwd: Path | str, out: io.StringIO, *, stdin: Callable[[int], bytes] = lambda size: b"", **more: Any
) -> ProcessContext:
    """Return the context. ``out`` gets what the command writes to both streams."""
    process = ProcessContext(
        environ={},
        cwd=str(cwd),
        stdout=out,
        stderr=out,
        stdin=stdin,
        user="me",
        machine="pc",
        prefix="",
        columns=100,
    )
    return replace(process, **more)
