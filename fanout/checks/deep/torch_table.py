"""Measurements of the deep check: the bandwidth table of the report, and all values for ``--json``. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fanout.checks.deep import pairwise
from fanout.checks.deep.pairwise import Pair, PairMeasurement
from fanout.checks.deep.torch_result import ONE, DeepTest, compute_algorithm_bandwidth, compute_bus_bandwidth
from fanout.checks.engine.definition import CheckContext
from fanout.model.hosts import fold_names
from fanout.text.table import format_table
from fanout.text.units import format_bandwidth, format_binary_size

MOST_ROWS = 24


def render_bandwidth_tables(case: CheckContext) -> list[str]:
    """Return lines: the all-reduce over all hosts by size, then each host's best and slowest pair; [] without a test."""
    test = case.deep
    if test is None or not test.sizes or len(set(test.order)) < 2:
        return []
    world = len(test.order)
    lines = ["", f"BANDWIDTH of all-reduce ({test.backend}; as in nccl-tests, bus is the bandwidth of each link)"]
    table = [[f"{world} processes", "bus", "algorithm"]]
    for size, seconds in test.sizes:
        if size > ONE:
            table.append(
                [
                    format_binary_size(size),
                    format_bandwidth(compute_bus_bandwidth(size, seconds, world)),
                    format_bandwidth(compute_algorithm_bandwidth(size, seconds)),
                ]
            )
    lines += _align_columns(table)
    return (
        [*lines, "", *_align_columns(_build_host_table(dict.fromkeys(test.order), test.pairs))]
        if len(test.pairs) > 1
        else lines
    )


def _build_host_table(names: Iterable[str], measured: Mapping[Pair, PairMeasurement]) -> list[list[str]]:
    """Return one row per host with its bus bandwidth in pairs; if not all fit, the slowest hosts first."""
    usual, best = pairwise.compute_usual_bandwidth(measured), pairwise.find_best_bandwidths(measured)
    rows = []
    for name in names:
        mine = {pair: found for pair, found in measured.items() if name in pair}
        slowest = min(mine, key=lambda pair: mine[pair].bandwidth if mine[pair].is_working else -1.0)
        other = fold_names(set(slowest) - {name})
        worst = format_bandwidth(mine[slowest].bandwidth) if mine[slowest].is_working else "none"
        share = best.get(name, 0.0) / usual if usual else 0.0
        rows.append(
            (
                share,
                [
                    name,
                    format_bandwidth(best[name]) if name in best else "none",
                    f"{share:.0%}",
                    f"{worst} with {other}",
                ],
            )
        )
    if len(rows) > MOST_ROWS:
        rows = sorted(rows, key=lambda row: row[0])[:MOST_ROWS]
    return [["host", "best pair", "of the median", "slowest pair"], *(row for _, row in rows)]


def _align_columns(table: list[list[str]]) -> list[str]:
    """Lay out the table: first column left-aligned, numbers right-aligned."""
    return [f"  {line}" for line in format_table(table, right=frozenset(range(1, len(table[0]))))]


def build_deep_record(test: DeepTest | None) -> dict[str, Any] | None:
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
            name: [{"torch": dict(began), "sum": dict(get_process_answer(test.joined, name, local)), "burn": dict(get_process_answer(test.burned, name, local))}
                   for local, began in enumerate(processes)]
            for name, processes in test.began.items()
        },
        "sizes": [
            {"bytes": size, "seconds": seconds, "algorithm": compute_algorithm_bandwidth(size, seconds), "bus": compute_bus_bandwidth(size, seconds, world)}
            for size, seconds in test.sizes
        ],
        "pairs": [
            {"hosts": list(pair), "bus": found.bandwidth, "bytes": found.size, "error": found.error, "stage": found.stage}
            for pair, found in test.pairs.items()
        ],
        "usual": pairwise.compute_usual_bandwidth(test.pairs),
        "blamed": [{"hosts": list(blame.hosts), "broken": blame.broken} for blame in test.faults],
    }  # fmt: skip


def get_process_answer(answers: Mapping[str, Any], name: str, local: int) -> Mapping[str, Any]:
    """Return the answer of one process; {} if it did not reach that step."""
    processes = answers.get(name, ())
    found: Mapping[str, Any] = processes[local] if local < len(processes) else {}
    return found
