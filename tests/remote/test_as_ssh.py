"""``ssh`` and fanout come to the same: address, port, user, key and outcome, as a real sshd sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remote.rows import ROWS
from tests.remote.sshlab import Row, SshLab, agent_with, open_lab

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshLab]:
    with open_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


def test_the_table_has_as_many_configurations_as_were_asked_for() -> None:
    assert len(ROWS) >= 60
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_fanout_connects_as_ssh_does(row: Row, lab: SshLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in row.env.items():
        monkeypatch.setenv(name, lab.fill_text(value))
    with agent_with(lab, row.agent) as socket:
        if socket:
            monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        else:
            monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        config = lab.config_of(row, tmp_path)
        theirs = lab.by_ssh(row, config)
        if row.gets_in is not None:
            assert theirs.got_in is row.gets_in, theirs.error
        for transport in row.transports:
            ours = lab.by_fanout(row, config, transport)
            errors = f"{transport}: {ours.error}\nssh: {theirs.error}"
            assert ours.got_in is (theirs.got_in or bool(row.unlike_ssh)), errors
            assert ours.visits == theirs.visits or row.unlike_ssh, errors
            for words in row.says if transport == "ssh" else row.program_says:
                assert lab.fill_text(words) in ours.error
