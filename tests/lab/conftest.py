"""Fixtures of the lab tests: machines shared by all of them, clean before and checked after each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.containers import Engine, specify_host
from tests.lab.drive import Project
from tests.lab.lab import Lab, why_not
from tests.lab.oracle import assert_clean, wait_quiet
from tests.skips import skip

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session", autouse=True)
def require_lab() -> None:
    """Skip the lab's tests without root (fail if CI=true); fail without a program that ``tests/run_tiers`` installs."""
    reason = why_not()
    if reason and os.geteuid() != 0 and os.environ.get("CI") != "true":
        skip("root", reason)
    if reason:
        pytest.fail(reason)


@pytest.fixture(scope="session")
def four_machines() -> Iterator[Lab]:
    with Lab(4, shared="/home/lab/shared") as lab:
        yield lab


@pytest.fixture
def lab4(four_machines: Lab) -> Iterator[Lab]:
    """Four fresh hosts; the test fails if it leaves a process or a ``fanout-*`` directory on one of them."""
    four_machines.reset_machines()
    yield four_machines
    assert_clean(four_machines)


@pytest.fixture
def project(lab4: Lab) -> Iterator[Project]:
    """Return a project that the four hosts share, with fanout started as the plain user."""
    with contextlib.closing(Project(lab4)) as project:
        yield project


@pytest.fixture(scope="session")
def hosts_with_engines() -> Iterator[tuple[Lab, list[Engine]]]:
    """Open two hosts with podman, and with the image on each."""
    with Lab([specify_host("h1"), specify_host("h2")], shared="/home/lab/shared") as lab:
        engines = [Engine(host) for host in lab.hosts]
        for engine in engines:
            engine.import_image()
        yield lab, engines


@pytest.fixture
def machines(hosts_with_engines: tuple[Lab, list[Engine]]) -> Lab:
    return hosts_with_engines[0]


@pytest.fixture
def engines(hosts_with_engines: tuple[Lab, list[Engine]]) -> Iterator[list[Engine]]:
    """Yield the engines of two hosts. Afterwards no container of fanout and no process is left on either host."""
    lab, engines = hosts_with_engines
    lab.reset_machines()
    yield engines
    left = [engine.list_created() for engine in engines]
    for engine in engines:
        engine.remove_containers()
    assert not any(left), left
    assert wait_quiet(lab, 20.0)
