"""Fixtures of the tasks' tests, which need torch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tasks.task_runs import RankForker


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small are faster on one thread than on two that wait for each other, most of all beside other tests."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def forker() -> Iterator[RankForker]:
    """Ranks for all tests of this worker."""
    found = RankForker()
    yield found
    found.close()
