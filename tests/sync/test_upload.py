"""Upload: pieces that hosts of different speed read, each made once and held no longer than needed."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from fanout.sync.upload import Piece, PieceBuffer


def make_pieces(count: int, made: list[int]) -> Iterator[Piece]:
    for number in range(count):
        made.append(number)
        yield Piece(size=1, frame=bytes([number]))


def test_each_piece_is_made_once_and_reaches_every_reader() -> None:
    made: list[int] = []
    buffer = PieceBuffer(make_pieces(3, made))
    buffer.add_reader("a")
    buffer.add_reader("b")
    read = {reader: [buffer.read_piece(reader) for _ in range(4)] for reader in ("a", "b")}
    assert read["a"] == read["b"] == [*(Piece(size=1, frame=bytes([number])) for number in range(3)), None]
    assert made == [0, 1, 2]
    assert buffer.has_ended("a")
    assert buffer.has_ended("b")


def test_a_fast_reader_waits_for_a_slow_one_until_that_leaves() -> None:
    buffer = PieceBuffer(make_pieces(9, []), most_bytes=2)
    buffer.add_reader("fast")
    buffer.add_reader("slow")
    assert [buffer.read_piece("fast") is not None for _ in range(3)] == [True, True, False]
    assert not buffer.has_ended("fast")
    buffer.remove_reader("slow")
    assert all(buffer.read_piece("fast") is not None for _ in range(7))
    assert buffer.read_piece("fast") is None
    assert buffer.has_ended("fast")


@given(st.integers(0, 12), st.integers(1, 6), st.lists(st.sampled_from("abc"), max_size=80))
def test_any_order_of_readers_yields_the_same_bytes(count: int, most: int, order: list[str]) -> None:
    buffer = PieceBuffer(make_pieces(count, []), most_bytes=most)
    read = dict.fromkeys("abc", b"")
    for reader in read:
        buffer.add_reader(reader)
    for reader in [*order, *"abc" * (count + 1) * 3]:
        piece = buffer.read_piece(reader)
        read[reader] += piece.frame if piece is not None else b""
    assert set(read.values()) == {bytes(range(count))}
