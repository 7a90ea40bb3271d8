"""Checks of where a run reads and writes beyond its own files: the code around them, data, output, space."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import join, quote
from typing import Any

from fanout.checks.compare import size
from fanout.checks.model import Case, Check, CheckRequest, Verdict, info, ok, skip, warn
from fanout.hosts import fold

_NETWORK = (
    "nfs",
    "nfs4",
    "lustre",
    "beegfs",
    "ceph",
    "fuse.ceph",
    "gpfs",
    "glusterfs",
    "fuse.glusterfs",
    "cifs",
    "9p",
    "wekafs",
    "fuse.sshfs",
)
_SLOW_SHARE = 2.0  # seconds
_LEAST_FREE = 2 << 30
_LEAST_SHM = 512 << 20


def _shared(case: Case) -> Iterator[Verdict]:
    """One directory or a copy each: both are fine. Some together and some not is what nobody expects."""
    seen = _one_a_machine(case)
    sees = {name: frozenset(row["hosts"]) for name, row in seen.items()}
    circles = {name: tuple(other for other in seen if other in sees[name] and name in sees[other]) for name in seen}
    largest = max(circles.values(), key=len, default=())
    if len(largest) == 1:
        yield ok(circles, "a copy on each host")
    elif len(largest) == len(circles):
        yield ok(circles, "one directory on all hosts")
    for circle in dict.fromkeys(circles.values()):
        if circle != largest and len(largest) > 1:
            who = "a directory of its own" if len(circle) == 1 else "another directory"
            yield warn(
                circle, f"the work directory is {who}; {fold(largest)} share one{_mount(case, largest[0])}",
                "logs and checkpoints of the one will not be where those of the others are: mount the same everywhere, "
                "or nowhere",
            )  # fmt: skip
    for name, row in seen.items():
        if row["seconds"] >= _SLOW_SHARE and circles[name] == largest:
            yield warn(
                name, f"a new file of another host is seen after {row['seconds']:.0f} s",
                "an edit of the config reaches this host as late: mount with a smaller acdirmax, or wait before a run",
            )  # fmt: skip


def _one_a_machine(case: Case) -> dict[str, Any]:
    """What the hosts see of each other; one machine under two names is another check's affair."""
    machines: dict[str, str] = {}
    for name, facts in case.facts.items():
        machines.setdefault(facts.get("identity", {}).get("host_id", name), name)
    return {name: row for name, row in case.of("share").items() if name in machines.values()}


def _mount(case: Case, name: str) -> str:
    mount = case.facts[name].get("files", {}).get("workdir", {}).get("mount", {})
    return f" ({mount.get('type')} {mount.get('source')})" if mount.get("type") in _NETWORK else ""


def _space(case: Case) -> Iterator[Verdict]:
    for name, space in case.of("space").items():
        seen = set()
        for place, row in space.items():
            if place == "shm" or (row["free"], row["total"]) in seen:
                continue
            seen.add((row["free"], row["total"]))
            if row["free"] < min(_LEAST_FREE, row["total"] / 2):
                yield warn(
                    name,
                    f"{size(row['free'])} of {size(row['total'])} free in {row['path']}",
                    f"make room:  {case.on(name, _largest(row['path']))}",
                )
            elif row["inodes_total"] and row["inodes"] < 0.01 * row["inodes_total"]:
                yield warn(
                    name,
                    f"{row['inodes']} files can still be made in {row['path']}",
                    f"remove small files there:  {case.on(name, 'df -i ' + quote(row['path']))}",
                )


def _largest(path: str) -> str:
    """Return the command that lists what takes the most room below a directory."""
    return f"du -xh -d 1 {quote(path)} | sort -h | tail"


def _shm(case: Case) -> Iterator[Verdict]:
    for name, space in case.of("space").items():
        row = space.get("shm")
        if row is None or row["type"] != "tmpfs":
            yield skip(name, "no /dev/shm")
        elif row["free"] < _LEAST_SHM:
            yield warn(
                name, f"{size(row['free'])} free in /dev/shm (of {size(row['total'])})",
                f"data loaders and NCCL share memory there (“Bus error”):  {case.on(name, 'sudo mount -o remount,size=16G /dev/shm')}",
            )  # fmt: skip


def _segments(case: Case) -> Iterator[Verdict]:
    for name, rows in case.of("segments").items():
        if rows:
            names = join(row["path"] for row in rows[:6])
            yield info(
                name, f"{len(rows)} segment{'s' * (len(rows) != 1)} of shared memory that nobody uses, {size(sum(row['bytes'] for row in rows))}",
                f"left by a run that was killed; if no container shares it:  {case.on(name, f'rm {names}')}",
            )  # fmt: skip


def _temporary(case: Case) -> Iterator[Verdict]:
    for name, space in case.of("space").items():
        row = space.get("tmp")
        if row and row["type"] in _NETWORK:
            yield warn(
                name,
                f"{row['path']}, where temporary files go, is on {row['type']}",
                "set a local one for all:  --env TMPDIR=/var/tmp",
            )
        elif row and not row.get("writable", True):
            yield warn(
                name,
                f"cannot write in {row['path']}, where temporary files go",
                "set another directory for all:  --env TMPDIR=/var/tmp",
            )


