"""Corpus of metric lines: read metric_lines.txt, compare it with the parser, and print precision and recall.

``make metrics`` prints a table with one row for each library.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fanout.logs.metric_line import read_metrics

LINES = Path(__file__).with_name("metric_lines.txt")
#: Field of the corpus -> attribute of a reading.
FIELDS = {"step": "step", "total": "total", "loss": "loss", "speed": "speed", "samples": "samples", "pace": "step_time",
          "eta": "seconds_left", "epoch": "epoch", "epochs": "epochs"}  # fmt: skip
TOLERANCE = 0.002  # a bar rounds its speed


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusRow:
    """One line of a library with the values that a person reads in it."""

    library: str
    text: str
    wanted: dict[str, float]


@dataclass(slots=True, kw_only=True)
class Score:
    """Numbers of values that the parser found rightly, found wrongly, and missed."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    def add_values(self, wanted: dict[str, float], found: dict[str, float]) -> None:
        for name in FIELDS:
            value, given = wanted.get(name), found.get(name)
            is_right = value is not None and given is not None and are_equal(value, given)
            self.right += is_right
            self.wrong += given is not None and not is_right
            self.missed += value is not None and not is_right

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0

    @property
    def recall(self) -> float:
        return self.right / (self.right + self.missed) if self.right + self.missed else 1.0


def are_equal(value: float, given: float) -> bool:
    return value == given or math.isclose(value, given, rel_tol=TOLERANCE) or (math.isnan(value) and math.isnan(given))


def iter_rows() -> Iterator[CorpusRow]:
    """Yield the rows of the corpus."""
    library = ""
    for line in LINES.read_text(encoding="utf-8").split("\n"):
        if line.startswith("== "):
            library = line.removeprefix("== ")
        elif line and not line.startswith("#"):
            fields, _, text = line.partition(" :: ")
            wanted = (
                {}
                if fields == "-"
                else {name: float(value) for name, value in (each.split("=") for each in fields.split())}
            )
            assert wanted.keys() <= FIELDS.keys(), line
            yield CorpusRow(library=library, text=text.replace("\\e", "\x1b").replace("\\t", "\t"), wanted=wanted)


def read_values(text: str) -> dict[str, float]:
    """Return what the parser finds in a line, by the names of the corpus."""
    reading = read_metrics(text)
    values = {name: getattr(reading, attribute, None) for name, attribute in FIELDS.items()}
    return {name: float(value) for name, value in values.items() if value is not None}


def compute_scores() -> dict[str, Score]:
    """Return library -> score."""
    scores: dict[str, Score] = {}
    for row in iter_rows():
        scores.setdefault(row.library, Score()).add_values(row.wanted, read_values(row.text))
    return scores


def compute_total(scores: dict[str, Score]) -> Score:
    every = scores.values()
    return Score(
        right=sum(each.right for each in every),
        wrong=sum(each.wrong for each in every),
        missed=sum(each.missed for each in every),
    )


def describe_total() -> str:
    """Return the size of the corpus, precision and recall in one sentence, as docs/run.md states them."""
    rows, score = list(iter_rows()), compute_total(compute_scores())
    libraries = len({row.library for row in rows})
    size = f"{len(rows)} lines of {libraries} libraries and kinds of scripts"
    return f"{size}: precision {score.precision:.1%}, recall {score.recall:.1%} of {score.right + score.missed} values"


def print_table() -> None:
    print("precision recall  values  library")
    for library, score in compute_scores().items():
        print(f"{score.precision:9.1%} {score.recall:6.1%} {score.right + score.missed:7d}  {library}")
    print(describe_total())


if __name__ == "__main__":
    print_table()
