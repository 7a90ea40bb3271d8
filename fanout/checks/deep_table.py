"""Measurements of the deep check: the bandwidth table of the report, and all values for ``--json``. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fanout.checks import pairs
from fanout.checks.model import Case
from fanout.checks.pairs import Measured, Pair
from fanout.checks.together import ONE, DeepTest, algorithm, bus, rate, volume
from fanout.hosts import fold

MOST_ROWS = 24


def shown(case: Case) -> list[str]:
    """Return lines: the all-reduce over all hosts by size, then each host's best and slowest pair; [] without a test."""
    test = case.deep
    if test is None or not test.sizes or len(set(test.order)) < 2:
        return []
    world = len(test.order)
    lines = ["", f"BANDWIDTH of all-reduce ({test.backend}; as in nccl-tests, bus is the bandwidth of each link)"]
    table = [[f"{world} processes", "bus", "algorithm"]]
    for size, seconds in test.sizes:
        if size > ONE:
            table.append([volume(size), rate(bus(size, seconds, world)), rate(algorithm(size, seconds))])
    lines += _columns(table)
    return [*lines, "", *_columns(_hosts(dict.fromkeys(test.order), test.pairs))] if len(test.pairs) > 1 else lines


def _hosts(names: Iterable[str], measured: Mapping[Pair, Measured]) -> list[list[str]]:
    """Return one row per host with its bus bandwidth in pairs; if not all fit, the slowest hosts first."""
    usual, best = pairs.usual(measured), pairs.best_of_hosts(measured)
    rows = []
    for name in names:
        mine = {pair: found for pair, found in measured.items() if name in pair}
        slowest = min(mine, key=lambda pair: mine[pair].bandwidth if mine[pair].works else -1.0)
        other = fold(set(slowest) - {name})
        worst = rate(mine[slowest].bandwidth) if mine[slowest].works else "none"
        share = best.get(name, 0.0) / usual if usual else 0.0
        rows.append(
            (share, [name, rate(best[name]) if name in best else "none", f"{share:.0%}", f"{worst} with {other}"])
        )
    if len(rows) > MOST_ROWS:
        rows = sorted(rows, key=lambda row: row[0])[:MOST_ROWS]
    return [["host", "best pair", "of the median", "slowest pair"], *(row for _, row in rows)]


def _columns(table: list[list[str]]) -> list[str]:
    """Lay out the table: first column left-aligned, numbers right-aligned."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            [
                "  " + f"{line[0]:<{widths[0]}}",
                *(f"{text:>{width}}" for text, width in zip(line[1:], widths[1:], strict=True)),
            ]
        )
        for line in table
    ]


def record(test: DeepTest | None) -> dict[str, Any] | None:
    """Return the measured bytes and seconds, and the bandwidths in bytes per second; None without a test."""
    if test is None:
        return None
    world = len(test.order)
    return {
        "unmade": test.unmade,
        "backend": test.backend,
        "store": test.place,
        "ranks": list(test.order),
        "processes": {
            name: [{"torch": dict(began), "sum": dict(at(test.joined, name, local)), "burn": dict(at(test.burned, name, local))}
                   for local, began in enumerate(processes)]
            for name, processes in test.began.items()
        },
        "sizes": [
            {"bytes": size, "seconds": seconds, "algorithm": algorithm(size, seconds), "bus": bus(size, seconds, world)}
            for size, seconds in test.sizes
        ],
        "pairs": [
            {"hosts": list(pair), "bus": found.bandwidth, "bytes": found.size, "error": found.error, "stage": found.stage}
            for pair, found in test.pairs.items()
        ],
        "usual": pairs.usual(test.pairs),
        "blamed": [{"hosts": list(blame.hosts), "broken": blame.broken} for blame in test.blames],
    }  # fmt: skip


def at(told: Mapping[str, Any], name: str, local: int) -> Mapping[str, Any]:
    """Return the answer of one process; {} if it did not reach that step."""
    processes = told.get(name, ())
    found: Mapping[str, Any] = processes[local] if local < len(processes) else {}
    return found
