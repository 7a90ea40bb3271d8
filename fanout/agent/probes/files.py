"""File facts of this host: existence, permissions, content hashes, free space, programs."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
import time

from ..processes import list_pids
from .probe_tools import note_path, read_or_empty, read_start, search_path

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

_HASHED = 32 << 20  # larger files are data: only their size is compared

_VENVS = (
    "{workdir}/.venv/bin", "{workdir}/venv/bin", "{workdir}/env/bin", "~/.venv/bin", "~/venv/bin", "~/.local/bin",
    "~/miniconda3/bin", "~/anaconda3/bin", "~/miniforge3/bin", "~/mambaforge/bin", "/opt/conda/bin",
    "/opt/miniconda3/bin", "/opt/miniforge3/bin", "/opt/venv/bin", "/usr/local/bin",
)  # fmt: skip
_VENV_GLOBS = (
    "~/miniconda3/envs/*/bin", "~/anaconda3/envs/*/bin", "~/miniforge3/envs/*/bin", "~/.conda/envs/*/bin",
    "~/envs/*/bin", "~/venvs/*/bin", "~/.virtualenvs/*/bin", "/opt/conda/envs/*/bin",
)  # fmt: skip
_SHM = "/dev/shm"
_SEGMENTS = ("nccl-", "torch_", "sem.", "psm_", "cuda.shm.")


def resolve_path(path: str, args: dict[str, Any]) -> str:
    """Return ``path`` as train.sh will resolve it: relative to the work directory."""
    top = os.path.expanduser(args.get("workdir") or ".")
    return top if path == "." else os.path.join(top, os.path.expanduser(path))


def collect_files(args: dict[str, Any]) -> dict[str, Any]:
    """Return what is at each path of ``args["paths"]`` (name -> path); files of moderate size include their hash."""
    found = {}
    for name, path in args.get("paths", {}).items():
        note_path(resolve_path(path, args))
        found[name] = describe_path(resolve_path(path, args))
    return found


def describe_path(path: str) -> dict[str, Any]:
    """Return the kind, permissions, size, times and, where possible, content facts of a path."""
    row: dict[str, Any] = {"path": path, "kind": "missing", "above": find_nearest(path)}
    try:
        seen = os.stat(path)
    except OSError as error:
        row["error"] = error.strerror or str(error)
        if os.path.islink(path):
            row["link"] = os.readlink(path)
        return row
    kinds = {stat.S_IFDIR: "directory", stat.S_IFREG: "file"}
    row.update(
        kind=kinds.get(stat.S_IFMT(seen.st_mode), "special"),
        real=os.path.realpath(path),
        uid=seen.st_uid,
        mode=stat.S_IMODE(seen.st_mode),
        size=seen.st_size,
        mtime=seen.st_mtime,
        ahead=round(seen.st_mtime - time.time(), 1),
        readable=os.access(path, os.R_OK),
        writable=os.access(path, os.W_OK),
        searchable=os.access(path, os.X_OK),
    )
    if row["kind"] == "directory":
        row["mount"] = find_mount(row["real"])
        row["place"] = "%d:%d" % (seen.st_dev, seen.st_ino)  # equal inside and outside of a container
        row["entries"] = _count_entries(path) if row["readable"] and row["searchable"] else None
    elif row["kind"] == "file" and row["readable"] and seen.st_size <= _HASHED:
        row.update(_read_content(path))
    return row


_WORDS = (
    "torchrun", "torch.distributed", "accelerate launch", "deepspeed", "pipefail", "| tee", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "NPROC_PER_NODE",
)  # fmt: skip

# A command that changes where programs are found, in a command's position. Text that a script prints is no command.
_MESSAGES = re.compile(rb"""\b(?:echo|printf)\b(?:\s+(?:"(?:\\.|[^"\\])*"|'[^']*'|[^\s"';&|<>]+))*""")
_ACTIVATES = re.compile(
    rb"(?:^|[;&|({]|\b(?:then|do|else)\b)\s*(?:"
    rb"(?:source|\.)\s+\S|(?:exec\s+)?(?:conda|mamba|micromamba|module|ml|uv|poetry|pixi|pipenv|spack|eval|docker|podman|"
    rb"apptainer|singularity|enroot|srun|nix|nix-shell)\s|(?:export\s+)?PATH=)",
    re.MULTILINE,
)


