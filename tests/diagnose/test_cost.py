"""Cost of the diagnosis: little for ordinary lines, bounded memory, and never quadratic time."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from fanout.diagnose.collector import KEEP_ALL, EvidenceCollector
from fanout.diagnose.first_cause import diagnose_evidence
from fanout.diagnose.signatures import load_builtin
from tests.diagnose.kit import ADDRESS, CLOSED

ORDINARY = b"".join(b"step %d/600000 loss 3.6000 lr 3.00e-04 tok/s 38100 grad 1.02\n" % n for n in range(1000))
NOISY = b"".join(
    b"[rank%d]: RuntimeError: Connection closed by peer [10.0.0.%d]:%d\n" % (n % 8, n % 9, n) for n in range(1000)
)


def measure_seconds(data: bytes, times: int) -> float:
    witness = EvidenceCollector(("gpu01",), ranks={"gpu01": (0, 8)})
    began = time.process_time()
    for number in range(times):
        witness.add_bytes("gpu01", data, at=float(number))
    diagnose_evidence(witness.build_evidence())
    return time.process_time() - began


@pytest.mark.slow
def test_a_million_ordinary_lines_take_seconds() -> None:
    assert measure_seconds(ORDINARY, 1000) < 8


def test_time_grows_with_the_lines_and_not_with_their_square() -> None:
    """Four times the lines take about four times the time, also if every line is an error."""
    for data in (ORDINARY, NOISY):
        small, large = (
            min(measure_seconds(data, 10) for _ in range(3)),
            min(measure_seconds(data, 40) for _ in range(3)),
        )
        assert large < 12 * small + 0.2


def test_memory_does_not_grow_with_the_errors() -> None:
    witness = EvidenceCollector(("gpu01",), ranks={"gpu01": (0, 8)})
    sizes = []
    for number in range(20):
        witness.add_bytes("gpu01", NOISY, at=float(number))
        sizes.append(len(witness.build_evidence().sightings))
    assert sizes[-1] <= KEEP_ALL
    assert all(later == earlier for earlier, later in pairwise(sizes[1:]))


def test_many_processes_are_judged_quickly() -> None:
    """512 ranks on 64 hosts, all of them victims but one."""
    hosts = tuple(f"gpu{n:02d}" for n in range(64))
    witness = EvidenceCollector(hosts, ranks={host: (node, 8) for node, host in enumerate(hosts)})
    for rank in range(512):
        text = "ValueError: bad" if rank == 77 else CLOSED.format(peer=ADDRESS["gpu01"])
        block = f"[rank{rank}]: Traceback (most recent call last):\n[rank{rank}]:   x\n[rank{rank}]: {text}\n"
        witness.add_bytes(hosts[rank // 8], block.encode(), at=float(rank != 77))
    began = time.process_time()
    found = diagnose_evidence(witness.build_evidence())
    assert time.process_time() - began < 2
    assert found.cause is not None
    assert (found.cause.rank, found.confidence) == (77, "high")


EVIL = ("{} ", "{}x", "{}: ", "a{}", "[{}]", "9{}9", "socket {} connect to ")


@pytest.mark.parametrize("filling", EVIL)
def test_no_line_makes_a_pattern_slow(filling: str) -> None:
    """The lines repeat every word that a pattern searches, up to the longest line."""
    book = load_builtin()
    for word in {word for each in book.signatures for word in each.words}:
        text = (filling.format(word) * 4000)[:8192]
        began = time.process_time()
        book.match_line(text)
        book.match_line("x" * 4000 + word + "9" * 4000)
        assert time.process_time() - began < 0.5, (filling, word)


@pytest.mark.parametrize("line", ["step " + "9" * 6000, "[rank" + "1" * 50 + "]: ValueError: x", "exitcode  : ²"])
def test_malformed_numbers_do_no_harm(line: str) -> None:
    witness = EvidenceCollector(("gpu01",))
    witness.add_bytes(
        "gpu01", b"OSError: [Errno 28] No space left on device\nFailures:\n" + line.encode() + b"\n", at=1.0
    )
    witness.add_bytes("gpu01", line.encode() + b"\n", at=2.0)
    assert len(witness.build_evidence().sightings) >= 1


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_the_evidence_is_the_same_however_the_bytes_are_cut(size: int) -> None:
    data = b'noise\n[rank3]: Traceback (most recent call last):\n[rank3]:   File "x.py", line 1\n[rank3]: KeyError: 3\nend\n'
    witness = EvidenceCollector(("gpu01",))
    for begin in range(0, len(data), size):
        witness.add_bytes("gpu01", data[begin : begin + size], at=1.0)
    (seen,) = witness.build_evidence().sightings
    assert (seen.rank, seen.text, seen.line, len(seen.traceback)) == (3, "KeyError: 3", 4, 3)


def test_a_line_without_an_end_does_no_harm() -> None:
    witness = EvidenceCollector(("gpu01",))
    for _ in range(200):
        witness.add_bytes("gpu01", b"x" * 4096, at=1.0)
    witness.add_bytes("gpu01", b"\nValueError: after it\n", at=2.0)
    assert [seen.text for seen in witness.build_evidence().sightings] == ["ValueError: after it"]
