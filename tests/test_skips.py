"""No test is filtered or skipped by what happens to be installed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import skips
from tests.conftest import pytest_runtest_makereport

HERE = Path(__file__).parent
SKIPPING = {
    "pytest.skip",
    "pytest.mark.skip",
    "skipif",
    "importorskip",
    "find_spec",
    "collect_ignore",
    "collect_ignore_glob",
    "SkipTest",
}
ALLOWED = {"skips.py", "test_skips.py"}
#: Files that look for a program, each with what happens without it.
FINDERS = {
    "browser/chrome.py": "find() fails",
    "hostfile/oracles.py": "the comparison fails",
    "lab/ns.py": "tool() raises LabError",
    "model/test_containers.py": "the test starts the name, and fails",
    "remote/test_container_creation.py": "the test starts the name, and fails",
    "remote/test_container_entry.py": "the test starts the name, and fails",
    "remote/sshd.py": "the fixture fails",
}


def list_names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every name and attribute that the file uses, with its line; an attribute with what it belongs to."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id


def test_only_the_table_of_skips_skips() -> None:
    found = [
        f"{path.relative_to(HERE)}:{line}: {name}"
        for path in sorted(HERE.rglob("*.py"))
        if path.name not in ALLOWED
        for line, name in list_names(path)
        if name in SKIPPING
    ]
    assert found == []


def test_programs_are_looked_for_only_where_a_missing_one_is_a_failure() -> None:
    found = {
        str(path.relative_to(HERE))
        for path in HERE.rglob("*.py")
        if path.name not in ALLOWED
        for _, name in list_names(path)
        if name == "shutil.which"
    }
    assert found == set(FINDERS)


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [(skips.REASONS["gpu"], "skipped"), (f"{skips.REASONS['ptrace']}: detail", "skipped"), ("no sshd here", "failed")],
)
def test_an_unlisted_skip_is_a_failure(reason: str, outcome: str, request: pytest.FixtureRequest) -> None:
    call = pytest.CallInfo.from_call(lambda: pytest.skip(reason), when="call")
    hook = pytest_runtest_makereport(request.node, call)
    next(hook)
    with pytest.raises(StopIteration) as stop:
        hook.send(pytest.TestReport.from_item_and_call(request.node, call))
    assert stop.value.value.outcome == outcome
