"""Every condition that lets a test be skipped, with its reason. No other file of the tests may skip.

A program that is not installed is no such condition: ``tests/run_tiers`` installs what a tier needs, and the test fails
without it. ``tests/test_skips.py`` enforces both, ``tests/conftest.py`` turns any other skip into a failure.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

import pytest

REASONS: Mapping[str, str] = {
    "gpu": "it needs a GPU",
    "linux": "it reads Linux's /proc or uses a call that only Linux has",
    "root": "it needs root: another user's files or namespaces",
    "namespaces": "this kernel or container forbids namespaces",
    "ptrace": "this kernel or container forbids ptrace",
}


def needs(*names: str) -> pytest.MarkDecorator:
    """Return a mark that skips the test if this machine lacks one of ``names``."""
    lacking = [name for name in names if not _HAS[name]()]
    return pytest.mark.skipif(
        bool(lacking), reason="; ".join(REASONS[name] for name in lacking) or "nothing is missing"
    )


def skip(name: str, detail: str) -> None:
    """Skip the running test: it found that this machine lacks ``name``."""
    pytest.skip(f"{REASONS[name]}: {detail}")


def is_known(reason: str) -> bool:
    """Return whether a skip with this reason is one of the table's."""
    return any(reason.removeprefix("Skipped: ").startswith(known) for known in REASONS.values())


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


_HAS: Mapping[str, Callable[[], bool]] = {
    "gpu": _has_gpu,
    "linux": lambda: sys.platform == "linux",
    "root": lambda: os.getuid() == 0,
}