def _read_content(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        data = file.read()
    first = data.split(b"\n", 1)[0]
    row: dict[str, Any] = {"sha256": hashlib.sha256(data).hexdigest(), "crlf": first.endswith(b"\r")}
    if first.startswith(b"#!"):
        row["shebang"] = first[2:].strip().decode("utf-8", "replace")
    if path.endswith((".sh", ".bash")):
        text = b"\n".join(line for line in data.split(b"\n") if not line.lstrip().startswith(b"#"))
        row["mentions"] = [word for word in _WORDS if word.encode() in text]
        row["activates"] = bool(_ACTIVATES.search(_MESSAGES.sub(b"", text)))
    return row


def _count_entries(path: str) -> int:
    """Return the number of entries of a directory, counted up to 1000."""
    with os.scandir(path) as entries:
        return sum(1 for _ in zip(range(1000), entries))


def find_nearest(path: str) -> dict[str, Any]:
    """Return the longest existing part of the path, and whether this user may create entries in it."""
    folder = os.path.dirname(path.rstrip("/")) or "/"
    while not os.path.isdir(folder) and folder != "/":
        folder = os.path.dirname(folder) or "/"
    writable = os.access(folder, os.W_OK | os.X_OK)
    return {"path": folder, "writable": writable, "mount": {} if writable else find_mount(os.path.realpath(folder))}


def find_mount(path: str, mounts: str = "/proc/self/mountinfo") -> dict[str, str]:
    """Return the file system under ``path``: type, source, mount options, and (``of``) the file system's options.

    ``mounts`` is the table of all mounts (proc_pid_mountinfo(5)).
    """
    best: dict[str, str] = {}
    length = -1
    with open(mounts, "rb") as table:
        for raw in table:
            left, _, right = raw.partition(b" - ")
            fields, tail = [[_decode_mount_field(field) for field in part.split()] for part in (left, right)]
            point = fields[4]
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= length and len(tail) >= 2:
                length = len(point)
                best = {"type": tail[0], "source": tail[1], "point": point, "options": fields[5], "of": tail[-1]}
    return best


def list_mount_points() -> list[str]:
    """Return all mount points."""
    with open("/proc/self/mountinfo", "rb") as table:
        return [_decode_mount_field(line.split(b" ")[4]) for line in table]


def _decode_mount_field(field: bytes) -> str:
    """Return a field of a table of mounts, in which the kernel writes some bytes as octal numbers (fs/proc_namespace.c)."""
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found.group(1), 8)]), field))


def measure_space(args: dict[str, Any]) -> dict[str, Any]:
    """Return free bytes and inodes where a run writes: the named directories, /tmp, the home directory, /dev/shm."""
    places = dict(args.get("space", {}))
    places.setdefault("tmp", os.environ.get("TMPDIR") or "/tmp")
    places.setdefault("home", "~")
    places.setdefault("shm", "/dev/shm")
    found = {}
    for name, path in places.items():
        path = resolve_path(path, args)
        if not os.path.isdir(path):
            path = find_nearest(path)["path"]
        seen, mount = os.statvfs(path), find_mount(os.path.realpath(path))
        found[name] = {
            "path": path, "free": seen.f_bavail * seen.f_frsize, "total": seen.f_blocks * seen.f_frsize,
            "inodes": seen.f_favail, "inodes_total": seen.f_files, "writable": os.access(path, os.W_OK | os.X_OK),
            "type": mount.get("type", ""), "mount": mount,
        }  # fmt: skip
    return found


