"""Flight recorder reader: reads one of torch's dumps without trusting it, and returns what its rank had begun and
waited in.

torch writes a pickle of numbers, texts and plain containers. This unpickler accepts no class and no function, so
nothing in the file can be called. The file's size is bounded; the caller bounds time and memory (see ``limit_memory``). The
result is small and plain JSON for any file.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import re
import resource
import stat
import sys

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

MOST_BYTES = 16 << 20  # torch keeps 2000 entries, which are half a megabyte
MOST_MEMORY = 1 << 30
MOST_GROUPS = 64
MOST_RANKS = 16384
MOST_TENSORS = 8
DEEPEST = 12
_LIBRARY = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/python\d|^<")
_NUMBER = re.compile(r"\d+")
_PEERS = ("send", "recv")


class UnreadableDump(Exception):
    """This file is not a readable dump; the text contains the reason for the user."""


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler that rejects every class and function: torch's dumps contain none."""

    def find_class(self, module: str, name: str) -> Any:
        raise UnreadableDump("it refers to %s.%s, which no dump does: reading stopped there" % (module[:60], name[:60]))


def read_dump(path: str) -> dict[str, Any]:
    """Return ``path`` with ``rank``, ``version`` and ``groups``, or with ``untold``: why it cannot be read."""
    answer: dict[str, Any] = {"path": path}
    try:
        answer.update(_summarize(_unpickle(path)), rank=parse_rank(path))
    except UnreadableDump as error:
        answer["untold"] = str(error)
    except OSError as error:
        answer["untold"] = "%s" % (error.strerror or error)
    except MemoryError:
        answer["untold"] = "reading it needs more memory than any dump does"
    except Exception as error:  # a broken pickle can raise anything in the unpickler
        answer["untold"] = "it is not a complete dump (%s: %s)" % (type(error).__name__, str(error)[:120])
    return answer


def parse_rank(path: str) -> int | None:
    """Return the rank, with which torch ends the file name."""
    digits = re.search(r"(\d{1,7})$", path)
    return int(digits.group(1)) if digits else None


def limit_memory() -> None:
    """Limit this process's memory to what a dump needs, if the system supports it."""
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    except (OSError, ValueError):
        return


def _unpickle(path: str) -> dict[str, Any]:
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        seen = os.fstat(file.fileno())
        if not stat.S_ISREG(seen.st_mode):
            raise UnreadableDump("it is not a regular file")
        if not seen.st_size:
            raise UnreadableDump("it is empty: its rank exited before writing it")
        if seen.st_size > MOST_BYTES:
            raise UnreadableDump("%d MB is larger than any dump" % (seen.st_size >> 20))
        gc.disable()
        try:
            dump = _PlainUnpickler(file).load()
        finally:
            gc.enable()
    if not isinstance(dump, dict) or not isinstance(dump.get("entries", []), list) or "version" not in dump:
        raise UnreadableDump("it is a pickle, but not a flight recorder dump")
    if not str(dump["version"]).startswith("2."):
        raise UnreadableDump("version %s of the format is not supported" % str(dump["version"])[:20])
    return dump


def _summarize(dump: dict[str, Any]) -> dict[str, Any]:
    """Return each process group's members, and how far this rank came in it."""
    members = _parse_members(dump.get("pg_config"))
    entries = [entry for entry in dump.get("entries", []) if isinstance(entry, dict)]
    found: dict[tuple[str, str], tuple[int, list[dict[str, Any]]]] = {}
    for entry in entries:
        if entry.get("is_p2p") or _parse_operation(entry).split(" ")[0] in _PEERS:
            continue  # counted separately from the collectives, and known to two ranks only
        name, desc = entry["process_group"]
        number = int(entry["pg_id"])
        key = str(name)[:200], str(desc)[:200]
        if key not in found or number > found[key][0]:  # a group was recreated under the same name: the last one counts
            found[key] = number, []
        if number == found[key][0]:
            found[key][1].append(entry)
    whole = not entries or int(entries[0]["record_id"]) == 0
    groups = [_summarize_group(name, desc, members.get(name), mine) for (name, desc), (_, mine) in found.items()]
    return {
        "version": str(dump["version"])[:20],
        "whole": whole,
        "world": _parse_world_size(dump),
        "groups": groups[:MOST_GROUPS],
    }


def _parse_members(config: Any) -> dict[str, list[int]]:
    """Return group -> global ranks; gloo records none."""
    out = {}
    for name, entry in config.items() if isinstance(config, dict) else ():
        ranks = [int(digits) for digits in _NUMBER.findall(str(entry["ranks"]))[:MOST_RANKS]]
        if ranks:
            out[str(name)[:200]] = ranks
    return out


def _parse_world_size(dump: dict[str, Any]) -> int:
    """Return the world size of the dump's run; 0 if the dump does not contain it."""
    config = dump.get("pg_config")
    for entry in config.values() if isinstance(config, dict) else ():
        if entry.get("desc") == "default_pg":
            return len(_NUMBER.findall(str(entry["ranks"])))
    return 0


def _summarize_group(name: str, desc: str, ranks: list[int] | None, entries: list[dict[str, Any]]) -> dict[str, Any]:
    numbers = [int(entry["collective_seq_id"]) for entry in entries]
    over = [number for number, entry in zip(numbers, entries) if entry.get("state") == "completed"]
    begun = [number for number, entry in zip(numbers, entries) if entry.get("state") in ("started", "completed")]
    waiting = [entry for entry in entries if not _is_over(entry)]
    first = min(waiting, key=lambda entry: int(entry["collective_seq_id"])) if waiting else None
    return {
        "name": name,
        "desc": desc,
        "ranks": ranks,
        "enqueued": max(numbers),
        "started": max(begun, default=0),
        "completed": max(over, default=0),
        "waits": _summarize_entry(first) if first is not None else None,
        "last": _summarize_entry(entries[-1]),
    }


def _is_over(entry: dict[str, Any]) -> bool:
    """Return whether the operation has ended. gloo records no states, but retires every operation that ended."""
    if str(entry.get("profiling_name", "")).startswith("gloo:"):
        return bool(entry.get("retired"))
    return entry.get("state") == "completed"


def _parse_operation(entry: dict[str, Any]) -> str:
    return str(entry.get("profiling_name", ""))[:80].rpartition(":")[2]


def _summarize_entry(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "seq": int(entry["collective_seq_id"]),
        "op": _parse_operation(entry),
        "inputs": _parse_sizes(entry.get("input_sizes")),
        "outputs": _parse_sizes(entry.get("output_sizes")),
        "dtypes": [str(name)[:20] for name in (entry.get("input_dtypes") or ())[:MOST_TENSORS]],
        "state": str(entry.get("state"))[:20],
        "frames": _select_frames(entry.get("frames")),
    }


def _parse_sizes(sizes: Any) -> list[list[int]]:
    return [[int(size) for size in each[:8]] for each in (sizes or ())[:MOST_TENSORS]]


def _select_frames(frames: Any) -> list[list[Any]]:
    """Return the frames from the innermost one to the first outside of libraries."""
    out: list[list[Any]] = []
    for frame in (frames or ())[:200]:
        file = str(frame["filename"])[:300]
        out.append([file, int(frame["line"]), str(frame["name"])[:80]])
        if not _LIBRARY.search(file):
            return out[-DEEPEST:]
    return out[:DEEPEST]


if __name__ == "__main__":
    limit_memory()
    for _path in sys.argv[1:]:
        print(json.dumps(read_dump(_path)), flush=True)
