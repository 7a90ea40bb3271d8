"""Errors of ranks that torch.multiprocessing.spawn started: each rank writes its traceback to a file for its parent.

The parent logs it only after it has ended its other ranks, and the stop of the run may come first. The name of the file
does not contain the run. So a file counts only if it is new, belongs to this user, and its traceback names the work
directory.
"""

from __future__ import annotations

import glob
import io
import os
import pickle
import stat
import time

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

PATTERN = "pytorch-errorfile-*.pickle"  # torch/multiprocessing/spawn.py
MOST_FILES = 64
LARGEST = 1 << 18
LONGEST_STACK = 8000


def read_spawn_errors(cwd: str, since: float) -> list[dict[str, Any]]:
    """Return the errors of tasks in ``cwd`` that were written after ``since``, in the form of torch's error files."""
    folders = dict.fromkeys((os.environ.get("TMPDIR", "/tmp"), "/tmp"))
    paths = [path for folder in folders for path in glob.glob(os.path.join(glob.escape(folder), PATTERN))]
    found = []
    for path in paths[:MOST_FILES]:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        with open(descriptor, "rb") as file:
            seen = os.fstat(descriptor)
            is_new = stat.S_ISREG(seen.st_mode) and seen.st_uid == os.getuid() and seen.st_mtime >= since
            text = load_text(file.read(LARGEST)) if is_new else ""
        lines = text.strip().splitlines()
        if lines and cwd and '"%s/' % cwd.rstrip("/") in text:
            error = {"local_rank": None, "message": lines[-1][:2000], "stack": text[-LONGEST_STACK:]}
            found.append(dict(error, age=max(0.0, time.time() - seen.st_mtime), path=path))
    return found


class _TextUnpickler(pickle.Unpickler):
    """Unpickler of plain values: a file of /tmp must not name a function."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError("%s.%s" % (module, name))


def load_text(data: bytes) -> str:
    """Return the pickled text; "" if the data is something else."""
    try:
        value = _TextUnpickler(io.BytesIO(data)).load()
    except Exception:  # damaged data raises exceptions of any kind
        return ""
    return value if isinstance(value, str) else ""