def find_programs(args: dict[str, Any]) -> dict[str, Any]:
    """Return where a run's programs are on train.sh's PATH, and any torchrun elsewhere."""
    path = search_path(args)
    names = ("bash", "torchrun", "python3", "python", "git", "tee", "nvidia-smi", "py-spy")
    found = {name: which(name, path) for name in names}
    venv = args.get("venv") or ""
    return {
        "path": path,
        "found": found,
        "elsewhere": [] if found["torchrun"] else find_elsewhere("torchrun", args),
        "venv": {"dir": venv, "exists": bool(venv) and os.path.isdir(os.path.join(os.path.expanduser(venv), "bin"))},
    }


def which(name: str, path: str) -> str:
    for folder in path.split(":"):
        full = os.path.join(folder or ".", name)
        if os.path.isfile(full) and os.access(full, os.X_OK):
            return full
    return ""


def find_python(program: str) -> str:
    """Return the Python that runs a program: from its first line, else the one beside it; "" if there is neither."""
    first = read_or_empty(program, 4096).split("\n", 1)[0]
    named = first[2:].strip().split(" ")[0] if first.startswith("#!") else ""
    beside = os.path.join(os.path.dirname(program), "python3") if program else ""
    for python in (named if os.path.basename(named).startswith("python") else "", beside):
        if python and os.access(python, os.X_OK):
            return python
    return ""


def find_elsewhere(name: str, args: dict[str, Any]) -> list[str]:
    """Return environments on this host that contain ``name``, the likeliest first."""
    workdir = os.path.expanduser(args.get("workdir") or ".")
    folders = [os.path.expanduser(folder.replace("{workdir}", workdir)) for folder in _VENVS]
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if os.environ.get(variable):
            folders.insert(0, os.path.join(os.environ[variable], "bin"))
    for pattern in _VENV_GLOBS:
        folders += sorted(glob.glob(os.path.expanduser(pattern)))[:16]
    found = [os.path.join(folder, name) for folder in folders if os.access(os.path.join(folder, name), os.X_OK)]
    return list(dict.fromkeys(found))[:6]


def find_shared_memory(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return this user's old training segments in /dev/shm that none of the user's processes maps."""
    now, found = time.time(), {}
    for name in os.listdir(_SHM) if os.path.isdir(_SHM) else ():
        seen = os.lstat(os.path.join(_SHM, name))
        if name.startswith(_SEGMENTS) and seen.st_uid == os.getuid() and now - seen.st_mtime > 600:
            found[name] = seen.st_blocks * 512
    for pid in list_pids() if found else ():
        try:
            mapped = read_start("/proc/%d/maps" % pid, 1 << 22)
        except OSError:  # another user's process, or it has ended
            continue
        for name in [name for name in found if os.path.join(_SHM, name) in mapped]:
            del found[name]
    return [{"path": os.path.join(_SHM, name), "bytes": size} for name, size in sorted(found.items())][:64]


def find_stale_locks(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return extension build locks older than ten minutes: whether the build is done, and the holder's pid."""
    cache = os.environ.get("TORCH_EXTENSIONS_DIR") or os.path.expanduser("~/.cache/torch_extensions")
    now, held = time.time(), read_or_empty("/proc/locks", 1 << 20)
    found = []
    for path in sorted(glob.glob(cache + "/*/lock") + glob.glob(cache + "/*/*/lock"))[:64]:
        seen = os.stat(path)
        if now - seen.st_mtime > 600:
            file = "%02x:%02x:%d " % (os.major(seen.st_dev), os.minor(seen.st_dev), seen.st_ino)
            holder = next((line.split()[4] for line in held.splitlines() if file in line and "FLOCK" in line), "")
            built = bool(glob.glob(glob.escape(os.path.dirname(path)) + "/*.so"))
            found.append({"path": path, "built": built, "holder": int(holder) if holder.isdigit() else 0})
    return found[:8]
