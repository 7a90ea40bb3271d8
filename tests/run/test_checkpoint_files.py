"""Checkpoint files: which checkpoint an error names, and which one is before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.run.checkpoint_files import find_checkpoint, find_predecessor


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (
            "OSError: Unable to load weights from pytorch checkpoint file for '/ck/step-40/a.bin' at '/ck'.",
            "/ck/step-40/a.bin",
        ),
        ("UnpicklingError: bad file /ck/step_40.pt.", "/ck/step_40.pt"),
        ("RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory", ""),
    ],
)
def test_error_names_its_checkpoint(text: str, path: str) -> None:
    assert find_checkpoint(text) == path


def test_checkpoint_before_is_that_with_the_next_lower_number(tmp_path: Path) -> None:
    for step in (20, 100, 40):
        (tmp_path / f"step_{step}.pt").write_text("x")
    (tmp_path / "step_60.pt").touch()  # empty: no checkpoint
    (tmp_path / "step_90.pt.tmp").write_text("x")
    assert find_predecessor(str(tmp_path / "step_100.pt")) == str(tmp_path / "step_40.pt")
    assert find_predecessor(str(tmp_path / "step_20.pt")) == ""


def test_file_in_the_directory_of_a_checkpoint_has_the_number_of_the_directory(tmp_path: Path) -> None:
    for step in (20, 40):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "model.bin").write_text("x")
    named = tmp_path / "checkpoint-40" / "model.bin"
    assert find_predecessor(str(named)) == str(tmp_path / "checkpoint-20")


def test_directory_that_this_machine_does_not_see_has_no_checkpoint(tmp_path: Path) -> None:
    assert find_predecessor(str(tmp_path / "absent" / "step-2")) == ""
    assert find_predecessor("/checkpoint") == ""
