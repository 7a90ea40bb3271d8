"""Result of the deep check: the answers of all processes, the bandwidth of pairs, and the GPU computations. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, TypeAlias

from fanout.checks.deep.pairwise import Pair, PairFault, PairMeasurement, find_faults
from fanout.model.frozen import frozen
from fanout.model.hosts import fold_names

Processes: TypeAlias = tuple[Mapping[str, Any], ...]  # the answer of each process of a host, by local rank

RENDEZVOUS_STAGES = ("", "start", "store", "arrive", "group", "sum of 4 bytes")  # the stages before any tensor of size
ONE = 4  # bytes of one element, the size of the first all-reduce
LARGE = 1 << 20  # bytes, far above any MTU: if this size worked, a larger size that times out is only slow
SIZES = (1 << 16, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28)


@frozen
class DeepTest:
    """Results of the deep check's steps, as far as it got; ``unmade`` is the reason if it was not made.

    ``began`` has torch's properties in each process, or the import error. ``joined`` has the result of the store, the
    group and the all-reduces over all hosts; a host that was not asked is absent. ``pairs`` merges all passes.
    ``burned`` has the results of the GPU test and is empty without GPUs.
    """

    unmade: str = ""
    backend: str = ""
    began: Mapping[str, Processes] = field(default_factory=dict)
    joined: Mapping[str, Processes] = field(default_factory=dict)
    order: tuple[str, ...] = ()  # the host of each rank in the all-reduce over all hosts
    place: str = ""  # address:port of the store
    pairs: Mapping[Pair, PairMeasurement] = field(default_factory=dict)
    burned: Mapping[str, Processes] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[tuple[int, float], ...]:
        """(bytes, seconds) of the all-reduces over all hosts, from the process with the most results."""
        sizes_of_processes = [one.get("sizes", ()) for processes in self.joined.values() for one in processes]
        return tuple((int(size), float(seconds)) for size, seconds, _ in max(sizes_of_processes, key=len, default=()))

    @property
    def faults(self) -> tuple[PairFault, ...]:
        return find_faults(list(dict.fromkeys(self.order)), self.pairs)

    def get_first_error(self, name: str) -> Mapping[str, Any]:
        """Return the first error on this host before or in the all-reduce over all hosts; {} if there is none."""
        return next((one for one in self.joined.get(name, ()) if one.get("error")), {})


def compute_algorithm_bandwidth(size: int, seconds: float) -> float:
    """Return the algorithm bandwidth of nccl-tests in bytes per second: size / time."""
    return size / seconds if seconds > 0 else 0.0


def compute_bus_bandwidth(size: int, seconds: float, world: int) -> float:
    """Return the bus bandwidth of an all-reduce in bytes per second, which compares with the bandwidth of a link.

    With S bytes on each of n ranks, 2 (n-1)/n S go through every link (nccl-tests, doc/PERFORMANCE.md).
    """
    return compute_algorithm_bandwidth(size, seconds) * 2 * (world - 1) / world


def evaluate_pair(ends: Mapping[str, Processes]) -> PairMeasurement:
    """Return the bandwidth of a pair from the answers of the processes on its two hosts."""
    processes = [one for name in ends for one in ends[name]]
    sizes_of_processes: Any = max((one.get("sizes", ()) for one in processes), key=len, default=())
    figures = [
        (compute_bus_bandwidth(size, seconds, len(processes)), int(size))
        for size, seconds, _ in sizes_of_processes
        if size > ONE
    ]
    bandwidth, size = max(figures, default=(0.0, 0))
    failed = next((one for one in processes if one.get("error") and not (one.get("late") and size >= LARGE)), None)
    if failed:
        return PairMeasurement(bandwidth=bandwidth, size=size, error=failed["error"], stage=failed.get("stage", ""))
    if find_wrong_results(ends):
        return PairMeasurement(bandwidth=bandwidth, size=size, error="the sum is wrong", stage="wrong")
    return PairMeasurement(bandwidth=bandwidth, size=size)


def find_wrong_results(ends: Mapping[str, Processes]) -> dict[str, tuple[int, int]]:
    """Return host -> (bytes, wrong elements) of its first all-reduce with a wrong result."""
    found: dict[str, tuple[int, int]] = {}
    for name, processes in ends.items():
        for one in processes:
            for size, _, elements in one.get("sizes", ()):
                if elements:
                    found.setdefault(name, (int(size), int(elements)))
    return found


def format_partners(blame: PairFault) -> str:
    """Return the partners in the pairs that show the fault, folded."""
    return fold_names(name for pair in blame.pairs for name in pair if name not in blame.hosts)
