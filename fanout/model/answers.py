"""Answer schemas: the form of a host's answer to each question, and the only check of it. Pure.

An invalid answer becomes an error that names the field. If an answer has several sections, only the invalid sections
are removed, and their reasons are stored under ``INVALID``. So checks and views receive only valid values.
"""

from __future__ import annotations

from typing import Any, get_args

from fanout.model.events import AnswerReason
from fanout.model.schema import (
    Anything,
    Flag,
    Integer,
    InvalidValue,
    ListOf,
    MapOf,
    Nullable,
    Number,
    OneOf,
    Text,
    TupleOf,
    check_value,
)

INVALID_PREFIX = "its answer is invalid"  # prefix of every such error
INVALID = "invalid"  # section -> why it was removed; never set by a host

_T, _LINE, _B = Text(1 << 16), Text(4096), Flag()
_COUNT, _PID, _UID = Integer(0), Integer(0, 1 << 32), Integer(0, 1 << 32)
_SECONDS, _TIME, _AGE = Number(0, 1e12), Number(0, 1e12), Nullable(Number(-1e12, 1e12))
_PORT = Integer(0, 65535)
_RANKS = Integer(0, 1 << 24)
_SIZE = OneOf((_T, Integer(), Number()))  # as a tool prints it

_MOUNT = {"type?": _LINE, "source?": _T, "point?": _T, "options?": _T, "of?": _T}
_ABOVE = {"path": _T, "writable": _B, "mount?": _MOUNT}
_MISSING = {"path": _T, "kind": Text(among=("missing",)), "error": _LINE, "above": _ABOVE, "link?": _T}
_SEEN = {
    "path": _T, "kind": Text(among=("directory", "file", "special")), "above": _ABOVE, "real": _T, "uid": _UID, "mode": _COUNT,
    "size": _COUNT, "mtime": Number(), "ahead": Number(), "readable": _B, "writable": _B, "searchable": _B,
    "sha256?": Text(64), "crlf?": _B, "shebang?": _T, "mentions?": ListOf(_LINE), "mount?": _MOUNT,
    "entries?": Nullable(_COUNT), "activates?": _B, "place?": _LINE,
}  # fmt: skip
_FILE = OneOf((_MISSING, _SEEN))
_PROGRAMS = dict.fromkeys(("bash", "torchrun", "python3", "python", "git", "tee", "nvidia-smi", "py-spy"), _T)
_HOLDER = {"uid?": _UID, "user?": _LINE, "listening?": _B, "pid?": _PID, "command?": _LINE, "age?": _AGE,
           "run?": _LINE, "kept?": _B}  # fmt: skip
_PROCESS = {"gpu?": _SIZE, "pid": _PID, "memory?": Nullable(_SIZE), "command?": Nullable(_LINE), "uid?": Nullable(_UID),
            "user?": Nullable(_LINE), "age?": _AGE, "run?": _LINE}  # fmt: skip
_CLAIMED = {"uid": Nullable(_UID), "pid": Nullable(_PID), "since": Nullable(_TIME), "claims": ListOf(_LINE)}
_OTHER_RUN = {"user": _LINE, "run": _LINE, "age": _AGE, **_CLAIMED}
_SHARED = {"others?": ListOf(_OTHER_RUN), "container?": _B}
_TEXTS = MapOf(_T)  # text by text
_REASONS = MapOf(Text(among=get_args(AnswerReason)))  # by section

