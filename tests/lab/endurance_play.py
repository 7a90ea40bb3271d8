"""The run of the endurance campaign: wait for its steps, strike it with a fault, and wait until it trains again."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.lab.drive import Done, Project, Running
from tests.lab.endurance_check import Struck
from tests.lab.endurance_faults import PORT, EnduranceFault, Target, choose_host
from tests.lab.lab import Lab

STEP = re.compile(r" step (\d+)/\d+ loss ")
BEGIN = re.compile(r"attempt (\d+) of this run")  # the task prints it before its first step
SCORE = re.compile(r"val_nll ([\d.]+)")
PATIENCE = 400.0  # on two idle cores a restart takes a tenth of it


class EnduranceRun:
    """A run that goes on through several attempts. ``roster`` are the hosts of the current one, by node rank."""

    def __init__(self, project: Project, words: tuple[str, ...]) -> None:
        self.running: Running = project.start_command(*words)
        self.roster = ["h1", "h2", "h3", "h4"]
        self.port = PORT
        self.done: Done | None = None

    @property
    def text(self) -> str:
        lines = self.running.seen.splitlines()
        return "\n".join(line for line in lines if not STEP.search(line))

    def find_progress(self) -> tuple[int, list[int]]:
        """Return the number of the attempt that prints now, and its steps so far."""
        out = self.running.texts["out"]
        begins = list(BEGIN.finditer(out))
        steps = STEP.findall(out, begins[-1].end() if begins else 0)
        return (int(begins[-1][1]) if begins else 0), [int(step) for step in steps]

    def read_val_nll(self) -> float:
        """Return the last score that the task printed."""
        return float(SCORE.findall(self.running.texts["out"])[-1])

    def wait_for_success(self, timeout: float) -> None:
        """Wait for the end; AssertionError unless the exit status is 0."""
        self.done = self.running.wait_for_end(timeout)
        assert self.done.code == 0, self.text

    def strike_fault(
        self, lab: Lab, fault: EnduranceFault, disk: Path, before: list[Struck], chance: random.Random
    ) -> Struck:
        """Strike once the attempt has reported some steps; return when the run trains again."""
        enough = chance.randint(22, 40)
        self._wait_until(lambda: len(self.find_progress()[1]) >= enough, f"{enough} steps before {fault.name}")
        number, steps = self.find_progress()
        classes = {(each.host, kind) for each in before for kind in each.fault.classes}
        name = choose_host(fault, self.roster, classes, chance)
        target = Target(host=lab[name], first=lab[self.roster[0]], disk=disk, port=self.port)
        at = time.monotonic()
        fault.strike(target)
        if fault.expected == "continues":
            threading.Event().wait(fault.lasts)
            fault.undo(target)
            seen = len(self.find_progress()[1])
            self._wait_until(
                lambda: self._trains_on(number, seen + 5), f"attempt {number} trains on after {fault.name}"
            )
        else:
            if fault.lasts == 0.0:
                self._wait_until(lambda: self._has_failed(number), f"attempt {number} fails by {fault.name}")
                fault.undo(target)
            following = number + (2 if fault.expected == "other port" else 1)
            self._wait_until(lambda: self._trains_on(following, 1), f"attempt {following} after {fault.name}")
            if fault.lasts is None:
                fault.undo(target)
        struck = Struck(
            fault=fault,
            host=name,
            attempt=number,
            step=steps[-1],
            at=at,
            undone_at=time.monotonic(),
            roster=tuple(self.roster),
        )
        self._follow_roster(struck)
        return struck

    def _follow_roster(self, struck: Struck) -> None:
        """Note the hosts of the current attempt, as the run printed them."""
        replaced = re.findall(rf"(\S+) replaces {struck.host} as node rank", self.running.texts["err"])
        if struck.fault.expected == "replaced" and replaced:
            self.roster[self.roster.index(struck.host)] = replaced[-1]
        if struck.fault.expected == "other port":
            self.port += 1

    def _has_failed(self, number: int) -> bool:
        return f"attempt {number} failed: " in self.running.texts["err"]

    def _trains_on(self, number: int, steps: int) -> bool:
        now, seen = self.find_progress()
        return now == number and len(seen) >= steps

    def _wait_until(self, condition: Callable[[], bool], what: str) -> None:
        self.running.wait_for(condition, what, timeout=PATIENCE)
