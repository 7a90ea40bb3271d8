"""One sshd and one played lab for all tests of this room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fanout.demo import embedded_lab
from tests.remote import sshd
from tests.remote.sshd import Sshd


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd.start_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded_lab.DemoLab]:
    with embedded_lab.open_lab(tmp_path_factory.mktemp("played") / ".demo", hosts=1) as lab:
        yield lab
