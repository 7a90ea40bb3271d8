"""Five other launchers parse every line of lines.txt: our models of them are exact, and each difference is intended."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.hostfile import parse_hostfile
from fanout.hostfile.other_launchers import PEERS, PeerReading
from fanout.model.errors import HostfileError
from tests.hostfile.differences import INTENDED, OTHERWISE, THEY_REFUSE, WE_REFUSE, WE_SKIP
from tests.hostfile.oracles import ORACLES

LINES = (Path(__file__).parent / "lines.txt").read_text().splitlines()


def read_ours(line: str) -> PeerReading:
    """Return fanout's result for the line, in the form of the other launchers."""
    try:
        hosts = parse_hostfile(line.encode(), file="lines.txt").hosts
    except HostfileError as error:
        return () if "no host found" in str(error) else None
    return tuple((host.name, host.slots) for host in hosts)


def find_difference(ours: PeerReading, theirs: PeerReading) -> str | None:
    """Return how two results differ; a launcher that counts by itself does not contradict a count."""
    if ours is None or theirs is None:
        if ours == theirs:
            return None
        return THEY_REFUSE if theirs is None else WE_REFUSE
    names = [name for name, _ in ours] == [name for name, _ in theirs]
    if names and all(theirs_n in (None, ours_n) for (_, ours_n), (_, theirs_n) in zip(ours, theirs, strict=True)):
        return None
    return WE_SKIP if not ours else OTHERWISE


def ignore_order(peer: str, reading: PeerReading) -> PeerReading:
    """Return results as sets, because ClusterShell sorts."""
    return tuple(sorted(reading)) if reading and peer == "clush" else reading


@pytest.mark.process
@pytest.mark.parametrize("peer", PEERS)
def test_models_parse_every_line_as_the_real_launcher_does(peer: str, tmp_path: Path) -> None:
    """The statements of --explain about another launcher are true."""
    oracle, installed = ORACLES[peer]
    assert installed(), f"{peer} is not installed: run tests/hostfile/peers.sh"
    wrong = {}
    for line in LINES:
        real, model = ignore_order(peer, oracle(line, tmp_path)), ignore_order(peer, PEERS[peer](line))
        if real != model:
            wrong[line] = {"real": real, "model": model}
    assert not wrong


@pytest.mark.parametrize("peer", PEERS)
def test_fanout_parses_as_the_others_do_except_on_purpose(peer: str) -> None:
    """Every difference is covered by an intended one that has a reason."""
    unexplained = {}
    for line in LINES:
        ours, theirs = read_ours(line), PEERS[peer](line)
        way = find_difference(ours, theirs)
        if way and not any(each.covers_line(peer, way, line) for each in INTENDED):
            unexplained[line] = (way, "ours", ours, "theirs", theirs)
    assert not unexplained


def test_no_intended_difference_is_stale() -> None:
    """An intended difference that no line shows is deleted."""
    shown = {
        each
        for line in LINES
        for peer in PEERS
        for each in INTENDED
        if (way := find_difference(read_ours(line), PEERS[peer](line))) and each.covers_line(peer, way, line)
    }
    assert set(INTENDED) - shown == set()
