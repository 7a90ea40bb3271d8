"""The campaign: ``python -m tests.lab.verdicts [KIND…]`` injects every failure at every position and prints a table."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.lab.lab import Lab
from tests.lab.verdicts.campaign import Result, inject_fault, project_in
from tests.lab.verdicts.kinds import KINDS, Kind

ENOUGH = 0.95


def main() -> int:
    """0 where enough verdicts are right and none is wrong with high confidence."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.verdicts", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="only these (KIND or KIND:PLACE)")
    parser.add_argument("--keep", metavar="DIR", help="copy the record of every run here, with what was injected")
    options = parser.parse_args()
    results: list[Result] = []
    with Lab(4, shared="/home/lab/shared") as lab:
        for kind, place in choose_faults(options.kinds):
            with project_in(lab) as project:
                result = inject_fault(project, kind, place)
                results.append(result)
                print(format_line(result), flush=True)
                if options.keep:
                    keep_record(project.list_records()[-1], Path(options.keep, f"{kind.name}-{place}"), result)
        lab.reset_machines()
    print(format_summary(results))
    right = sum(result.mark == "right" for result in results)
    misled = [result for result in results if result.mark == "wrong" and result.confidence == "high"]
    return 0 if right >= ENOUGH * len(results) and not misled else 1


def choose_faults(words: Sequence[str]) -> list[tuple[Kind, str]]:
    """Return what to inject where; all kinds once, then all at the next place."""
    places = ("last", "first", "middle")
    everything = [(kind, place) for place in places for kind in KINDS if place in kind.places]
    return [
        (kind, place) for kind, place in everything if not words or {kind.name, f"{kind.name}:{place}"} & set(words)
    ]


def keep_record(record: Path, there: Path, result: Result) -> None:
    """Keep the run's record, and beside it what was injected."""
    shutil.rmtree(there, ignore_errors=True)
    shutil.copytree(record, there)
    (there / "injected.json").write_text(json.dumps(asdict(result)) + "\n")


def format_line(result: Result) -> str:
    """Format one row of the table."""
    sure = f"{result.confidence} ({result.rule or '-'})"
    return (
        f"{result.kind:<16} {result.place:<7} {result.truth:<14} -> {result.named:<28} {result.signature:<20} "
        f"{sure:<18} {result.mark:<12} {result.seconds:5.0f} s"
    )


def format_summary(results: Sequence[Result]) -> str:
    """Return how many verdicts were right, and how sure."""
    marks = Counter(result.mark for result in results)
    sure = Counter((result.confidence, result.mark) for result in results)
    lines = [
        f"{len(results)} failures injected: " + ", ".join(f"{count} {mark}" for mark, count in marks.most_common())
    ]
    lines += [f"  {confidence}: {count} {mark}" for (confidence, mark), count in sorted(sure.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
