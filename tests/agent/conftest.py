"""Fixtures: a state directory for one host, and a check that nothing of it is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.agents import kill_leftovers
from tests.skips import needs

linux = needs("linux")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "state"
    with kill_leftovers(path):
        yield path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/agent/" in str(item.path):
            item.add_marker(linux)
