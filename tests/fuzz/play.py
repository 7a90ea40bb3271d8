"""Fuzzing campaign: runs targets with mutated inputs, each with its own seed; records faults and memory use."""

from __future__ import annotations

import random
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.fuzz import records, targets

Target = Callable[[random.Random, Path], None]
#: target -> its share of all plays
TARGETS: dict[str, tuple[Target, int]] = {
    "check": (targets.play_check, 4),
    "run": (targets.play_run, 4),
    "record": (records.play_damage, 2),
}
MOST_BYTES = 192 << 20  # the most that Python objects may take at any moment, in one run of a target
EVERY = 25  # every n-th run is measured: measuring takes five times as long


class Campaign:
    """``faults``: where each different fault was raised -> (target:seed, traceback) of the first."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self.played: Counter[str] = Counter()
        self.faults: dict[str, tuple[str, str]] = {}
        self.most = 0

    def play_all(self, mutations: int, *, only: str = "", report: Callable[[str], None] = lambda text: None) -> None:
        """Run so many mutated inputs, over all targets or over one."""
        chosen = {name: share for name, (_, share) in TARGETS.items() if only in ("", name)}
        turns = [name for name, share in chosen.items() for _ in range(share)]
        began = time.monotonic()
        for number in range(mutations):
            known = len(self.faults)
            self.play_one(turns[number % len(turns)], self._seed * 10_000_000 + number)
            if len(self.faults) > known:
                report("\n".join(list(self.faults.values())[-1]))
            if (number + 1) % 5000 == 0:
                report(f"{number + 1} in {time.monotonic() - began:.0f} s, {len(self.faults)} faults")

    def play_one(self, name: str, number: int) -> None:
        """Run one; ``number`` is the seed of its random generator."""
        measured = number % EVERY == 0
        if measured:
            tracemalloc.start()
        try:
            TARGETS[name][0](random.Random(number), self._folder)
        except Exception as error:  # noqa: BLE001 - any exception is what is looked for
            where = traceback.extract_tb(error.__traceback__)[-1]
            key = f"{type(error).__name__} at {where.filename}:{where.lineno}"
            self.faults.setdefault(key, (f"{name}:{number}", traceback.format_exc()))
        finally:
            if measured:
                self.most = max(self.most, tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
        self.played[name] += 1
        if self.most > MOST_BYTES:
            self.faults.setdefault("memory", (f"{name}:{number}", f"{self.most >> 20} MiB at once"))

    def format_outcome(self) -> str:
        """Return the outcome as text."""
        counts = ", ".join(f"{count} of {name}" for name, count in self.played.items())
        lines = [
            f"{self.played.total()} changed inputs ({counts}): {len(self.faults)} faults; at most {self.most >> 20} MiB"
        ]
        for key, (seed, text) in self.faults.items():
            lines += [f"--- {key}  (--only {seed})", text.rstrip()]
        return "\n".join(lines)