#: The sections of ``facts``.
FACTS: dict[str, Any] = {
    "identity": {"hostname": _LINE, "host_id": _LINE, "given?": _B, "boot_id": _LINE, "netns": _LINE, "machine_id": _LINE, "pid_namespace?": _LINE},
    "user": {"name": _LINE, "uid": _UID, "gid": _UID, "groups": ListOf(_UID), "umask": Integer(0, 0o7777), "home": _T, "shell": _T, "has_name?": _B, "may_trace?": _B},
    "agent": {"version": TupleOf((_COUNT, _COUNT, _COUNT)), "executable": Nullable(_T)},
    "limits": dict.fromkeys(("nofile", "nproc", "memlock", "stack", "as", "cpu", "fsize", "core"), Integer(-1)),
    "memory": {**dict.fromkeys(("total", "available", "cap", "pids_cap"), _COUNT), "swap_used": Integer()},
    "cpu": {"count": Integer(1, 1 << 20), "usable": Integer(0, 1 << 20), "load": Number(0), "governor": _LINE},
    "kernel": {
        "release": _LINE, "machine": _LINE, "system": _LINE, "up": _SECONDS, "reboot_required": _B, "ptrace_scope": _LINE,
        "core_pattern": _LINE, "log_barred": _LINE, "numa_balancing": _B,
    },
    "session": dict.fromkeys(("logind", "linger", "remove_ipc", "kill_user_processes", "system_user"), _B),
    "environment": _TEXTS,
    "stuck": ListOf({"pid": _PID, "command": _LINE, "wchan": _LINE}),
    "leftovers": ListOf({"pid": _PID, "command": _LINE, "run": _LINE, "age": _AGE, "kept?": _B}),
    "interfaces": ListOf({
        "name": _LINE, "addresses": ListOf(_LINE), "up": _B, "running": _B, "loopback": _B, "mtu": _COUNT, "speed": Integer(),
        "duplex": _LINE, "received": _COUNT, "bad": _COUNT,
    }),
    "route": {"ipv4": _LINE, "ipv6": _LINE},
    "ports": {"low": _PORT, "high": _PORT, "reserved": _T},
    "residue": MapOf(Anything()),
    "infiniband": ListOf({
        "port": _LINE, "state": _LINE, "rate": _LINE, "link": _LINE, "errors": MapOf(_COUNT), "gids": MapOf(_LINE),
    }),
    "segments": ListOf({"path": _T, "bytes": _COUNT}),
    "ras": ListOf(_T),
    "upgrades": {"unattended": _B, "free": ListOf(_LINE)},
    "own_name": {"addresses": ListOf(_LINE), "error": _LINE, "seconds": _SECONDS},
    "reverse": ListOf({"address": _LINE, "name": _LINE, "seconds": _SECONDS}),
    "files": MapOf(_FILE),
    "programs": {"path": _T, "found": _PROGRAMS, "elsewhere": ListOf(_T), "venv": {"dir": _T, "exists": _B}},
    "space": MapOf({"path": _T, "free": _COUNT, "total": _COUNT, "inodes": _COUNT, "inodes_total": _COUNT, "type": _LINE,
               "writable?": _B, "mount?": _MOUNT}),
    "tree": {
        "head?": _LINE, "code?": _LINE, "dirty?": _TEXTS, "empty_modules?": ListOf(_T), "files": _TEXTS, "whole": _B,
        "left_out?": ListOf(_T),
    },
    "locks": ListOf({"path": _T, "built": _B, "holder": _PID}),
    "runs": ListOf({"run": _LINE, "node": Integer(0, 1 << 24), "claims": ListOf(_LINE)}),
    "other_runs": ListOf(_OTHER_RUN),
    "software": {
        "version": TupleOf((_COUNT, _COUNT, _COUNT)), "executable": _T, "prefix": _T, "packages": _TEXTS,
        "torch": {"version?": Nullable(_LINE), "cuda?": Nullable(_LINE), "hip?": Nullable(_LINE), "baton?": Nullable(_COUNT)}, "syntax": _T, "absent": ListOf(_LINE),
        "pip?": _LINE, "own?": _TEXTS,
    },
    "gpu": {
        "vendor": _LINE, "gpus": ListOf(MapOf(_LINE), 1024), "problem": _T, "processes": ListOf(_PROCESS), "driver?": _LINE,
        "module?": _LINE, "direct?": _LINE, "throttled?": ListOf(_LINE), "pending?": MapOf(_LINE), "xids?": ListOf({"pci": _LINE, "xid": _COUNT, "text": _LINE, "ago": Nullable(Number())}),
        "xids_unread?": _LINE, "recovery?": MapOf(_LINE), "fabric?": MapOf(_LINE), "links?": MapOf(MapOf(_COUNT)),
    },
    "engine": {
        "engine": _LINE, "rootless": _B, "image": _LINE, "digests": ListOf(_LINE), "network": _LINE, "cgroup_driver": _LINE,
        "gpu_hook": _B, "gpu_links": _B,
    },
    "services": {"firewall": ListOf(_LINE), "time": ListOf(_LINE), "killer": ListOf(_LINE), "synchronised": Nullable(_B)},
}  # fmt: skip

