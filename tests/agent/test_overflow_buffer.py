"""A full disk: the log continues in a bounded buffer in memory, and each byte keeps its offset."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import pytest

from fanout.agent import overflow_buffer, run_files
from fanout.agent.log_reader import LogReader
from fanout.agent.log_spool import LogSpool

MB = 1 << 20


class SmallDisk(run_files.StreamFile):
    """A real file on a disk with ``room`` free bytes."""

    def __init__(self, directory: str, room: int) -> None:
        super().__init__(directory, 0)
        self.room = room

    def append(self, data: bytes) -> int:
        taken = super().append(data[: self.room])
        self.room -= taken
        self.trouble = "" if taken == len(data) else "No space left on device"
        return taken


class Now:
    """A spool that tries its disk each time, and a relay's reader."""

    def __init__(self, directory: Path, room: int, limit: int = 0) -> None:
        self.spool = LogSpool(str(directory), limit)
        (directory / "stream-0").unlink()
        self.disk = self.spool.log = SmallDisk(str(directory), room)
        self.sources = LogReader(str(directory))
        self.got = bytearray()
        self.holes: list[tuple[int, int]] = []

    def put_bytes(self, data: bytes, *, has_launcher: bool = True) -> None:
        self.spool.store(data, has_launcher)
        self.check_state()

    def check_state(self) -> None:
        if self.spool.memory.path:
            self.sources.open_memory(self.spool.memory.path)
        self.spool._disk_again = 0.0  # a second has passed

    def read_bytes(self) -> None:
        """Read as a relay does."""
        while len(self.got) < self.spool.size:
            at = len(self.got)
            offset, data = self.sources.read(0, at, self.spool.size)
            if offset > at:
                self.holes.append((at, offset))
            assert offset > at or data, f"nothing at {at}"
            self.got += bytes(offset - at) + data

    def retry_disk(self) -> None:
        self.spool.store_pending(has_launcher=True)
        self.check_state()


def _make_bytes(count: int) -> bytes:
    return random.Random(count).randbytes(count)


@pytest.fixture
def small(tmp_path: Path) -> Now:
    return Now(tmp_path, 1_300_001)


def test_bytes_that_the_disk_rejects_are_read_from_memory_at_their_offset(small: Now) -> None:
    data = _make_bytes(5 * MB)
    small.put_bytes(data)
    small.read_bytes()
    assert bytes(small.got) == data
    assert (small.disk.size, small.spool.only_here) == (1_300_001, 5 * MB - 1_300_001)
    assert (small.spool.crc, small.spool.dropped, small.holes) == (zlib.crc32(data), 0, [])
    assert small.spool.notice.startswith("its disk does not accept the run's log (No space left on device)")


def test_memory_is_bounded_and_then_the_run_waits(small: Now) -> None:
    """While a launcher is connected, nothing is lost, and acknowledged bytes are freed."""
    data = _make_bytes(24 * MB)
    small.put_bytes(data)
    assert small.spool.has_pending
    assert small.spool.only_here == overflow_buffer.MAX_BYTES
    small.read_bytes()
    small.spool.acknowledge({0: len(small.got)})
    small.retry_disk()
    assert not small.spool.has_pending
    small.read_bytes()
    assert bytes(small.got) == data
    assert (small.spool.dropped, small.holes) == (0, [])


def test_without_a_launcher_the_newest_bytes_are_dropped_and_counted(small: Now) -> None:
    data = _make_bytes(24 * MB)
    small.put_bytes(data, has_launcher=False)
    small.read_bytes()
    assert len(small.got) == 1_300_001 + overflow_buffer.MAX_BYTES
    assert bytes(small.got) == data[: len(small.got)]
    assert small.spool.dropped == len(data) - len(small.got)
    assert "dropped" in small.spool.notice


def test_a_disk_with_free_space_again_stores_the_bytes_from_memory(small: Now) -> None:
    """Bytes that the launcher has acknowledged become a hole: it is reported as truncated, never sent as zeros."""
    data = _make_bytes(9 * MB)
    small.put_bytes(data)
    small.spool.acknowledge({0: 4 * MB + 5})
    small.disk.room = 100 * MB
    small.retry_disk()
    small.put_bytes(b"more")
    assert small.spool.only_here == 0
    assert small.disk.size == small.spool.size == len(data) + 4
    small.read_bytes()
    assert small.holes == [(1 * MB, 4 * MB)]
    assert bytes(small.got[4 * MB :]) == data[4 * MB :] + b"more"
    assert small.spool.crc == zlib.crc32(data + b"more")


def test_the_last_lines_have_a_reserve_of_their_own(small: Now) -> None:
    small.put_bytes(_make_bytes(24 * MB))
    small.spool.finish()
    assert small.spool.only_here == overflow_buffer.MAX_BYTES + overflow_buffer.FINAL_EXTRA_BYTES
    assert not small.spool.has_pending


@pytest.mark.parametrize("seed", range(12))
def test_in_any_order_of_events_every_byte_is_there_or_reported_lost(tmp_path: Path, seed: int) -> None:
    """Random writes, a disk that fills and has room again, a slow reader, and acknowledgements."""
    chance = random.Random(seed)
    small, wrote = Now(tmp_path, chance.randrange(3 * MB), limit=chance.choice((0, 40 * MB))), bytearray()
    for _ in range(40):
        match chance.randrange(5):
            case 0 | 1:
                if not small.spool.has_pending:
                    data = chance.randbytes(chance.randrange(3 * MB))
                    wrote += data
                    small.put_bytes(data)
            case 2:
                small.read_bytes()
                small.spool.acknowledge({0: max(0, len(small.got) - chance.randrange(5 * MB))})
            case 3:
                small.disk.room += chance.choice((0, 4095, 3 * MB))
                small.retry_disk()
            case _:
                if small.spool.free_acknowledged({0: small.spool.size}, {}):
                    small.sources.holes = True
                    small.spool.announced_at -= 60
    small.read_bytes()
    small.spool.acknowledge({0: len(small.got)})
    small.retry_disk()
    small.read_bytes()
    assert (small.holes, small.spool.dropped) == ([], 0)
    assert bytes(small.got) == bytes(wrote)
    assert small.spool.crc == zlib.crc32(wrote)
