"""``fanout why`` on lines of about a hundred megabytes, plain or packed: memory does not grow with the line."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from fanout.diagnose.import_logs import compressed_lines
from fanout.model.errors import UsageError

LINE_BYTES = 96 << 20
MEMORY_MB = 80  # of the whole process, Python and fanout itself included
ERROR = (
    b"[rank3]: Traceback (most recent call last):\n[rank3]:   File \"x.py\", line 1, in f\n[rank3]: KeyError: 'img'\n"
)
PACKED: dict[str, Callable[[Path], Any]] = {
    "gz": lambda path: gzip.open(path, "wb", compresslevel=1),  # noqa: SIM115
    "bz2": lambda path: bz2.open(path, "wb", compresslevel=1),  # noqa: SIM115
    "xz": lambda path: lzma.open(path, "wb", preset=0),  # noqa: SIM115
    "zst": lambda path: zstandard.open(path, "wb"),
    "log": lambda path: open(path, "wb"),  # noqa: SIM115
}
CHILD = """import sys
from fanout.cli.main import main
status = main(["why", sys.argv[1]])
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(f"status {status} {int(peak) // 1024} MB")
"""


def written(path: Path, opened: Callable[[Path], Any]) -> None:
    """Write a file with one line of 96 MB between an ordinary line and a traceback."""
    with opened(path) as file:
        file.write(b"step 1 loss 2.0\n")
        for _ in range(LINE_BYTES >> 20):
            file.write(b"y" * (1 << 20))
        file.write(b"\n" + ERROR)


@pytest.mark.process
@pytest.mark.parametrize("ending", PACKED)
def test_a_long_line_takes_no_memory(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"gpu01.{ending}"
    written(path, PACKED[ending])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    _, status, memory, _ = done.stdout.splitlines()[-1].split()
    assert status == "0"
    assert "first cause  rank 3 on gpu01" in done.stdout
    assert int(memory) < MEMORY_MB


def test_the_beginning_of_a_long_line_is_kept_and_the_lines_after_it(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"ab" * compressed_lines.MAX_LINE_BYTES * 9 + b"\nnext\nlast")
    with open(path, "rb") as file:
        lines = list(compressed_lines.read_lines(file, "x"))
    assert [len(line) for line in lines] == [compressed_lines.MAX_LINE_BYTES + 1, 5, 4]
    assert lines[1:] == [b"next\n", b"last"]


def test_without_a_module_for_zstd_the_file_is_refused_with_the_command_that_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.log.zst"
    path.write_bytes(zstandard.compress(b"step 1\n"))
    monkeypatch.setattr(compressed_lines, "_ZSTD_MODULES", ("no_such_module_for_zstd",))
    with open(path, "rb") as file, pytest.raises(UsageError) as raised:
        list(compressed_lines.read_lines(file, "x.log.zst"))
    assert raised.value.hint == "zstd -dc x.log.zst | fanout why -"
