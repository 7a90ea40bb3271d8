"""Backpressure: a thread that adds to a full backlog waits, and wakes once there is enough room."""

from __future__ import annotations

import threading

import pytest

from fanout.remote.backpressure import ChunkLimiter
from fanout.remote.login import choose_chunks


def add_pieces(backlog: ChunkLimiter, pieces: int) -> tuple[threading.Thread, list[int]]:
    added: list[int] = []

    def add_all() -> None:
        for number in range(pieces):
            backlog.wait_for_place()
            added.append(number)

    thread = threading.Thread(target=add_all, daemon=True)
    thread.start()
    return thread, added


def test_no_more_is_added_than_the_limit() -> None:
    backlog = ChunkLimiter(8)
    thread, added = add_pieces(backlog, 20)
    for _ in range(12):
        backlog.mark_processed()
    thread.join(20)
    assert not thread.is_alive()
    assert len(added) == 20


def test_waiting_reader_resumes_at_half_of_the_backlog() -> None:
    """Not for the first piece."""
    backlog = ChunkLimiter(8)
    thread, added = add_pieces(backlog, 9)
    for _ in range(3):
        backlog.mark_processed()
    thread.join(0.2)
    assert thread.is_alive()
    assert len(added) == 8
    backlog.mark_processed()
    thread.join(20)
    assert not thread.is_alive()


def test_no_thread_waits_for_an_abandoned_backlog() -> None:
    """Whatever is still on its way."""
    backlog = ChunkLimiter(8)
    thread, added = add_pieces(backlog, 100)
    backlog.stop_waiting()
    thread.join(20)
    assert not thread.is_alive()
    assert len(added) == 100


def test_one_piece_is_enough() -> None:
    backlog = ChunkLimiter(1)
    for _ in range(5):
        backlog.wait_for_place()
        backlog.mark_processed()


@pytest.mark.parametrize(("hosts", "chunks"), [(1, 8), (16, 8), (17, 7), (64, 2), (128, 1), (512, 1)])
def test_many_hosts_share_the_places_in_the_queue(hosts: int, chunks: int) -> None:
    """All chunks together take at most 32 MB, unless each of more than 128 hosts has one."""
    assert choose_chunks(hosts) == chunks