def _locks(case: Case) -> Iterator[Verdict]:
    """A lock that is a file stops an import for as long as it is there; one that is held by flock only while it is held."""
    for name, rows in case.of("locks").items():
        baton = (case.facts[name].get("software", {}).get("torch") or {}).get("baton")
        old = [row for row in rows if not row["holder"] and (baton or (baton is None and not row["built"]))]
        paths = [row["path"] for row in old]
        for row in rows:
            if row["holder"]:
                yield warn(
                    name, f"pid {row['holder']} has held the build lock {row['path']} for more than ten minutes",
                    f"an import will wait for it; see what it does:  {case.on(name, 'ps -fp ' + str(row['holder']))}",
                )  # fmt: skip
        if paths:
            yield warn(
                name,
                f"an old build lock: {paths[0]}",
                f"an import will wait for it without end:  {case.on(name, 'rm ' + join(paths))}",
            )


def _mounts(case: Case) -> Iterator[Verdict]:
    for name, files in case.of("files").items():
        mount = files.get("workdir", {}).get("mount", {})
        if "noexec" in mount.get("options", "").split(","):
            yield warn(
                name, f"{mount['point']} is mounted noexec",
                "extensions that are built or installed there cannot be loaded (“failed to map segment”):  "
                f"{case.on(name, 'sudo mount -o remount,exec ' + quote(mount['point']))}",
            )  # fmt: skip
        if mount.get("type", "").startswith("nfs") and "soft" in mount.get("of", "").split(","):
            yield warn(
                name, f"{mount['point']} ({mount['source']}) is mounted soft",
                "a file server that is slow for a moment becomes an I/O error in the middle of a checkpoint: mount it hard",
            )  # fmt: skip


def _future(case: Case) -> Iterator[Verdict]:
    for name, files in case.of("files").items():
        late = [row for key, row in files.items() if row["kind"] == "file" and row["ahead"] > 2 and ":" not in key]
        if late:
            yield warn(
                name,
                f"{late[0]['path']} was written {late[0]['ahead']:.0f} s in the future",
                "the clocks of this host and of the file server differ: stale .pyc files are used",
            )


def _alone(request: CheckRequest) -> str:
    return "one host" if len(request.hosts) == 1 else ""


CHECKS = (
    Check(
        name="shared", group="files", worst="warn", needs=("share",), unless=_alone,
        verifies="The work directory is one directory on all hosts, or a copy on each (every host looks for the others' "
        "tokens, which are taken away again); what one host writes is seen by the others within 2 seconds.",
        why="With a mixture, logs and checkpoints of one host are not where the others' are.",
        fix="Mount the share there, or accept copies everywhere.",
        judge=_shared,
    ),
    Check(
        name="space", group="files", worst="warn", needs=("space",),
        verifies="The disks of the work directory, /tmp and the home directory have 2 GB free, or half of a smaller one.",
        why="“No space left on device” ends the run in the middle of a checkpoint.",
        fix="Make room.",
        judge=_space,
    ),
    Check(
        name="shm", group="files", worst="warn", needs=("space",),
        verifies="The shared memory in /dev/shm has half a gigabyte free.",
        why="Data loaders and NCCL pass tensors through it: “Bus error”, “failed to extend”.",
        fix="Remount it larger; in a container start it with --shm-size or --ipc=host.",
        judge=_shm,
    ),
    Check(
        name="shm-left", group="files", worst="info", needs=("segments",),
        verifies="No old segment of NCCL, torch or Python lies in /dev/shm that no process of this user has mapped.",
        why="What killed runs leave there is memory that the next one lacks.",
        fix="rm it, if no container shares /dev/shm.",
        judge=_segments,
    ),
    Check(
        name="tmpdir", group="files", worst="warn", needs=("space",),
        verifies="Temporary files go to a local disk.",
        why="Compilers and caches of many hosts race in one directory on a network file system.",
        fix="--env TMPDIR=/var/tmp.",
        judge=_temporary,
    ),
    Check(
        name="build-locks", group="files", worst="warn", needs=("locks",),
        verifies="No build lock of torch's extensions is older than ten minutes.",
        why="An import waits for it for ever, without a word.",
        fix="rm the lock.",
        judge=_locks,
    ),
    Check(
        name="mount", group="files", worst="warn", needs=("files",),
        verifies="The work directory is mounted without noexec, and from a file server without soft.",
        why="Extensions that are built there do not load; a soft mount turns a moment's delay into a broken checkpoint.",
        fix="Mount it exec and hard (/etc/fstab).",
        judge=_mounts,
    ),
    Check(
        name="file-times", group="files", worst="warn", needs=("files",),
        verifies="The task, config and script were not written in the future.",
        why="Python takes an old .pyc for the newer one: the edit that you just made does not run.",
        fix="Set the clock of the host or of the file server.",
        judge=_future,
    ),
)  # fmt: skip
