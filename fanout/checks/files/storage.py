"""Checks of storage: shared work directory, free space, shared memory, temporary files, build locks, mounts."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import join, quote
from typing import Any

from fanout.checks.engine.definition import Check, CheckContext, CheckResult, info, ok, one_host, skip, warn
from fanout.model.hosts import fold_names
from fanout.text.units import format_binary_size

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


def _judge_shared(case: CheckContext) -> Iterator[CheckResult]:
    """Yield warnings if some hosts share the work directory and others do not. All shared or all copies is ok."""
    seen = _select_one_host_per_machine(case)
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
                circle,
                f"the work directory is {who}; {fold_names(largest)} share one{_format_mount(case, largest[0])}",
                "its logs and checkpoints will not be beside those of the others: mount the same directory on all hosts, "
                "or on none",
            )
    for name, row in seen.items():
        if row["seconds"] >= _SLOW_SHARE and circles[name] == largest:
            yield warn(
                name,
                f"a new file of another host is visible only after {row['seconds']:.0f} s",
                "an edit of the config also arrives this late: mount with a smaller acdirmax, or wait before a run",
            )


def _select_one_host_per_machine(case: CheckContext) -> dict[str, Any]:
    """Return the tokens that each host sees, one host per machine; the check same-machine reports the others."""
    machines: dict[str, str] = {}
    for name, facts in case.facts.items():
        machines.setdefault(facts.get("identity", {}).get("host_id", name), name)
    return {name: row for name, row in case.get_section("share").items() if name in machines.values()}


def _format_mount(case: CheckContext, name: str) -> str:
    mount = case.facts[name].get("files", {}).get("workdir", {}).get("mount", {})
    return f" ({mount.get('type')} {mount.get('source')})" if mount.get("type") in _NETWORK else ""


def _judge_space(case: CheckContext) -> Iterator[CheckResult]:
    for name, space in case.get_section("space").items():
        seen = set()
        for place, row in space.items():
            if place == "shm" or (row["free"], row["total"]) in seen:
                continue
            seen.add((row["free"], row["total"]))
            if row["free"] < min(_LEAST_FREE, row["total"] / 2):
                yield warn(
                    name,
                    f"{format_binary_size(row['free'])} of {format_binary_size(row['total'])} free in {row['path']}",
                    f"delete files that are not needed:  {case.format_remote_command(name, _format_du_command(row['path']))}",
                )
            elif row["inodes_total"] and row["inodes"] < 0.01 * row["inodes_total"]:
                yield warn(
                    name,
                    f"{row['inodes']} files can still be created in {row['path']}",
                    f"delete small files there:  {case.format_remote_command(name, 'df -i ' + quote(row['path']))}",
                )


def _format_du_command(path: str) -> str:
    """Return the command that lists the largest directories below a path."""
    return f"du -xh -d 1 {quote(path)} | sort -h | tail"


def _judge_shm(case: CheckContext) -> Iterator[CheckResult]:
    for name, space in case.get_section("space").items():
        row = space.get("shm")
        if row is None or row["type"] != "tmpfs":
            yield skip(name, "no /dev/shm")
        elif row["free"] < _LEAST_SHM:
            yield warn(
                name,
                f"{format_binary_size(row['free'])} free in /dev/shm (of {format_binary_size(row['total'])})",
                "data loaders and NCCL share memory there (“Bus error”):  "
                + case.choose_cure(
                    name,
                    "--shm-size 16g  or  --ipc host",
                    case.format_remote_command(name, "sudo mount -o remount,size=16G /dev/shm"),
                ),
            )


def _judge_segments(case: CheckContext) -> Iterator[CheckResult]:
    for name, rows in case.get_section("segments").items():
        if rows:
            names = join(row["path"] for row in rows[:6])
            yield info(
                name,
                f"{len(rows)} segment{'s' * (len(rows) != 1)} of shared memory that no process uses, {format_binary_size(sum(row['bytes'] for row in rows))}",
                f"left by a killed run; if no container shares it:  {case.format_remote_command(name, f'rm {names}')}",
            )


def _judge_temporary_directory(case: CheckContext) -> Iterator[CheckResult]:
    for name, space in case.get_section("space").items():
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


def _judge_locks(case: CheckContext) -> Iterator[CheckResult]:
    """Yield warnings for old build locks. A lock file blocks an import while it exists; a flock only while it is held."""
    for name, rows in case.get_section("locks").items():
        baton = (case.facts[name].get("software", {}).get("torch") or {}).get("baton")
        old = [row for row in rows if not row["holder"] and (baton or (baton is None and not row["built"]))]
        paths = [row["path"] for row in old]
        for row in rows:
            if row["holder"]:
                yield warn(
                    name,
                    f"pid {row['holder']} has held the build lock {row['path']} for more than ten minutes",
                    f"an import will wait for it; see the process:  {case.format_remote_command(name, 'ps -fp ' + str(row['holder']))}",
                )
        if paths:
            yield warn(
                name,
                f"an old build lock: {paths[0]}",
                f"an import will wait for it without end; delete it:  {case.format_remote_command(name, 'rm ' + join(paths))}",
            )


def _judge_mounts(case: CheckContext) -> Iterator[CheckResult]:
    for name, files in case.get_section("files").items():
        mount = files.get("workdir", {}).get("mount", {})
        if "noexec" in mount.get("options", "").split(","):
            yield warn(
                name,
                f"{mount['point']} is mounted noexec",
                "extensions that are built or installed there cannot be loaded (“failed to map segment”); remount it:  "
                f"{case.format_remote_command(name, 'sudo mount -o remount,exec ' + quote(mount['point']))}",
            )
        if mount.get("type", "").startswith("nfs") and "soft" in mount.get("of", "").split(","):
            yield warn(
                name,
                f"{mount['point']} ({mount['source']}) is mounted soft",
                "a short delay of the file server becomes an I/O error, for instance in a checkpoint: mount it hard",
            )


def _judge_file_times(case: CheckContext) -> Iterator[CheckResult]:
    for name, files in case.get_section("files").items():
        late = [row for key, row in files.items() if row["kind"] == "file" and row["ahead"] > 2 and ":" not in key]
        if late:
            yield warn(
                name,
                f"{late[0]['path']} was written {late[0]['ahead']:.0f} s in the future",
                "the clocks of this host and of the file server differ, so Python may use stale .pyc files",
            )


CHECKS = (
    Check(
        name="shared", group="files", worst="warn", needs=("share",), unless=one_host,
        verifies="The work directory is one shared directory on all hosts, or a copy on each. To test it, every host writes a "
        "token file, looks for those of the others and deletes it. A new file is visible on the others within 2 seconds.",
        why="If only some hosts share it, logs and checkpoints of the others are in another place.",
        fix="Mount the shared directory on all hosts, or use copies on all.",
        judge=_judge_shared,
    ),
    Check(
        name="space", group="files", worst="warn", needs=("space",),
        verifies="The disks of the work directory, /tmp and the home directory have 2 GB free, or half of a smaller disk.",
        why="“No space left on device” ends the run in the middle of a checkpoint.",
        fix="Delete files that are not needed.",
        judge=_judge_space,
    ),
    Check(
        name="shm", group="files", worst="warn", needs=("space",),
        verifies="The shared memory in /dev/shm has 512 MB free.",
        why="Data loaders and NCCL pass tensors through it. If it is full: “Bus error”, “failed to extend”.",
        fix="Remount it with a larger size. Start a container with --shm-size or --ipc=host.",
        judge=_judge_shm,
    ),
    Check(
        name="shm-left", group="files", worst="info", needs=("segments",),
        verifies="No old segment of NCCL, torch or Python without a process of this user is in /dev/shm.",
        why="Segments of killed runs take memory that the next run needs.",
        fix="If no container shares /dev/shm, delete them with rm.",
        judge=_judge_segments,
    ),
    Check(
        name="tmpdir", group="files", worst="warn", needs=("space",),
        verifies="Temporary files go to a local disk.",
        why="On a network file system, compilers and caches of many hosts conflict in one directory.",
        fix="Set a local directory with --env TMPDIR=/var/tmp.",
        judge=_judge_temporary_directory,
    ),
    Check(
        name="build-locks", group="files", worst="warn", needs=("locks",),
        verifies="No build lock of torch's extensions is older than ten minutes.",
        why="An import waits for the lock without end and without a message.",
        fix="Delete the lock with rm.",
        judge=_judge_locks,
    ),
    Check(
        name="mount", group="files", worst="warn", needs=("files",),
        verifies="The work directory is mounted without noexec and, if it is on a file server, without soft.",
        why="With noexec, extensions that are built there do not load. With soft, a short delay breaks a checkpoint.",
        fix="Mount it with exec and hard (/etc/fstab).",
        judge=_judge_mounts,
    ),
    Check(
        name="file-times", group="files", worst="warn", needs=("files",),
        verifies="The times of the task, config and script are not in the future.",
        why="Python may use an old .pyc file instead of the source that you just edited.",
        fix="Set the clock of the host or of the file server.",
        judge=_judge_file_times,
    ),
)  # fmt: skip
