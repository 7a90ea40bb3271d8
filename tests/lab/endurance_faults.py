"""Faults of the endurance run: what one does to a host, when it is undone, and what the run must do."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.lab import ns
from tests.lab.drive import list_processes
from tests.lab.machines import Host

Expected = Literal["continues", "in place", "replaced", "other port"]
TASK = "own_log_task.py"
PORT = 29500
#: Take the port as soon as it is free, as another user's run would, and hold it.
_STRANGER = """
import os, socket, sys, time
while True:
    try:
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as torch binds: TIME_WAIT is no hindrance
        holder.bind(("", int(sys.argv[1])))
        break
    except OSError:
        time.sleep(0.002)
holder.listen()
while True:
    time.sleep(60)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a fault strikes: a host of the current attempt, the disk of the checkpoints, and the port of the attempt."""

    host: Host
    first: Host  # with node rank 0
    disk: Path
    port: int


Act = Callable[[Target], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnduranceFault:
    """A fault. It lasts ``lasts`` seconds, or until the next attempt trains (None), or until the attempt has failed (0)."""

    name: str
    strike: Act
    undo: Act
    expected: Expected
    classes: tuple[str, ...] = ()  # failure classes of the attempt that it ends
    lasts: float | None = None
    which: Literal["any", "first", "later"] = "any"  # node rank of the host


def list_ranks(host: Host) -> list[ns.Process]:
    """Return the processes of the ranks, without torchrun."""
    return [one for one in list_processes(host, TASK) if not any("torchrun" in word for word in one.argv)]


def _kill_rank(target: Target) -> None:
    ranks = list_ranks(target.host)
    if not ranks:
        raise ns.LabError(f"{target.host.name} has no rank to kill")
    os.kill(ranks[0].pid, signal.SIGKILL)


def _power_off(target: Target) -> None:
    target.host.power_off()


def _power_on(target: Target) -> None:
    target.host.power_on()


def _reboot_host(target: Target) -> None:
    target.host.reboot_machine()


def _pull_cable(target: Target) -> None:
    target.host.link_down()


def _plug_cable(target: Target) -> None:
    target.host.link_up()


def _freeze_host(target: Target) -> None:
    target.host.freeze_processes()


def _thaw_host(target: Target) -> None:
    target.host.thaw_processes()


def _fill_disk(target: Target) -> None:
    block = b"\0" * (1 << 16)
    with open(target.disk / "fill", "wb", buffering=0) as file:
        try:
            while True:
                file.write(block)
        except OSError:
            return


def _free_disk(target: Target) -> None:
    (target.disk / "fill").unlink()


def _take_port(target: Target) -> None:
    """Let a stranger wait for the port of the run on its first host, then end the attempt."""
    target.first.start_program([sys.executable, "-c", _STRANGER, str(target.port)], user="lab")
    ns.wait_until(lambda: bool(list_processes(target.first, "import os, socket")), 20.0, "the stranger runs")
    _kill_rank(target)


def _end_stranger(target: Target) -> None:
    for process in list_processes(target.first, "import os, socket"):
        os.kill(process.pid, signal.SIGKILL)


def _do_nothing(target: Target) -> None:
    """Return at once: this fault cannot be undone, or undoes itself."""


KINDS = (
    EnduranceFault(name="rank killed", strike=_kill_rank, undo=_do_nothing, expected="in place", classes=("crash",)),
    EnduranceFault(
        name="power off, on again later",
        strike=_power_off,
        undo=_power_on,
        expected="replaced",
        classes=("host-lost",),
        which="later",
    ),
    EnduranceFault(
        name="host 0 off, on again later",
        strike=_power_off,
        undo=_power_on,
        expected="replaced",
        classes=("host-lost",),
        which="first",
    ),
    EnduranceFault(name="reboot", strike=_reboot_host, undo=_do_nothing, expected="in place", classes=("rebooted",)),
    EnduranceFault(name="cable out for 6 s", strike=_pull_cable, undo=_plug_cable, expected="continues", lasts=6.0),
    EnduranceFault(
        name="cable out beyond the lease",
        strike=_pull_cable,
        undo=_plug_cable,
        expected="replaced",
        classes=("host-lost",),
    ),
    EnduranceFault(name="frozen for 6 s", strike=_freeze_host, undo=_thaw_host, expected="continues", lasts=6.0),
    EnduranceFault(
        name="frozen beyond the lease",
        strike=_freeze_host,
        undo=_thaw_host,
        expected="replaced",
        classes=("host-lost",),
    ),
    EnduranceFault(
        name="disk full, freed",
        strike=_fill_disk,
        undo=_free_disk,
        expected="in place",
        classes=("disk-full",),
        lasts=0.0,
    ),
    EnduranceFault(
        name="port taken in the gap", strike=_take_port, undo=_end_stranger, expected="other port", classes=("crash",)
    ),
)


def draw_faults(chance: random.Random, count: int) -> list[EnduranceFault]:
    """Return ``count`` faults in random order: each kind once, then any."""
    drawn = list(KINDS)[:count] + [chance.choice(KINDS) for _ in range(count - len(KINDS))]
    chance.shuffle(drawn)
    return drawn


def choose_host(fault: EnduranceFault, roster: list[str], struck: set[tuple[str, str]], chance: random.Random) -> str:
    """Return the host to strike. A host that had a failure of this class before would be replaced, so it is spared."""
    candidates = {"any": roster, "first": roster[:1], "later": roster[1:]}[fault.which]
    fresh = [name for name in candidates if not any((name, each) in struck for each in fault.classes)]
    return chance.choice(fresh or candidates)
