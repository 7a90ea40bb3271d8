"""Digest of a log chunk: equal for single lines and for a whole turn of the event loop."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fanout.logs.prefilter import ChunkDigest, digest_chunk, strip_digits

LINE = st.binary(max_size=6)


def digest_line_by_line(data: bytes) -> ChunkDigest:
    lines = strip_digits(data).split(b"\n")
    return ChunkDigest(lines=frozenset(lines), text=digest_chunk(data).text, ends=len(lines) - 1)


@given(before=LINE, turn=st.lists(LINE, min_size=1, max_size=4), times=st.integers(0, 8), after=st.binary(max_size=20))
def test_a_repetitive_flood_has_the_digest_of_its_lines(
    before: bytes, turn: list[bytes], times: int, after: bytes
) -> None:
    """This holds for any text before, in and after it, also if a turn has a line twice or ends inside a line."""
    data = before + b"\n" + b"".join(line + b"\n" for line in turn) * times + after
    assert digest_chunk(data) == digest_line_by_line(data)


@given(st.lists(st.sampled_from([b"loss 2.5\n", b"loss 3.25\n", b"\n", b"Error", b"7", b"\nstep 1\n"]), max_size=40))
def test_any_text_has_the_digest_of_its_lines(pieces: list[bytes]) -> None:
    """Every word of a line is in the digest."""
    data = b"".join(pieces)
    found = digest_chunk(data)
    assert found == digest_line_by_line(data)
    assert sorted(found.text.split(b"\n")) == sorted(found.lines)


def test_one_different_line_in_a_flood_is_found() -> None:
    """Its place and the length of the turn do not matter."""
    for turn in (b"step 1 loss 2.5\n", b"".join(b"rank %c: ready\n" % (65 + number) for number in range(26))):
        for at in (0, 1, 500, 999, 1000):
            data = turn * at + b"RuntimeError: no\n" + turn * (1000 - at)
            found = digest_chunk(data)
            assert b"RuntimeError: no" in found.lines
            assert (len(found.lines), found.ends) == (turn.count(b"\n") + 2, data.count(b"\n"))
