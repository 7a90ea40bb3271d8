"""What the deep check brought home: who met whom through torch, how fast, and what the GPUs computed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from fanout.checks.pairs import Blame, Measured, Pair, blamed
from fanout.hosts import fold

Processes: TypeAlias = tuple[Mapping[str, Any], ...]  # what each process of a host said, by its local number

MEETING = ("", "start", "store", "arrive", "group", "sum of 4 bytes")  # the stages before any tensor of size
ONE = 4  # the bytes of one element, which is the first sum of all
LARGE = 1 << 20  # far beyond any MTU: where so much came back, a larger sum that does not is slow, and measured so far
SIZES = (1 << 16, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepTest:
    """The steps of the deep check, as far as it came; ``unmade`` says why there was none.

    ``began`` is what torch is in each process (or why it is not), ``joined`` what became of the store, the group and
    the sums over all; a host that is absent was not asked. ``pairs`` are both passes; ``burned`` is empty without GPUs.
    """

    unmade: str = ""
    backend: str = ""
    began: Mapping[str, Processes] = field(default_factory=dict)
    joined: Mapping[str, Processes] = field(default_factory=dict)
    order: tuple[str, ...] = ()  # the host of each rank of the sum over all
    place: str = ""  # where the store is: address:port
    pairs: Mapping[Pair, Measured] = field(default_factory=dict)
    burned: Mapping[str, Processes] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[tuple[int, float], ...]:
        """(bytes, seconds) of the sums over all hosts: those of the process that came furthest."""
        told = [one.get("sizes", ()) for processes in self.joined.values() for one in processes]
        return tuple((int(size), float(seconds)) for size, seconds, _ in max(told, key=len, default=()))

    @property
    def blames(self) -> tuple[Blame, ...]:
        return blamed(list(dict.fromkeys(self.order)), self.pairs)

    def trouble(self, name: str) -> Mapping[str, Any]:
        """What went wrong first on the way to the sum over all, on this host; {} if nothing did."""
        return next((one for one in self.joined.get(name, ()) if one.get("error")), {})


def algorithm(size: int, seconds: float) -> float:
    """nccl-tests' algorithm bandwidth, in bytes a second: what one process gets summed up."""
    return size / seconds if seconds > 0 else 0.0


def bus(size: int, seconds: float, world: int) -> float:
    """nccl-tests' bus bandwidth of an all-reduce: what each link must carry, so that it compares with the link's own.

    Of S bytes on each of n ranks, 2 (n-1)/n S go through every link (nccl-tests, doc/PERFORMANCE.md).
    """
    return algorithm(size, seconds) * 2 * (world - 1) / world


def measured(ends: Mapping[str, Processes]) -> Measured:
    """One pair's figure out of what the processes of its two hosts said."""
    processes = [one for name in ends for one in ends[name]]
    told: Any = max((one.get("sizes", ()) for one in processes), key=len, default=())
    figures = [(bus(size, seconds, len(processes)), int(size)) for size, seconds, _ in told if size > ONE]
    bandwidth, size = max(figures, default=(0.0, 0))
    failed = next((one for one in processes if one.get("error") and not (one.get("late") and size >= LARGE)), None)
    if failed:
        return Measured(bandwidth=bandwidth, size=size, error=failed["error"], stage=failed.get("stage", ""))
    if wrong(ends):
        return Measured(bandwidth=bandwidth, size=size, error="the sum is wrong", stage="wrong")
    return Measured(bandwidth=bandwidth, size=size)


def wrong(ends: Mapping[str, Processes]) -> dict[str, tuple[int, int]]:
    """host -> (bytes, wrong elements) of the first sum that was not right there."""
    found: dict[str, tuple[int, int]] = {}
    for name, processes in ends.items():
        for one in processes:
            for size, _, elements in one.get("sizes", ()):
                if elements:
                    found.setdefault(name, (int(size), int(elements)))
    return found


def partners(blame: Blame) -> str:
    """With whom a host was found bad."""
    return fold(name for pair in blame.pairs for name in pair if name not in blame.hosts)


def rate(bandwidth: float) -> str:
    """``1.4 GB/s``, ``12 MB/s``; in powers of ten, as networks and nccl-tests count."""
    for unit, name in ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")):
        if bandwidth >= unit:
            return f"{bandwidth / unit:.3g} {name}" if bandwidth < 999.5 * unit else f"{bandwidth / unit:.0f} {name}"
    return f"{bandwidth:.0f} B/s"


def volume(size: int) -> str:
    """``4 B``, ``64 KB``, ``16 MB``: sizes are powers of two."""
    for unit, name in ((1 << 20, "MB"), (1 << 10, "KB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"
