"""Answer schemas: the form of a host's answer to each question, and the only check of it. Pure.

An invalid answer becomes an error that names the field. If an answer has several sections, only the invalid sections
are removed, and their reasons are stored under ``INVALID``. So checks and views receive only valid values.
"""

from __future__ import annotations

from typing import Any

from fanout.schema import Anything, By, Each, Either, Flag, Invalid, Maybe, Number, Row, Text, Whole, check

IS_INVALID = "its answer is invalid"  # prefix of every such error
INVALID = "invalid"  # section -> why it was removed; never set by a host

_T, _LINE, _B = Text(1 << 16), Text(4096), Flag()
_COUNT, _PID, _UID = Whole(0), Whole(0, 1 << 32), Whole(0, 1 << 32)
_SECONDS, _TIME, _AGE = Number(0, 1e12), Number(0, 1e12), Maybe(Number(-1e12, 1e12))
_PORT = Whole(0, 65535)
_RANKS = Whole(0, 1 << 24)
_SIZE = Either((_T, Whole(), Number()))  # as a tool prints it

_MOUNT = {"type?": _LINE, "source?": _T, "point?": _T, "options?": _T, "of?": _T}
_ABOVE = {"path": _T, "writable": _B, "mount?": _MOUNT}
_MISSING = {"path": _T, "kind": Text(among=("missing",)), "error": _LINE, "above": _ABOVE, "link?": _T}
_SEEN = {
    "path": _T, "kind": Text(among=("directory", "file", "special")), "above": _ABOVE, "real": _T, "uid": _UID, "mode": _COUNT,
    "size": _COUNT, "mtime": Number(), "ahead": Number(), "readable": _B, "writable": _B, "searchable": _B,
    "sha256?": Text(64), "crlf?": _B, "shebang?": _T, "mentions?": Each(_LINE), "mount?": _MOUNT,
    "entries?": Maybe(_COUNT), "activates?": _B,
}  # fmt: skip
_FILE = Either((_MISSING, _SEEN))
_PROGRAMS = dict.fromkeys(("bash", "torchrun", "python3", "python", "git", "tee", "nvidia-smi", "py-spy"), _T)
_HOLDER = {"uid?": _UID, "user?": _LINE, "listening?": _B, "pid?": _PID, "command?": _LINE, "age?": _AGE,
           "run?": _LINE, "kept?": _B}  # fmt: skip
_PROCESS = {"gpu?": _SIZE, "pid": _PID, "memory?": Maybe(_SIZE), "command?": Maybe(_LINE), "uid?": Maybe(_UID),
            "user?": Maybe(_LINE), "age?": _AGE, "run?": _LINE}  # fmt: skip
_WORDS = By(_T)  # text by text

