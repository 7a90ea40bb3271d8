"""Flight recorder reader: its results, and that nothing in a file is ever called."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fanout.agent import bundle
from fanout.agent.probes import flight_dump
from tests.diagnose.recorder import build_dump, build_entry, build_finished, write_dumps


class Trap:
    """A pickle that runs a command when it is loaded normally."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def summarize_dump(path: Path, data: bytes) -> dict[str, Any]:
    path.write_bytes(data)
    return flight_dump.read_dump(str(path))


def test_a_summary_is_small_and_has_the_rank_progress(tmp_path: Path) -> None:
    pair = {"5": ("tp", (2, 3))}
    entries = [
        *build_finished(117),
        build_entry(118, state="started"),
        build_entry(119, state="scheduled"),
        build_entry(7, "send 0->1", p2p=True),
    ]
    (path,) = write_dumps(tmp_path, {3: build_dump([*entries, build_entry(4, group=("5", "tp"), pg=1)], groups=pair)})
    found = flight_dump.read_dump(path)
    assert (found["rank"], found["world"], found["whole"]) == (3, 4, True)
    everyone, two = found["groups"]
    assert {key: everyone[key] for key in ("desc", "ranks", "enqueued", "started", "completed")} == {
        "desc": "default_pg", "ranks": [0, 1, 2, 3], "enqueued": 119, "started": 118, "completed": 117,
    }  # fmt: skip
    assert (everyone["waits"]["seq"], everyone["waits"]["op"], everyone["waits"]["inputs"]) == (
        118,
        "all_reduce",
        [[4, 4]],
    )
    assert everyone["waits"]["frames"][-1] == ["/home/ann/proj/train.py", 88, "step"]
    assert (two["desc"], two["ranks"], two["waits"]) == ("tp", [2, 3], None)
    assert len(json.dumps(found)) < 3000


def test_a_recreated_group_of_the_same_name_counts_from_one_again(tmp_path: Path) -> None:
    (path,) = write_dumps(tmp_path, {0: build_dump([*build_finished(500), *build_finished(3, pg=2)])})
    assert flight_dump.read_dump(path)["groups"][0]["enqueued"] == 3


def test_pickle_with_a_call_is_refused_and_harmless(tmp_path: Path) -> None:
    mark = tmp_path / "done"
    trap = pickle.dumps(build_dump([{"frames": Trap(mark)}]), protocol=2)
    found = summarize_dump(tmp_path / "nccl_trace_rank_0", trap)
    assert "it refers to posix.system, which no dump does" in found["untold"]
    assert not mark.exists()
    pickle.loads(trap)
    assert mark.exists(), "the trap is a real one"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"step 1 loss 3\n", "it is not a complete dump"),
        (pickle.dumps(build_dump(build_finished(9)), protocol=2)[:-40], "it is not a complete dump"),
        (pickle.dumps([1, 2]), "not a flight recorder dump"),
        (pickle.dumps({"version": "1.5", "entries": []}), "version 1.5 of the format is not supported"),
        (pickle.dumps({"version": "2.4", "entries": [{"pg_name": "0"}]}), "it is not a complete dump (KeyError"),
        (b"\x80\x02ccollections\nOrderedDict\n.", "it refers to collections.OrderedDict"),
        (b"\x80\x02Pnumber\n.", "it is not a complete dump"),
    ],
)
def test_invalid_dump_file_is_reported_with_its_path(data: bytes, why: str, tmp_path: Path) -> None:
    found = summarize_dump(tmp_path / "nccl_trace_rank_4", data)
    assert why in found["untold"]
    assert found["path"].endswith("nccl_trace_rank_4")
    assert "groups" not in found


def test_oversized_file_or_pipe_is_not_read(tmp_path: Path) -> None:
    large, pipe = tmp_path / "nccl_trace_rank_0", tmp_path / "nccl_trace_rank_1"
    with open(large, "wb") as file:
        file.truncate(flight_dump.MOST_BYTES + 1)
    os.mkfifo(pipe)
    assert "larger than any dump" in flight_dump.read_dump(str(large))["untold"]
    assert flight_dump.read_dump(str(pipe))["untold"] == "it is not a regular file"


@pytest.mark.process
def test_a_file_made_to_exhaust_memory_ends_its_reader_only(tmp_path: Path) -> None:
    """Each byte creates a list, so 16 MB would need a gigabyte. Another file has an endlessly nested key."""
    wide, deep, good = (tmp_path / f"nccl_trace_rank_{rank}" for rank in range(3))
    wide.write_bytes(b"\x80\x02" + b"]" * (flight_dump.MOST_BYTES - 3) + b".")
    deep.write_bytes(b"\x80\x02})" + b"\x85" * 4_000_000 + b"K\x01s.")
    write_dumps(tmp_path, {2: build_dump(build_finished(3))})
    lines = []
    for path in (wide, deep, good):
        argv = [sys.executable, "-I", "-S", "-c", bundle.read_dump_reader(), str(path)]
        lines.append(subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stdout)
    assert not any('"groups"' in line for line in lines[:2])
    assert json.loads(lines[2])["groups"][0]["enqueued"] == 3
