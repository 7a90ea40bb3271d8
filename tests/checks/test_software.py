"""The task's Python as it is looked at: what it has and what it can read, with nothing of the user's imported or run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.agent.probes import python_env


@pytest.mark.process
def test_the_task_s_python_is_looked_at_and_nothing_imported(tmp_path: Path) -> None:
    """A module beside the task is found without being run; one that is nowhere is named."""
    (tmp_path / "beside.py").write_text("raise SystemExit('imported!')\n")
    args = {"workdir": str(tmp_path), "paths": {"task": "task.py"}, "imports": ["beside", "json", "no_such_module"]}
    found = python_env.finish_python(python_env.start_python(args))
    assert found["absent"] == ["no_such_module"]
    assert found["syntax"] == ""
    assert tuple(found["version"]) >= (3, 8)


@pytest.mark.process
@pytest.mark.parametrize(
    ("source", "told"),
    [("x = 1\nif x\n    y\n", "line 2: expected ':'"), ("print('hi')\n", ""), ("return 1\n", ""), (None, "")],
)
def test_a_task_that_cannot_be_read_is_told_with_its_line(tmp_path: Path, source: str | None, told: str) -> None:
    """By the task's own Python, which reads it and runs nothing; that there is none is another check's business."""
    if source is not None:
        (tmp_path / "task.py").write_text(source)
    args = {"workdir": str(tmp_path), "paths": {"task": "task.py"}}
    syntax = python_env.finish_python(python_env.start_python(args))["syntax"]
    assert syntax.partition(":")[0] == told.partition(":")[0]