#: The sections of ``facts``.
FACTS: dict[str, Any] = {
    "identity": {"hostname": _LINE, "host_id": _LINE, "given?": _B, "boot_id": _LINE, "netns": _LINE, "machine_id": _LINE},
    "user": {"name": _LINE, "uid": _UID, "gid": _UID, "groups": Each(_UID), "umask": Whole(0, 0o7777), "home": _T, "shell": _T},
    "agent": {"version": Row((_COUNT, _COUNT, _COUNT)), "executable": Maybe(_T)},
    "limits": dict.fromkeys(("nofile", "nproc", "memlock", "stack", "as", "cpu", "fsize", "core"), Whole(-1)),
    "memory": {**dict.fromkeys(("total", "available", "cap", "pids_cap"), _COUNT), "swap_used": Whole()},
    "cpu": {"count": Whole(1, 1 << 20), "usable": Whole(0, 1 << 20), "load": Number(0), "governor": _LINE},
    "kernel": {
        "release": _LINE, "machine": _LINE, "system": _LINE, "up": _SECONDS, "reboot_required": _B, "ptrace_scope": _LINE,
        "core_pattern": _LINE, "log_barred": _LINE, "numa_balancing": _B,
    },
    "session": dict.fromkeys(("logind", "linger", "remove_ipc", "kill_user_processes", "system_user"), _B),
    "environment": _WORDS,
    "stuck": Each({"pid": _PID, "command": _LINE, "wchan": _LINE}),
    "leftovers": Each({"pid": _PID, "command": _LINE, "run": _LINE, "age": _AGE, "kept?": _B}),
    "interfaces": Each({
        "name": _LINE, "addresses": Each(_LINE), "up": _B, "running": _B, "loopback": _B, "mtu": _COUNT, "speed": Whole(),
        "duplex": _LINE, "received": _COUNT, "bad": _COUNT,
    }),
    "route": {"ipv4": _LINE, "ipv6": _LINE},
    "ports": {"low": _PORT, "high": _PORT, "reserved": _T},
    "residue": By(Anything()),
    "infiniband": Each({
        "port": _LINE, "state": _LINE, "rate": _LINE, "link": _LINE, "errors": By(_COUNT), "gids": By(_LINE),
    }),
    "segments": Each({"path": _T, "bytes": _COUNT}),
    "ras": Each(_T),
    "upgrades": {"unattended": _B, "free": Each(_LINE)},
    "own_name": {"addresses": Each(_LINE), "error": _LINE, "seconds": _SECONDS},
    "reverse": Each({"address": _LINE, "name": _LINE, "seconds": _SECONDS}),
    "files": By(_FILE),
    "programs": {"path": _T, "found": _PROGRAMS, "elsewhere": Each(_T), "venv": {"dir": _T, "exists": _B}},
    "space": By({"path": _T, "free": _COUNT, "total": _COUNT, "inodes": _COUNT, "inodes_total": _COUNT, "type": _LINE,
               "writable?": _B, "mount?": _MOUNT}),
    "tree": {
        "head?": _LINE, "code?": _LINE, "dirty?": _WORDS, "empty_modules?": Each(_T), "files": _WORDS, "whole": _B,
        "left_out?": Each(_T),
    },
    "locks": Each({"path": _T, "built": _B, "holder": _PID}),
    "runs": Each({"run": _LINE, "node": Whole(0, 1 << 24), "claims": Each(_LINE)}),
    "software": {
        "version": Row((_COUNT, _COUNT, _COUNT)), "executable": _T, "prefix": _T, "packages": _WORDS,
        "torch": {"version?": Maybe(_LINE), "cuda?": Maybe(_LINE), "hip?": Maybe(_LINE), "baton?": Maybe(_COUNT)}, "syntax": _T, "absent": Each(_LINE),
        "pip?": _LINE, "own?": _WORDS,
    },
    "gpu": {
        "vendor": _LINE, "gpus": Each(By(_LINE), 1024), "problem": _T, "processes": Each(_PROCESS), "driver?": _LINE,
        "module?": _LINE, "direct?": _LINE, "throttled?": Each(_LINE), "pending?": By(_LINE), "xids?": Each({"pci": _LINE, "xid": _COUNT, "text": _LINE, "ago": Maybe(Number())}),
        "xids_unread?": _LINE, "recovery?": By(_LINE), "fabric?": By(_LINE), "links?": By(By(_COUNT)),
    },
    "services": {"firewall": Each(_LINE), "time": Each(_LINE), "killer": Each(_LINE), "synchronised": Maybe(_B)},
}  # fmt: skip

_FRAMES = Each(Row((_T, Whole(), _T)), 1000)
_RANK = {
    "rank?": Maybe(Whole(0, 1 << 24)), "local_rank?": Maybe(Whole(0, 1 << 16)), "pid": _PID, "state?": Text(8), "wchan?": _LINE,
    "stack": _FRAMES, "native?": _FRAMES, "moved?": Maybe(_B), "crash?": _LINE, "way?": _LINE, "untold?": _LINE,
    "cpu?": _SECONDS, "io?": Whole(), "gpu?": _B,
}  # fmt: skip
_CALL = {
    "seq": Whole(), "op": _LINE, "inputs": Each(Each(Whole())), "outputs": Each(Each(Whole())), "dtypes": Each(_LINE),
    "state": _LINE, "frames": _FRAMES,
}  # fmt: skip
_GROUP = {"name": _LINE, "desc": _LINE, "ranks": Maybe(Each(Whole(0, 1 << 24))), "enqueued": Whole(), "started?": Whole(),
          "completed": Whole(), "waits": Maybe(_CALL), "last": Maybe(_CALL)}  # fmt: skip
_FLIGHT = {"path": _T, "untold?": _T, "rank?": Whole(0, 1 << 24), "world?": Whole(0, 1 << 24), "whole?": _B,
           "version?": _LINE, "groups?": Each(_GROUP)}  # fmt: skip

#: The sections of ``aftermath``.
AFTERMATH: dict[str, Any] = {
    "boot_id": _LINE,
    "load": {"one": Number(0), "five": Number(0), "cores": _COUNT},
    "memory": By(Whole()),
    "space": Each({"path": _T, "used": Number(), "free_mb": _COUNT, "inodes": Number()}),
    "stuck": Each({"pid": _PID, "state": Text(8), "wchan": _T, "cmd": _T}),
    "errors": Each({"local_rank": Maybe(Whole(0, 1 << 16)), "message": _T, "stack": _T, "age": _AGE, "path": _T}),
    "flights": Each(_FLIGHT),
    "ras": Each(_T),
    "ports": Each({"port": _LINE, "counter": _LINE, "more": Whole()}),
    "stacks": Each(_RANK),
    "ends": Each(_RANK),
    "addresses": Each(_LINE),
    "kernel": Each(_T),
    "gpus": Each(_T),
}

