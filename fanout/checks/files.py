"""Checks of the files of a run: work directory, script, task and config exist on every host and are equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Any

from fanout.checks.compare import outliers
from fanout.checks.model import Case, Check, CheckRequest, Verdict, fail, ok, warn
from fanout.hosts import fold


def _rows(case: Case, what: str) -> dict[str, Mapping[str, Any]]:
    return {name: files[what] for name, files in case.of("files").items() if what in files}


def _file_server(case: Case) -> Iterator[Verdict]:
    """Yield a failure for each host whose file lookup timed out: train.sh would hang there without a message."""
    for name in case.hosts:
        why = case.missing.get(name, {}).get("files", "")
        if case.facts[name] and why.startswith("no answer"):
            yield fail(
                name, f"the lookup of the run's files timed out: {why}",
                f"a file server is unreachable: see  {case.on(name, 'mount -t nfs,nfs4; dmesg | tail')}",
            )  # fmt: skip


def _workdir(case: Case) -> Iterator[Verdict]:
    rows = _rows(case, "workdir")
    there = tuple(name for name, row in rows.items() if row["kind"] == "directory" and row.get("entries") != 0)
    full = tuple(name for name in there if rows[name].get("entries"))
    for name, row in rows.items():
        path = row["path"]
        if row["kind"] == "missing":
            yield fail(name, f"no directory {path}{_until(row)}", _bring(case, path, name, there))
        elif row["kind"] != "directory":
            yield fail(
                name,
                f"{path} is not a directory",
                "name the right one with  --chdir DIR  or  workdir=DIR  in the hostfile",
            )
        elif not row["searchable"]:
            yield fail(
                name,
                f"no permission to enter {path}",
                f"give this user access:  {case.on(name, f'chmod o+x {quote(path)}')}",
            )
        elif full and row.get("entries") == 0:
            yield _empty(case, name, row, full)
        else:
            yield ok(name, path)


def _empty(case: Case, name: str, row: Mapping[str, Any], full: tuple[str, ...]) -> Verdict:
    """Return the failure for an empty work directory: usually a wrong or a missing mount."""
    path, mount = row["path"], row.get("mount", {})
    on_top = mount.get("point") == row.get("real")
    read_only = "ro" in mount.get("options", "").split(",")
    how = (
        f" ({mount['type']} of {mount['source']} is mounted there{', read-only' if read_only else ''})"
        if on_top
        else ""
    )
    if on_top:
        cure = f"see what is mounted there:  {case.on(name, 'findmnt -T ' + quote(path))}   {fold(full)} has it from  {case.on(full[0], 'findmnt -T ' + quote(path))}"
    else:
        cure = _bring(case, path, name, full)
    return fail(
        name, f"{path} is empty{how}; {fold(full)} {'has' if len(full) == 1 else 'have'} the project in it", cure
    )


def _until(row: Mapping[str, Any]) -> str:
    """Return the part of the path that exists, as `` (/home/ann exists)``, or another reason; "" if unknown."""
    if row.get("link"):
        return f" (a link to {row['link']}, which does not exist)"
    if row.get("error") not in (None, "No such file or directory"):
        return f" ({row['error']})"
    above = row.get("above", {}).get("path", "")
    return f" ({above} exists)" if above not in ("", "/") else ""


def _bring(case: Case, path: str, name: str, there: tuple[str, ...]) -> str:
    copy = case.commands.copy_tree(path, there[0] if there else "", name)
    return f"copy it there:  {copy}   or name another directory with  --chdir DIR"


def _script(case: Case) -> Iterator[Verdict]:
    """Yield verdicts on train.sh. It may be missing on all hosts (then torchrun runs the task), but not on some."""
    rows = _rows(case, "script")
    there = tuple(name for name, row in rows.items() if row["kind"] != "missing")
    if not there:
        yield ok(rows, "no train.sh: torchrun runs the task")
        return
    yield from _present(case, "script", rows)
    for name, row in rows.items():
        if row.get("crlf"):
            yield fail(
                name, f"{row['path']} has Windows line ends", case.on(name, f"sed -i 's/\\r$//' {quote(row['path'])}")
            )


def _task(case: Case) -> Iterator[Verdict]:
    yield from _present(case, "task", _rows(case, "task"))


def _config(case: Case) -> Iterator[Verdict]:
    yield from _present(case, "config", _rows(case, "config"))


def _present(case: Case, what: str, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[Verdict]:
    """Yield failures if the file is missing, unreadable or differs. On a tie, the copy of the lower rank is right."""
    good = {}
    there = tuple(name for name, row in rows.items() if row["kind"] == "file")
    for name, row in rows.items():
        path = row["path"]
        if row["kind"] == "missing":
            yield fail(name, f"no file {path}{_until(row)}", _send(case, path, name, there))
        elif row["kind"] != "file":
            yield fail(name, f"{path} is not a file but a {row['kind']}", "name the path of the file itself")
        elif not row["readable"]:
            yield fail(name, f"no permission to read {path}", case.on(name, f"chmod a+r {quote(path)}"))
        else:
            good[name] = (row.get("sha256"), row["size"])
    for odd in outliers(good):
        first = odd.hosts[0]
        yield fail(
            odd.hosts, f"{rows[first]['path']} differs: {odd.against(_content)}",
            f"copy the right one to it:  {case.commands.copy_file(rows[first]['path'], odd.others[0], first)}",
        )  # fmt: skip


def _content(file: tuple[str | None, int]) -> str:
    return f"{file[1]} bytes, sha256 {(file[0] or '?')[:8]}…"


def _send(case: Case, path: str, name: str, there: tuple[str, ...]) -> str:
    if not there:
        return f"it is on no host: check the path, which is relative to the work directory ({_folder(path)})"
    return f"copy it there:  {case.commands.copy_file(path, there[0], name)}"


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or "."


def _writable(case: Case) -> Iterator[Verdict]:
    for name, row in _rows(case, "workdir").items():
        if row["kind"] == "directory" and not row["writable"]:
            options = row.get("mount", {}).get("options", "")
            point = row.get("mount", {}).get("point", row["path"])
            read_only = "ro" in options.split(",")
            yield warn(
                name,
                f"cannot write in {row['path']} ({f'{point} is mounted read-only' if read_only else 'no permission'})",
                "log files and checkpoints that train.sh makes there will fail: "
                + (remount(case, name, point) if read_only else "give this user write permission"),
            )


def remount(case: Case, name: str, point: str) -> str:
    """Return the advice that makes a file system writable."""
    return f"mount it read-write:  {case.on(name, 'sudo mount -o remount,rw ' + quote(point))}"


def _no_task(request: CheckRequest) -> str:
    return "" if request.task else "no task given"


def _no_config(request: CheckRequest) -> str:
    return "" if request.config else "no config given"


CHECKS = (
    Check(
        name="file-server", group="files", worst="fail",
        verifies="A lookup of the work directory, the task and the config takes less than 5 seconds.",
        why="If the server of a network file system is unreachable, every access hangs: ssh, cd, train.sh.",
        fix="Restore the file server, or unmount the file system: sudo umount -f -l DIR.",
        judge=_file_server,
    ),
    Check(
        name="workdir", group="files", worst="fail", needs=("files",),
        verifies="The work directory exists on every host, and the user may enter it.",
        why="train.sh runs in it. With the same path on all hosts, a command has the same effect on all of them.",
        fix="Share it over the network, copy it, or name another directory with --chdir DIR, or workdir=DIR per host.",
        judge=_workdir,
    ),
    Check(
        name="script", group="files", worst="fail", needs=("files",),
        verifies="train.sh is on every host with the same content and Unix line ends, or on none.",
        why="Hosts that run different scripts wait for each other without end. If no host has train.sh, torchrun runs the "
        "task.",
        fix="Copy it from one host to the others.",
        judge=_script,
    ),
    Check(
        name="task", group="files", worst="fail", needs=("files",), unless=_no_task,
        verifies="The task's file is on every host at the same path with the same content (sha256).",
        why="Ranks with different code hang in a collective, minutes or hours later.",
        fix="Copy it from one host to the others, or use a shared directory.",
        judge=_task,
    ),
    Check(
        name="config", group="files", worst="fail", needs=("files",), unless=_no_config,
        verifies="The config is on every host at the same path with the same content (sha256).",
        why="If ranks read different batch sizes or models, they fail with errors that do not name the cause.",
        fix="Copy it from one host to the others, or use a shared directory.",
        judge=_config,
    ),
    Check(
        name="writable", group="files", worst="warn", needs=("files",),
        verifies="The user can write to the work directory.",
        why="Most scripts write log.txt and checkpoints there. The first write fails, perhaps hours into the run.",
        fix="Give the user write permission, or remount the file system read-write.",
        judge=_writable,
    ),
)  # fmt: skip
