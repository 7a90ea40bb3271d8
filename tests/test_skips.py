"""No test is filtered or skipped by what happens to be installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import skips
from tests.conftest import pytest_runtest_makereport
from tests.sources import list_dotted_names, read_modules

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


def list_uses(*wanted: str) -> Iterator[tuple[str, int, str]]:
    """Yield (file, line, name) of each use of these names, whatever they belong to."""
    for module in read_modules("tests"):
        path = module.path.removeprefix("tests/")
        if path not in ALLOWED:
            for line, name in list_dotted_names(module):
                if name in wanted or name.rpartition(".")[2] in wanted:
                    yield path, line, name


def test_only_the_table_of_skips_skips() -> None:
    assert list(list_uses(*SKIPPING)) == []


def test_programs_are_looked_for_only_where_a_missing_one_is_a_failure() -> None:
    assert {path for path, _, _ in list_uses("shutil.which")} == set(FINDERS)


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