_EXITED = {"code?": Maybe(Whole(0, 255)), "signal?": Maybe(Whole(1, 64)), "why?": _T, "oom?": _B}
_ABOUT = {
    "title?": _T, "by?": _LINE, "since?": Maybe(_TIME), "nodes?": Maybe(_RANKS), "nproc?": Maybe(_RANKS),
    "first_rank?": Maybe(_RANKS), "detached?": _B, "claims?": Each(_LINE), "cwd?": _T,
}  # fmt: skip
_STANDING = {"relays?": _COUNT, "heard?": Maybe(Number()), "lease?": Maybe(Number())}
_RUN = {
    "run": _LINE, "node": Whole(0, 1 << 24), "directory": _T, "alive": _B, "standing?": Maybe(_STANDING), "about?": Maybe(_ABOUT),
    "phase?": _LINE, "main?": Maybe(_PID), "keeper?": Maybe(_PID), "keeper_state?": _LINE, "exited?": Maybe(_EXITED),
    "left?": Each(_PID), "stopped?": _T, "bytes?": _COUNT, "changed?": Number(), "followed?": _B,
}  # fmt: skip
_STRAY = {
    "pid": _PID, "run": _LINE, "node": Whole(), "start": _COUNT, "age?": _AGE, "kept": _B, "state?": Text(8), "wchan?": _T,
    "cmd": _T, "gpu_mb?": Maybe(_COUNT),
}  # fmt: skip
_RUNS = {"looked": Each(_T), "runs": Each(_RUN), "processes": Each(_STRAY), "killed?": _COUNT}
_WORKER = {
    "error?": _T, "stage?": _LINE, "died?": _B, "late?": _B, "torch?": _LINE, "distributed?": _B, "nccl?": _B, "gpu?": _LINE,
    "sizes?": Each(Row((Number(0), Number(0), Whole(0)))), "absent?": Each(Whole()), "bits?": Anything(), "differing?": Whole(0),
    "tflops?": Number(0),
}  # fmt: skip
_WORKERS = {"workers": Each(_WORKER, 4096)}
DIALLED = {
    "outcome": Text(40), "text?": _T, "errno?": _LINE, "seconds?": _SECONDS, "peer?": _LINE, "resolve?": _SECONDS, "source?": _LINE,
    "connect?": _SECONDS, "first?": _T, "bulk?": _SECONDS, "sent?": _COUNT, "resent?": _COUNT,
}  # fmt: skip
_PLAYED = {
    "status": Maybe(Whole()), "seconds": _SECONDS, "count": _COUNT, "words": _T,
    "calls": Each({"program": _T, "argv": Each(_T), "cwd": _T, "python": _T, "env": _WORDS, "real?": _T}),
    "errors?": Each(_T),
}  # fmt: skip

#: The schemas of all other questions.
ANSWERS: dict[str, Any] = {
    "tree": FACTS["tree"],
    "software": FACTS["software"],
    "clock": {"time": _TIME, "pid": _PID},
    "listen": {"port?": _PORT, "error?": _LINE, "text?": _LINE, "holder?": _HOLDER, "free?": _PORT},
    "dial": {"results": Each(DIALLED)},
    "share": {"token": _T},
    "shared": {"seen": Each(_COUNT), "seconds": _SECONDS},
    "rehearse": _PLAYED,
    "deep-open": _WORKERS,
    "deep-step": _WORKERS,
    "runs": _RUNS,
    "clean": _RUNS,
    "stacks": {"ranks": Each(_RANK), "others?": By(Number()), "at?": _TIME, "busy?": _COUNT},
}

_SECTIONS = {
    "facts": (FACTS, {"clock?": Maybe({"began": _TIME, "ended": _TIME}), "missing?": _WORDS}),
    "aftermath": (AFTERMATH, {"time?": _TIME, "missing?": _WORDS}),
}


def checked(what: str, value: Any) -> tuple[Any, str]:
    """Return (the valid part of an answer to ``what``, why there is none). One of the two is empty."""
    try:
        if what in _SECTIONS:
            return _checked_sections(what, value), ""
        check(ANSWERS.get(what, Anything()), value, what)
        return value, ""
    except Invalid as error:
        return None, f"{IS_INVALID} ({error})"


def _checked_sections(what: str, value: Any) -> dict[str, Any]:
    """Return the valid sections. Raises Invalid if the answer is not an object."""
    schemas, common = _SECTIONS[what]
    check({}, value if not isinstance(value, dict) else {}, what)
    kept: dict[str, Any] = {}
    invalid: dict[str, str] = {}
    for name, section in value.items():
        if name == INVALID:
            continue
        kind = schemas.get(name, common.get(name + "?", Anything()))
        try:
            check(kind, section, f"{what}.{name[:40]}")
            kept[name] = section
        except Invalid as error:
            invalid[name] = str(error)
    missing = dict(kept.get("missing", {}))
    missing.update({name: f"{IS_INVALID} ({why})" for name, why in invalid.items()})
    return {**kept, "missing": missing, INVALID: invalid} if invalid else kept
