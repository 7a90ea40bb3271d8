"""The task's config as a check reads it: the file, and the overrides on the task's command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fanout.run.task_files import apply_overrides, find_misspelled_module, find_module_file

VALUES: dict[str, dict[str, Any]] = {
    "train": {"global_batch_size": 8, "micro_batch_size": 1},
    "data": {"train_path": "a.jsonl"},
}


@pytest.mark.parametrize(
    ("words", "section", "expected"),
    [
        (["--train.global_batch_size", "16"], "train", {"global_batch_size": 16, "micro_batch_size": 1}),
        (["--train.global_batch_size=16"], "train", {"global_batch_size": 16, "micro_batch_size": 1}),
        (["--data.train_path", "b.jsonl"], "data", {"train_path": "b.jsonl"}),
        (["--model.path=/m"], "model", {"path": "/m"}),
        (["--data.train_path", "a: b: c"], "data", {"train_path": "a: b: c"}),
        (["--train.offload", "false", "--train.offload", "true"], "train", VALUES["train"] | {"offload": True}),
        (["--verbose", "train.x", "3", "-v", "--train.last"], "train", VALUES["train"] | {"last": None}),
    ],
)
def test_an_override_of_the_task_counts_more_than_the_file(words: list[str], section: str, expected: Any) -> None:
    assert apply_overrides(VALUES, words) == VALUES | {section: expected}


def test_a_config_without_sections_stays_as_it_is() -> None:
    assert apply_overrides([1, 2], ["--train.x", "3"]) == [1, 2]
    assert apply_overrides({"train": 3}, ["--train.x", "3"]) == {"train": 3}


def test_module_is_found_as_a_run_finds_it(tmp_path: Path) -> None:
    for name in ("pkg/__init__.py", "pkg/train.py", "pkg/cli/__main__.py", "VeOmni/veomni/train.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = [
        find_module_file(name, str(tmp_path)) for name in ("pkg.train", "pkg.cli", "veomni.train", "pkg", "trl.cli")
    ]
    assert files == ["pkg/train.py", "pkg/cli/__main__.py", "VeOmni/veomni/train.py", "", ""]
    assert find_misspelled_module("pkg.trian", str(tmp_path)) == "pkg.train"
    assert find_misspelled_module("trl.cli", str(tmp_path)) is None, "the environment of the hosts may have it"
