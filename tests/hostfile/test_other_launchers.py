"""Five other launchers read every line of lines.txt: our models of them are exact, and we differ only on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.hostfile import parse_hostfile
from fanout.hostfile.other_launchers import PEERS, PeerReading
from fanout.model.errors import HostfileError
from tests.hostfile.differences import INTENDED, OTHERWISE, THEY_REFUSE, WE_REFUSE, WE_SKIP
from tests.hostfile.oracles import ORACLES

LINES = (Path(__file__).parent / "lines.txt").read_text().splitlines()


def our_reading(line: str) -> PeerReading:
    """What fanout makes of the line, in the peers' terms."""
    try:
        hosts = parse_hostfile(line.encode(), file="lines.txt").hosts
    except HostfileError as error:
        return () if "no host found" in str(error) else None
    return tuple((host.name, host.slots) for host in hosts)


def difference(ours: PeerReading, theirs: PeerReading) -> str | None:
    """In what way two readings differ; a peer that counts by itself does not contradict a count."""
    if ours is None or theirs is None:
        if ours == theirs:
            return None
        return THEY_REFUSE if theirs is None else WE_REFUSE
    names = [name for name, _ in ours] == [name for name, _ in theirs]
    if names and all(theirs_n in (None, ours_n) for (_, ours_n), (_, theirs_n) in zip(ours, theirs, strict=True)):
        return None
    return WE_SKIP if not ours else OTHERWISE


def unordered(peer: str, reading: PeerReading) -> PeerReading:
    """ClusterShell sorts; its readings are compared as sets."""
    return tuple(sorted(reading)) if reading and peer == "clush" else reading


@pytest.mark.process
@pytest.mark.parametrize("peer", PEERS)
def test_models_read_every_line_as_the_real_peer_does(peer: str, tmp_path: Path) -> None:
    """What --explain says of another launcher is what that launcher does."""
    oracle, installed = ORACLES[peer]
    assert installed(), f"{peer} is not installed: run tests/hostfile/peers.sh"
    wrong = {}
    for line in LINES:
        real, model = unordered(peer, oracle(line, tmp_path)), unordered(peer, PEERS[peer](line))
        if real != model:
            wrong[line] = {"real": real, "model": model}
    assert not wrong


@pytest.mark.parametrize("peer", PEERS)
def test_we_read_as_the_peers_do_except_on_purpose(peer: str) -> None:
    """Every difference from a peer is covered by an intended one that states its reason."""
    unexplained = {}
    for line in LINES:
        ours, theirs = our_reading(line), PEERS[peer](line)
        way = difference(ours, theirs)
        if way and not any(each.covers(peer, way, line) for each in INTENDED):
            unexplained[line] = (way, "ours", ours, "theirs", theirs)
    assert not unexplained


def test_no_intended_difference_is_stale() -> None:
    """A difference that no line shows any more is deleted."""
    shown = {
        each
        for line in LINES
        for peer in PEERS
        for each in INTENDED
        if (way := difference(our_reading(line), PEERS[peer](line))) and each.covers(peer, way, line)
    }
    assert set(INTENDED) - shown == set()
