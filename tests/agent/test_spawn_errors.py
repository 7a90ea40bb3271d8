"""Error files of torch.multiprocessing.spawn: only new files of this user and of this work directory count."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path

import pytest

from fanout.agent.probes.spawn_errors import load_text, read_spawn_errors

TRACE = 'Traceback (most recent call last):\n  File "/proj/task.py", line 7, in work\nValueError: bad sample\n'


def write_error(folder: Path, name: str, data: bytes, age: float = 1.0) -> Path:
    path = folder / f"pytorch-errorfile-{name}.pickle"
    path.write_bytes(data)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_error_of_a_spawned_rank_is_read_with_its_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    path = write_error(tmp_path, "new", pickle.dumps(TRACE))
    write_error(tmp_path, "old", pickle.dumps(TRACE), age=100.0)
    write_error(tmp_path, "other-directory", pickle.dumps(TRACE.replace("/proj/", "/project/")))
    write_error(tmp_path, "empty", b"")
    write_error(tmp_path, "no-text", pickle.dumps(["Traceback"]))
    (tmp_path / "pytorch-errorfile-link.pickle").symlink_to(path)
    (found,) = read_spawn_errors("/proj", time.time() - 50.0)
    assert (found["local_rank"], found["message"], found["path"]) == (None, "ValueError: bad sample", str(path))
    assert found["stack"] == TRACE
    assert 0.5 < found["age"] < 40.0


def test_a_file_that_names_a_function_is_not_executed(tmp_path: Path) -> None:
    """Every user may write into /tmp."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/executed",)

    assert load_text(pickle.dumps(Evil())) == ""
    assert load_text(pickle.dumps("text")) == "text"
    assert not (tmp_path / "executed").exists()
