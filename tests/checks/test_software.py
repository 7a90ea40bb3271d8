"""The task's Python: its packages and what it can parse. Nothing of the user is imported or run."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from fanout.agent.probes import python_env


@pytest.mark.process
def test_the_task_s_python_is_examined_and_nothing_imported(tmp_path: Path) -> None:
    """A module beside the task is found without running it; a missing one is named."""
    (tmp_path / "beside.py").write_text("raise SystemExit('imported!')\n")
    args = {"workdir": str(tmp_path), "paths": {"task": "task.py"}, "imports": ["beside", "json", "no_such_module"]}
    found = python_env.finish_python(python_env.start_python(args))
    assert found["absent"] == ["no_such_module"]
    assert found["syntax"] == ""
    assert tuple(found["version"]) >= (3, 8)


@pytest.mark.process
@pytest.mark.parametrize(
    ("source", "expected"),
    [("x = 1\nif x\n    y\n", "line 2: expected ':'"), ("print('hi')\n", ""), ("return 1\n", ""), (None, "")],
)
def test_a_task_that_cannot_be_parsed_is_reported_with_its_line(
    tmp_path: Path, source: str | None, expected: str
) -> None:
    """The task's own Python parses it and runs nothing; another check reports a missing Python."""
    if source is not None:
        (tmp_path / "task.py").write_text(source)
    args = {"workdir": str(tmp_path), "paths": {"task": "task.py"}}
    syntax = python_env.finish_python(python_env.start_python(args))["syntax"]
    assert syntax.partition(":")[0] == expected.partition(":")[0]


@pytest.mark.process
def test_module_of_the_task_is_found_without_importing_its_package(tmp_path: Path) -> None:
    """A module, a package that can be run, and a namespace package; each missing part is named."""
    for name, text in {
        "pkg/__init__.py": "raise SystemExit('imported!')\n",
        "pkg/train.py": "",
        "pkg/cli/__init__.py": "",
        "pkg/cli/__main__.py": "",
        "space/train.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    modules = ("pkg.train", "pkg.cli", "space.train", "pkg", "pkg.trian", "nosuch.train", "json.tool")
    args = {"workdir": str(tmp_path), "is_module": True, "imports": [f"{module}.__main__" for module in modules]}
    found = python_env.finish_python(python_env.start_python(args))
    assert found["absent"] == ["pkg.__main__", "pkg.trian", "nosuch.train"]


@pytest.mark.process
def test_a_name_that_no_line_of_its_module_defines_is_absent(tmp_path: Path) -> None:
    """Nothing is imported; where a module may get its names at run time, nothing is reported."""
    for name, text in {
        "plain.py": "def train(): ...\n",
        "starred.py": "from plain import *\n",
        "lazy.py": "def __getattr__(name): ...\n",
        "pkg/__init__.py": "raise SystemExit('imported!')\n",
        "pkg/part.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    fine = [
        "plain:train",
        "starred:absent",
        "lazy:absent",
        "pkg:part",
        "math:sqrt",
        "no_such_module:name",
        "json:loads",
    ]
    lacking = ["plain:absent", "pkg:absent", "pkg.part:absent", "json:no_such_thing_there"]
    args = {"workdir": str(tmp_path), "paths": {"task": "task.py"}, "imports": [*fine, *lacking]}
    assert python_env.finish_python(python_env.start_python(args))["absent"] == lacking


@pytest.mark.process
def test_names_that_this_python_can_import_are_not_absent(tmp_path: Path) -> None:
    """Every public name of modules that get their names in many ways."""
    names = []
    for module in ("torch", "torch.nn", "torch.utils.data", "os", "logging", "typing", "asyncio", "collections"):
        names += [f"{module}:{name}" for name in dir(import_module(module)) if not name.startswith("_")]
    args = {"workdir": str(tmp_path), "paths": {"task": "task.py"}, "imports": names, "python": sys.executable}
    assert python_env.finish_python(python_env.start_python(args))["absent"] == []