_FRAMES = ListOf(TupleOf((_T, Integer(), _T)), 1000)
_RANK = {
    "rank?": Nullable(Integer(0, 1 << 24)), "local_rank?": Nullable(Integer(0, 1 << 16)), "pid": _PID, "state?": Text(8), "wchan?": _LINE,
    "stack": _FRAMES, "native?": _FRAMES, "moved?": Nullable(_B), "crash?": _LINE, "way?": _LINE, "untold?": _LINE,
    "cpu?": _SECONDS, "io?": Integer(), "gpu?": _B,
}  # fmt: skip
_CALL = {
    "seq": Integer(), "op": _LINE, "inputs": ListOf(ListOf(Integer())), "outputs": ListOf(ListOf(Integer())), "dtypes": ListOf(_LINE),
    "state": _LINE, "frames": _FRAMES,
}  # fmt: skip
_GROUP = {"name": _LINE, "desc": _LINE, "ranks": Nullable(ListOf(Integer(0, 1 << 24))), "enqueued": Integer(), "started?": Integer(),
          "completed": Integer(), "waits": Nullable(_CALL), "last": Nullable(_CALL)}  # fmt: skip
_FLIGHT = {"path": _T, "untold?": _T, "rank?": Integer(0, 1 << 24), "world?": Integer(0, 1 << 24), "whole?": _B,
           "version?": _LINE, "groups?": ListOf(_GROUP)}  # fmt: skip

#: The sections of ``aftermath``.
AFTERMATH: dict[str, Any] = {
    "boot_id": _LINE,
    "load": {"one": Number(0), "five": Number(0), "cores": _COUNT},
    "memory": MapOf(Integer()),
    "space": ListOf({"path": _T, "used": Number(), "free_mb": _COUNT, "inodes": Number()}),
    "stuck": ListOf({"pid": _PID, "state": Text(8), "wchan": _T, "cmd": _T}),
    "errors": ListOf(
        {"local_rank": Nullable(Integer(0, 1 << 16)), "message": _T, "stack": _T, "age": _AGE, "path": _T}
    ),
    "flights": ListOf(_FLIGHT),
    "ras": ListOf(_T),
    "ports": ListOf({"port": _LINE, "counter": _LINE, "more": Integer()}),
    "stacks": ListOf(_RANK),
    "ends": ListOf(_RANK),
    "addresses": ListOf(_LINE),
    "kernel": ListOf(_T),
    "gpus": ListOf(_T),
}

