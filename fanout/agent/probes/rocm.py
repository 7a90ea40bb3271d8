"""AMD GPU facts from rocm-smi's JSON, and the owner of a process on a GPU."""

from __future__ import annotations

import os

from .. import smi
from ..processes import read_mark
from .host import read_age
from .probe_tools import FactUnavailable, read_or_empty
from .runs import is_kept

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

_MIB = 1 << 20


def parse_answer(text: str) -> dict[str, Any]:
    """Return the GPU facts in the JSON of rocm-smi. Raises FactUnavailable."""
    try:
        cards, system = smi.parse_rocm(text)
    except ValueError:
        raise FactUnavailable("rocm-smi printed no valid JSON: %s" % " ".join(text.split())[:200]) from None
    if not cards:
        raise FactUnavailable("no GPU")
    processes = [
        _parse_process(name, value) for name, value in system.items() if name.startswith("PID") and name[3:].isdigit()
    ]
    return {
        "vendor": "amd", "gpus": [_parse_card(number, card) for number, card in enumerate(cards)], "problem": "",
        "driver": system.get("Driver version", ""), "module": "", "processes": processes, "throttled": [],
        "pending": {}, "recovery": {}, "fabric": {}, "xids": [], "xids_unread": "",
    }  # fmt: skip


def _parse_card(number: int, card: dict[str, str]) -> dict[str, str]:
    name = card.get("Card Series") or card.get("Card series") or card.get("Card Model") or "AMD GPU"
    return {
        "index": str(number), "uuid": card.get("Unique ID", ""), "name": name,
        "memory.total": _to_mib(card.get("VRAM Total Memory (B)", "")),
        "memory.used": _to_mib(card.get("VRAM Total Used Memory (B)", "")),
    }  # fmt: skip


def _to_mib(text: str) -> str:
    return str(int(text) // _MIB) if text.isdigit() else ""


def _parse_process(name: str, value: str) -> dict[str, Any]:
    """Return a process's facts. rocm-smi reports how many GPUs it uses, not which."""
    cells = [cell.strip() for cell in value.split(",")]
    return describe_process(int(name[3:]), "", _to_mib(cells[2]) if len(cells) > 2 else "")


def describe_process(pid: int, gpu: str, memory: str) -> dict[str, Any]:
    """Return a process's owner, age, command and run; ``memory`` is in MiB."""
    command = read_or_empty("/proc/%d/cmdline" % pid).replace("\0", " ").strip()
    return {
        "gpu": gpu, "pid": pid, "memory": memory, "command": command[:120],
        "uid": _read_uid(pid), "user": _read_user(pid), "age": read_age(pid),
        "run": read_mark(pid)[0] if is_kept(pid) else "",
    }  # fmt: skip


def _read_uid(pid: int) -> int | None:
    try:
        return os.stat("/proc/%d" % pid).st_uid
    except OSError:
        return None


def _read_user(pid: int) -> str:
    import pwd

    uid = _read_uid(pid)
    try:
        return pwd.getpwuid(uid).pw_name if uid is not None else ""
    except KeyError:
        return str(uid)
