"""Checks of what the run reads: directory, script, task and config, there on every host and the same on all."""

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
    """A path that does not answer is worse than one that is missing: train.sh would hang on it without a word."""
    for name in case.hosts:
        why = case.missing.get(name, {}).get("files", "")
        if case.facts[name] and why.startswith("no answer"):
            yield fail(
                name, f"the files of the run do not answer: {why}",
                f"a file server is gone: see  {case.on(name, 'mount -t nfs,nfs4; dmesg | tail')}",
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
                f"let this user in:  {case.on(name, f'chmod o+x {quote(path)}')}",
            )
        elif full and row.get("entries") == 0:
            yield _empty(case, name, row, full)
        else:
            yield ok(name, path)


def _empty(case: Case, name: str, row: Mapping[str, Any], full: tuple[str, ...]) -> Verdict:
    """An empty directory where others have the project: mostly another file system is mounted over it, or none is."""
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
    """`` (/home/ann exists)``: how far the path goes."""
    if row.get("link"):
        return f" (a link to {row['link']}, which is not there)"
    if row.get("error") not in (None, "No such file or directory"):
        return f" ({row['error']})"
    above = row.get("above", {}).get("path", "")
    return f" ({above} exists)" if above not in ("", "/") else ""


def _bring(case: Case, path: str, name: str, there: tuple[str, ...]) -> str:
    copy = case.commands.copy_tree(path, there[0] if there else "", name)
    return f"copy it there:  {copy}   or name another with  --chdir DIR"


def _script(case: Case) -> Iterator[Verdict]:
    """train.sh may be nowhere (then torchrun runs the task), but not on some hosts only."""
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
    """There, a file, readable, and the same everywhere; the copy on host 0 is the measure on a tie."""
    good = {}
    there = tuple(name for name, row in rows.items() if row["kind"] == "file")
    for name, row in rows.items():
        path = row["path"]
        if row["kind"] == "missing":
            yield fail(name, f"no file {path}{_until(row)}", _send(case, path, name, there))
        elif row["kind"] != "file":
            yield fail(name, f"{path} is not a file but a {row['kind']}", "give the path of the file itself")
        elif not row["readable"]:
            yield fail(name, f"no permission to read {path}", case.on(name, f"chmod a+r {quote(path)}"))
        else:
            good[name] = (row.get("sha256"), row["size"])
    for odd in outliers(good):
        first = odd.hosts[0]
        yield fail(
            odd.hosts, f"{rows[first]['path']} differs: {odd.against(_content)}",
            f"bring the right one to all:  {case.commands.copy_file(rows[first]['path'], odd.others[0], first)}",
        )  # fmt: skip


def _content(file: tuple[str | None, int]) -> str:
    return f"{file[1]} bytes, sha256 {(file[0] or '?')[:8]}…"


def _send(case: Case, path: str, name: str, there: tuple[str, ...]) -> str:
    if not there:
        return f"it is on no host: is the path right? It is looked for in the work directory ({_folder(path)})"
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
                + (remount(case, name, point) if read_only else "let this user write there"),
            )


def remount(case: Case, name: str, point: str) -> str:
    """Return what makes a file system writable."""
    return f"mount it read-write:  {case.on(name, 'sudo mount -o remount,rw ' + quote(point))}"


def _no_task(request: CheckRequest) -> str:
    return "" if request.task else "no task given"


def _no_config(request: CheckRequest) -> str:
    return "" if request.config else "no config given"


CHECKS = (
    Check(
        name="file-server", group="files", worst="fail",
        verifies="Looking at the work directory, the task and the config takes less than 5 seconds.",
        why="On a network file system whose server is gone, every access hangs for ever: ssh, cd, train.sh.",
        fix="Bring the server back, or unmount it: sudo umount -f -l DIR.",
        judge=_file_server,
    ),
    Check(
        name="workdir", group="files", worst="fail", needs=("files",),
        verifies="The work directory exists at its path on every host and may be entered.",
        why="train.sh runs in it; the same path everywhere is what makes one command mean the same on all hosts.",
        fix="Share it over the network, copy it, or name another: --chdir DIR, or workdir=DIR per host.",
        judge=_workdir,
    ),
    Check(
        name="script", group="files", worst="fail", needs=("files",),
        verifies="train.sh is on every host with the same content and Unix line ends, or on none.",
        why="Hosts that run different scripts wait for each other for ever. Without any, torchrun runs the task.",
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
        why="Ranks that read another batch size or model stop each other with errors that name neither.",
        fix="Copy it from one host to the others, or use a shared directory.",
        judge=_config,
    ),
    Check(
        name="writable", group="files", worst="warn", needs=("files",),
        verifies="The work directory can be written to.",
        why="Most scripts write log.txt and checkpoints there; the first attempt fails, perhaps hours into the run.",
        fix="Give the user the right to write, or remount it read-write.",
        judge=_writable,
    ),
)  # fmt: skip