_EXITED = {"code?": Nullable(Integer(0, 255)), "signal?": Nullable(Integer(1, 64)), "why?": _T, "oom?": _B}
_RUN_INFO = {
    "title?": _T, "by?": _LINE, "since?": Nullable(_TIME), "nodes?": Nullable(_RANKS), "nproc?": Nullable(_RANKS),
    "first_rank?": Nullable(_RANKS), "detached?": _B, "claims?": ListOf(_LINE), "cwd?": _T,
}  # fmt: skip
_KEEPER_STATUS = {"relays?": _COUNT, "silent_for?": Nullable(Number()), "lease?": Nullable(Number())}
_RUN = {
    "run": _LINE, "node": Integer(0, 1 << 24), "directory": _T, "alive": _B, "keeper_status?": Nullable(_KEEPER_STATUS), "other_version?": _B, "run_info?": Nullable(_RUN_INFO),
    "phase?": _LINE, "main?": Nullable(_PID), "keeper?": Nullable(_PID), "keeper_state?": _LINE, "exited?": Nullable(_EXITED),
    "left?": ListOf(_PID), "stopped?": _T, "bytes?": _COUNT, "changed?": Number(), "followed?": _B,
}  # fmt: skip
_STRAY = {
    "pid": _PID, "run": _LINE, "node": Integer(), "start": _COUNT, "age?": _AGE, "kept": _B, "state?": Text(8), "wchan?": _T,
    "cmd": _T, "gpu_mb?": Nullable(_COUNT),
}  # fmt: skip
_CREATED = {"engine": _LINE, "name": _LINE, "state": _LINE, "runs": _B}
_RUNS = {"searched": ListOf(_T), "runs": ListOf(_RUN), "processes": ListOf(_STRAY), "killed?": _COUNT, **_SHARED}
_RUNS |= {"created?": ListOf(_CREATED), "silent_engines?": _TEXTS}
_CARD = {"index": _LINE, "uuid": _LINE, "used": Nullable(Number(0))}
_OWN_RUN = {"run": _LINE, "node": _COUNT, "claims": ListOf(_LINE), "age": _AGE, "title": _T}
_AVAILABILITY: dict[str, Any] = {"gpus": ListOf(_CARD, 1024), "processes": ListOf(_PROCESS), "problem": _T}
_AVAILABILITY |= {"runs": ListOf(_OWN_RUN), "other_runs": ListOf(_OTHER_RUN)}
_AVAILABILITY["port"] = Nullable({**_HOLDER, "error?": _LINE})
_FACT = Nullable(Number(-1e15, 1e15))
_GPU_USAGE = {
    "name?": Nullable(_LINE), "pci?": Nullable(_LINE), **dict.fromkeys(("util?", "used?", "total?", "temp?", "watts?", "limit?"), _FACT),
    "ecc?": Nullable(_COUNT), "throttled?": Nullable(ListOf(Text(80), 16)), "lost?": Nullable(_B), "health?": Nullable(_LINE),
    "idle_memory?": Nullable(_B), "xid?": Nullable(_COUNT), "xid_text?": Nullable(_LINE), "xid_at?": _FACT,
}  # fmt: skip
_PROCESS_USAGE = {
    "gpu?": _LINE,
    "pid?": _PID,
    "memory?": _FACT,
    "user?": _LINE,
    "command?": _LINE,
    "since?": _FACT,
    "run?": _LINE,
}
_RUN_USAGE = {"user?": _LINE, "pid?": Nullable(_PID), "run?": _LINE, "since?": _FACT, "claims?": ListOf(_LINE, 1024)}
_HOST_USAGE = {"cpu?": _FACT, "cores?": _COUNT, "memory?": Nullable(ListOf(_FACT, 2, 2)), "disk?": Nullable(ListOf(_FACT, 2, 2)),
               "problem?": _LINE, "xids_unread?": _LINE}  # fmt: skip
#: What has changed since the last answer: every field may be absent.
_USAGE = {
    "whole": _B, "host?": _HOST_USAGE, "gpus?": MapOf(_GPU_USAGE, 1024), "processes?": MapOf(_PROCESS_USAGE, 1024),
    "runs?": MapOf(_RUN_USAGE, 1024), "gone?": MapOf(ListOf(_LINE, 1024), 3),
}  # fmt: skip
_WORKER = {
    "error?": _T, "stage?": _LINE, "died?": _B, "late?": _B, "torch?": _LINE, "distributed?": _B, "nccl?": _B, "gpu?": _LINE,
    "sizes?": ListOf(TupleOf((Number(0), Number(0), Integer(0)))), "absent?": ListOf(Integer()), "bits?": Anything(), "differing?": Integer(0),
    "tflops?": Number(0),
}  # fmt: skip
_WORKERS = {"workers": ListOf(_WORKER, 4096)}
DIAL_RESULT = {
    "outcome": Text(40), "text?": _T, "errno?": _LINE, "seconds?": _SECONDS, "peer?": _LINE, "resolve?": _SECONDS, "source?": _LINE,
    "connect?": _SECONDS, "first?": _T, "bulk?": _SECONDS, "sent?": _COUNT, "resent?": _COUNT,
}  # fmt: skip
_LAUNCHER_FILE = {"path": _T, "values": _TEXTS, "lines": _COUNT, "error?": _T}
_REHEARSAL = {
    "status": Nullable(Integer()), "seconds": _SECONDS, "count": _COUNT, "words": _T,
    "calls": ListOf({"program": _T, "argv": ListOf(_T), "cwd": _T, "python": _T, "env": _TEXTS, "real?": _T, "file?": _LAUNCHER_FILE}),
    "detached?": ListOf({"program": _T, "argv": ListOf(_T), "background": _B}), "left?": ListOf(_T),
    "errors?": ListOf(_T), "named?": ListOf(_T), "programs?": ListOf({"name": _T, "marks": ListOf(_T)}),
}  # fmt: skip
_PATHS = ListOf(_T, 200)
_SYNC = OneOf((
    {"state": Text(among=("ready",)), "path": _T, "token": _LINE, "is_new": _B},
    {"state": Text(among=("shared",)), "seen": ListOf(_COUNT)},
    {"state": Text(among=("left",))},
    {"state": Text(among=("comparing",)), "files": _COUNT},
    {"state": Text(among=("compared",)), "codes": Text(1 << 17), "problems": _PATHS, "problem_count": _COUNT, "gone": _PATHS,
     "gone_count": _COUNT, "earlier_count": _COUNT, "extra": _PATHS, "extra_count": _COUNT},
    {"state": Text(among=("received",)), "bytes": _COUNT},
    {"state": Text(among=("done",)), "written": _COUNT, "deleted": _COUNT, "changed": _PATHS},
))  # fmt: skip

