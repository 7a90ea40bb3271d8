"""Stacks grouped over ranks: where ranks wait, and which ranks are elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from os.path import basename

from fanout.diagnose.evidence import StackSnapshot
from fanout.model.frozen import frozen
from fanout.model.hosts import fold_names, fold_numbers
from fanout.model.process_names import name_process

LIBRARY = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/python\d|^<frozen |^<fanout>|/bin/torchrun$")
_COLLECTIVE = "torch/distributed/"
_COLLECTIVE_NAMES = frozenset(
    {"all_reduce", "allreduce", "all_gather", "allgather", "all_to_all", "alltoall", "reduce_scatter", "barrier"}
)
_WRAPPERS = frozenset({"wrapper", "_wrapped", "inner", "decorate_context", "_fn", "wrapped", "__call__", "_call_impl"})
_PYTHON_FRAME = re.compile(r'\s*File "([^"]+)", line (\d+)(?:, in (.+))?')
_STATES = {"T": "is stopped (SIGSTOP)", "t": "is held by a debugger", "D": "waits in the kernel", "Z": "has ended"}
_MOST = 4


@frozen
class CodeLocation:
    """One place in the code. ``what`` is the function (of a library or the user), ``where`` is file:line.

    ``waits``: in a collective. ``plain``: no Python stack; ``what`` is the kernel's state.
    """

    what: str
    where: str
    waits: bool = False
    plain: bool = False

    def __str__(self) -> str:
        if self.plain:
            return self.what
        return f"{'waits' if self.waits else 'is'} in {self.what}{f' ({self.where})' if self.where else ''}"


def locate_snapshot(stand: StackSnapshot) -> CodeLocation:
    """Return the place of a stack, in user code if there is any."""
    if not stand.frames:
        text = _STATES.get(stand.state, "has no readable stack")
        return CodeLocation(
            what=f"{text} ({stand.wchan})" if stand.wchan and stand.state == "D" else text, where="", plain=True
        )
    if stand.state in ("T", "t"):
        return CodeLocation(what=_STATES[stand.state], where="", plain=True)
    return locate_frames(stand.frames)


def locate_frames(frames: Sequence[tuple[str, int, str]]) -> CodeLocation:
    """Return the innermost frame of user code and the function that it called.

    If the user's own code implements a collective, its caller is the place.
    """
    for depth, (file, line, name) in enumerate(frames):
        if not LIBRARY.search(file):
            inner = frames[:depth]
            called = next((each for each in reversed(inner) if each[2] not in _WRAPPERS), None)
            waits = any(_COLLECTIVE in each[0] for each in inner)
            own = None if waits else _locate_own_collective(frames[depth:])
            return own or CodeLocation(
                what=called[2] if called else name, where=f"{basename(file)}:{line}", waits=waits
            )
    file, line, name = frames[0]
    waits = any(_COLLECTIVE in each[0] for each in frames)
    return CodeLocation(what=name, where=f"{basename(file)}:{line}", waits=waits)


def _locate_own_collective(frames: Sequence[tuple[str, int, str]]) -> CodeLocation | None:
    """Return the call of a function of user code that has the name of a collective; None if there is none."""
    for called, (file, line, _) in pairwise(frames):
        if called[2] in _COLLECTIVE_NAMES and not LIBRARY.search(called[0]):
            return CodeLocation(what=called[2], where=f"{basename(file)}:{line}", waits=True)
    return None


def parse_frames(traceback: Sequence[str]) -> tuple[tuple[str, int, str], ...]:
    """Return the frames of the first exception of a traceback, innermost first."""
    found: list[tuple[str, int, str]] = []
    for line in traceback:
        match = _PYTHON_FRAME.match(line)
        if match is not None:
            found.append((match[1], int(match[2]), match[3] or "<module>"))
        elif found and line[:1] not in (" ", "\t", ""):
            break
    return tuple(reversed(found))


def group_by_location(stands: Iterable[StackSnapshot]) -> list[tuple[CodeLocation, list[StackSnapshot]]]:
    """Group stacks by place, the largest group first."""
    found: dict[CodeLocation, list[StackSnapshot]] = {}
    for stand in stands:
        found.setdefault(locate_snapshot(stand), []).append(stand)
    return sorted(found.items(), key=lambda item: -len(item[1]))


def describe_stacks(stands: Sequence[StackSnapshot]) -> tuple[str, ...]:
    """Return sentences such as ``ranks 0-12,14-31 wait in all_reduce (model.py:88)``.

    A process without a rank and without a readable stack is left out: it may be torchrun, whose place is not that of a rank.
    """
    ranks = [each for each in stands if each.rank is not None]  # a launcher among them is not a rank
    stands = ranks or [each for each in stands if each.frames or each.state in _STATES]
    out = [
        f"{format_ranks(each)} {conjugate_phrase(str(place), len(each))}" for place, each in group_by_location(stands)
    ]
    return tuple(out[:_MOST] + ([f"and {len(out) - _MOST} more places"] if len(out) > _MOST else []))


def describe_readers(stands: Sequence[StackSnapshot]) -> tuple[str, ...]:
    """Return sentences about stacks that were read from outside, or not at all and why."""
    spied = [each for each in stands if each.frames and each.way not in ("", "faulthandler")]
    out = [f"{format_ranks(spied)}: read by {spied[0].way} from outside the process"] if spied else []
    untold: dict[str, list[StackSnapshot]] = {}
    for stand in stands:
        if stand.untold:
            untold.setdefault(re.sub(r"\bpid \d+", "it", stand.untold), []).append(stand)
    return (*out, *(f"{format_ranks(each)}: {why}" for why, each in untold.items()))


def format_ranks(stands: Sequence[StackSnapshot]) -> str:
    """Return the name of the processes, such as ``rank 13 (gpu02)``."""
    hosts = fold_names(dict.fromkeys(each.host for each in stands))
    ranks = sorted(each.rank for each in stands if each.rank is not None)
    if not ranks:
        alone = f"{name_process(stands[0].pid, stands[0].container)} on {hosts}"
        return f"{len(stands)} processes on {hosts}" if len(stands) > 1 else alone
    if len(ranks) == 1:
        return f"rank {ranks[0]} ({hosts})"
    return f"ranks {fold_numbers(ranks)} ({hosts})"


def conjugate_phrase(text: str, count: int) -> str:
    """Return the verb phrase for this count, in the plural unless it is 1."""
    if count == 1:
        return text
    word, _, rest = text.partition(" ")
    return f"{ {'waits': 'wait', 'is': 'are', 'has': 'have'}.get(word, word) } {rest}"
