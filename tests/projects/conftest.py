"""Fixtures of the projects tier: two hosts with sshd, the environment with the libraries, and a random model."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.lab import REPOSITORY, Lab, why_not

VENV = REPOSITORY / ".venv-projects"
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.projects)


@pytest.fixture(scope="session")
def two_hosts() -> Iterator[Lab]:
    """Return two hosts; ``make projects`` installs what the ranks import there."""
    reason = why_not()
    assert not reason, reason
    assert (VENV / ".installed").exists(), f"{VENV} is not installed: run make projects"
    with Lab(2, shared="/home/lab/shared") as lab:
        yield lab


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a random model, its tokenizer and a dataset."""
    there = tmp_path_factory.mktemp("model")
    subprocess.run([VENV / "bin/python", _HERE / "make_tiny_model.py", there], check=True, capture_output=True)
    return there