#: The schemas of all other questions.
ANSWERS: dict[str, Any] = {
    "tree": FACTS["tree"],
    "software": FACTS["software"],
    "clock": {"time": _TIME, "pid": _PID},
    "listen": {"port?": _PORT, "error?": _LINE, "text?": _LINE, "holder?": _HOLDER, "free?": _PORT},
    "dial": {"results": ListOf(DIAL_RESULT)},
    "share": {"token": _T},
    "shared": {"seen": ListOf(_COUNT), "seconds": _SECONDS},
    "rehearse": _REHEARSAL,
    "deep-open": _WORKERS,
    "deep-step": _WORKERS,
    "runs": _RUNS,
    "availability": _AVAILABILITY,
    "clean": _RUNS,
    "usage": _USAGE,
    "sync": _SYNC,
    "stacks": {"ranks": ListOf(_RANK), "others?": MapOf(Number()), "at?": _TIME, "busy?": _COUNT},
}

#: Questions that a host answers again and again, until they are cancelled.
REPEATED = frozenset({"sync", "usage"})

_SECTIONS = {
    "facts": (FACTS, {"clock?": Nullable({"began": _TIME, "ended": _TIME}), "missing?": _TEXTS, "reasons?": _REASONS}),
    "aftermath": (AFTERMATH, {"time?": _TIME, "missing?": _TEXTS, "reasons?": _REASONS}),
}


def check_answer(what: str, value: Any) -> tuple[Any, str]:
    """Return (the valid part of an answer to ``what``, why there is none). One of the two is empty."""
    try:
        if what in _SECTIONS:
            return _checked_sections(what, value), ""
        check_value(ANSWERS.get(what, Anything()), value, what)
        return value, ""
    except InvalidValue as error:
        return None, f"{INVALID_PREFIX} ({error})"


def _checked_sections(what: str, value: Any) -> dict[str, Any]:
    """Return the valid sections. Raises InvalidValue if the answer is not an object."""
    schemas, common = _SECTIONS[what]
    check_value({}, value if not isinstance(value, dict) else {}, what)
    kept: dict[str, Any] = {}
    invalid: dict[str, str] = {}
    for name, section in value.items():
        if name == INVALID:
            continue
        kind = schemas.get(name, common.get(name + "?", Anything()))
        try:
            check_value(kind, section, f"{what}.{name[:40]}")
            kept[name] = section
        except InvalidValue as error:
            invalid[name] = str(error)
    missing = dict(kept.get("missing", {}))
    missing.update({name: f"{INVALID_PREFIX} ({why})" for name, why in invalid.items()})
    return {**kept, "missing": missing, INVALID: invalid} if invalid else kept
