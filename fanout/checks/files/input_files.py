"""Checks of the files of a run: work directory, script, task and config exist on every host and are equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Any

from fanout.checks.engine.comparison import find_outlier_groups
from fanout.checks.engine.definition import Check, CheckContext, CheckRequest, CheckResult, fail, ok, warn
from fanout.model.hosts import fold_names


def _get_file_rows(case: CheckContext, what: str) -> dict[str, Mapping[str, Any]]:
    return {name: files[what] for name, files in case.get_section("files").items() if what in files}


def _judge_file_server(case: CheckContext) -> Iterator[CheckResult]:
    """Yield a failure for each host whose file lookup timed out: train.sh would hang there without a message."""
    for name in case.hosts:
        why = case.missing.get(name, {}).get("files", "")
        if case.facts[name] and case.is_late(name, "files"):
            yield fail(
                name,
                f"the lookup of the run's files timed out: {why}",
                f"a file server is unreachable: see  {case.format_remote_command(name, 'mount -t nfs,nfs4; dmesg | tail')}",
            )


def _judge_workdir(case: CheckContext) -> Iterator[CheckResult]:
    rows = _get_file_rows(case, "workdir")
    there = tuple(name for name, row in rows.items() if row["kind"] == "directory" and row.get("entries") != 0)
    full = tuple(name for name in there if rows[name].get("entries"))
    for name, row in rows.items():
        path = row["path"]
        if row["kind"] == "missing":
            yield fail(
                name,
                f"no directory {path}{_describe_missing_path(row)}",
                _advise_copy_directory(case, path, name, there),
            )
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
                f"give this user access:  {case.format_remote_command(name, f'chmod o+x {quote(path)}')}",
            )
        elif full and row.get("entries") == 0:
            yield _judge_empty_workdir(case, name, row, full)
        elif has := find_project_hosts(case, name):
            yield _judge_other_workdir(case, name, row, has)
        else:
            yield ok(name, path)


def find_project_hosts(case: CheckContext, name: str) -> tuple[str, ...]:
    """Return the hosts that have all files of the run; () unless the work directory of ``name`` has none of them."""
    lacking = _list_project_files(case, name, "missing")
    if len(lacking) < 2 or _list_project_files(case, name, "file"):
        return ()
    return tuple(other for other in case.get_section("files") if lacking <= _list_project_files(case, other, "file"))


def _list_project_files(case: CheckContext, name: str, kind: str) -> set[str]:
    """Return which of script, task and config are of this kind below the work directory of the host."""
    files = case.facts[name].get("files", {})
    top = f"{str(files.get('workdir', {}).get('path', '')).rstrip('/')}/"
    rows = {what: files[what] for what in ("script", "task", "config") if what in files}
    return {what for what, row in rows.items() if row["kind"] == kind and str(row["path"]).startswith(top)}


def _judge_other_workdir(case: CheckContext, name: str, row: Mapping[str, Any], has: tuple[str, ...]) -> CheckResult:
    """Return the failure for a work directory with other files than the project: usually another mount."""
    how, cure = _explain_mount(case, name, row, has)
    return fail(
        name, f"{row['path']} has other files{how}; {fold_names(has)} {_count_verb(has)} the project in it", cure
    )


def _judge_empty_workdir(case: CheckContext, name: str, row: Mapping[str, Any], full: tuple[str, ...]) -> CheckResult:
    """Return the failure for an empty work directory: usually a wrong or a missing mount."""
    how, cure = _explain_mount(case, name, row, full)
    return fail(name, f"{row['path']} is empty{how}; {fold_names(full)} {_count_verb(full)} the project in it", cure)


def _count_verb(hosts: tuple[str, ...]) -> str:
    return "has" if len(hosts) == 1 else "have"


def _explain_mount(case: CheckContext, name: str, row: Mapping[str, Any], full: tuple[str, ...]) -> tuple[str, str]:
    """Return what is mounted at the work directory, "" if nothing is, and what to type. ``full`` have the project."""
    path, mount = row["path"], row.get("mount", {})
    if mount.get("point") != row.get("real"):
        return "", _advise_copy_directory(case, path, name, full)
    read_only = ", read-only" if "ro" in mount.get("options", "").split(",") else ""
    look = "findmnt -T " + quote(path)
    cure = f"see what is mounted there:  {case.format_remote_command(name, look)}   "
    cure += f"{fold_names(full)} {_count_verb(full)} it from  {case.format_remote_command(full[0], look)}"
    return f" ({mount['type']} of {mount['source']} is mounted there{read_only})", cure


def _describe_missing_path(row: Mapping[str, Any]) -> str:
    """Return the part of the path that exists, as `` (/home/ann exists)``, or another reason; "" if unknown."""
    if row.get("link"):
        return f" (a link to {row['link']}, which does not exist)"
    if row.get("error") not in (None, "No such file or directory"):
        return f" ({row['error']})"
    above = row.get("above", {}).get("path", "")
    return f" ({above} exists)" if above not in ("", "/") else ""


def _advise_copy_directory(case: CheckContext, path: str, name: str, there: tuple[str, ...]) -> str:
    copy = case.commands.copy_tree(path, there[0] if there else "", name)
    return f"copy it there:  {copy}   or name another directory with  --chdir DIR"


def _judge_script(case: CheckContext) -> Iterator[CheckResult]:
    """Yield verdicts on train.sh. It may be missing on all hosts (then torchrun runs the task), but not on some."""
    rows = _get_file_rows(case, "script")
    there = tuple(name for name, row in rows.items() if row["kind"] != "missing")
    if not there:
        yield ok(rows, "no train.sh: torchrun runs the task")
        return
    yield from _judge_file(case, "script", rows)
    for name, row in rows.items():
        if row.get("crlf"):
            yield fail(
                name,
                f"{row['path']} has Windows line ends",
                case.format_remote_command(name, f"sed -i 's/\\r$//' {quote(row['path'])}"),
            )


def _judge_task(case: CheckContext) -> Iterator[CheckResult]:
    yield from _judge_file(case, "task", _get_file_rows(case, "task"))


def _judge_config(case: CheckContext) -> Iterator[CheckResult]:
    yield from _judge_file(case, "config", _get_file_rows(case, "config"))


def _judge_file(case: CheckContext, what: str, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[CheckResult]:
    """Yield failures if the file is missing, unreadable or differs. On a tie, the copy of the lower rank is right."""
    good = {}
    there = tuple(name for name, row in rows.items() if row["kind"] == "file")
    for name, row in rows.items():
        path = row["path"]
        if row["kind"] == "missing":
            yield fail(name, f"no file {path}{_describe_missing_path(row)}", _advise_copy_file(case, path, name, there))
        elif row["kind"] != "file":
            yield fail(name, f"{path} is not a file but a {row['kind']}", "name the path of the file itself")
        elif not row["readable"]:
            yield fail(
                name, f"no permission to read {path}", case.format_remote_command(name, f"chmod a+r {quote(path)}")
            )
        else:
            good[name] = (row.get("sha256"), row["size"])
    for odd in find_outlier_groups(good):
        first = odd.hosts[0]
        yield fail(
            odd.hosts,
            f"{rows[first]['path']} differs: {odd.format_difference(_format_content)}",
            f"copy the right one to it:  {case.commands.copy_file(rows[first]['path'], odd.others[0], first)}",
        )


def _format_content(file: tuple[str | None, int]) -> str:
    return f"{file[1]} bytes, sha256 {(file[0] or '?')[:8]}…"


def _advise_copy_file(case: CheckContext, path: str, name: str, there: tuple[str, ...]) -> str:
    if not there:
        return f"it is on no host: check the path, which is relative to the work directory ({_get_directory(path)})"
    return f"copy it there:  {case.commands.copy_file(path, there[0], name)}"


def _get_directory(path: str) -> str:
    return path.rpartition("/")[0] or "."


def _judge_writable(case: CheckContext) -> Iterator[CheckResult]:
    for name, row in _get_file_rows(case, "workdir").items():
        if row["kind"] == "directory" and not row["writable"]:
            options = row.get("mount", {}).get("options", "")
            point = row.get("mount", {}).get("point", row["path"])
            read_only = "ro" in options.split(",")
            yield warn(
                name,
                f"cannot write in {row['path']} ({f'{point} is mounted read-only' if read_only else 'no permission'})",
                "log files and checkpoints that train.sh makes there will fail: "
                + (advise_remount(case, name, point) if read_only else "give this user write permission"),
            )


def advise_remount(case: CheckContext, name: str, point: str) -> str:
    """Return the advice that makes a file system writable."""
    return f"mount it read-write:  {case.format_remote_command(name, 'sudo mount -o remount,rw ' + quote(point))}"


def _get_missing_task_reason(request: CheckRequest) -> str:
    if request.module and not request.task:
        return f"{request.module} is a module of the environment"
    return "" if request.task else "no task given"


def _get_missing_config_reason(request: CheckRequest) -> str:
    return "" if request.config else "no config given"


CHECKS = (
    Check(
        name="file-server", group="files", worst="fail",
        verifies="A lookup of the work directory, the task and the config takes less than 5 seconds.",
        why="If the server of a network file system is unreachable, every access hangs: ssh, cd, train.sh.",
        fix="Restore the file server, or unmount the file system: sudo umount -f -l DIR.",
        judge=_judge_file_server,
    ),
    Check(
        name="workdir", group="files", worst="fail", needs=("files",),
        verifies="The work directory exists on every host, and the user may enter it.",
        why="train.sh runs in it. With the same path on all hosts, a command has the same effect on all of them.",
        fix="Share it over the network, copy it, or name another directory with --chdir DIR, or workdir=DIR per host.",
        judge=_judge_workdir,
    ),
    Check(
        name="script", group="files", worst="fail", needs=("files",),
        verifies="train.sh is on every host with the same content and Unix line ends, or on none.",
        why="Hosts that run different scripts wait for each other without end. If no host has train.sh, torchrun runs the "
        "task.",
        fix="Copy it from one host to the others.",
        judge=_judge_script,
    ),
    Check(
        name="task", group="files", worst="fail", needs=("files",), unless=_get_missing_task_reason,
        verifies="The task's file is on every host at the same path with the same content (sha256).",
        why="Ranks with different code hang in a collective, minutes or hours later.",
        fix="Copy it from one host to the others, or use a shared directory.",
        judge=_judge_task,
    ),
    Check(
        name="config", group="files", worst="fail", needs=("files",), unless=_get_missing_config_reason,
        verifies="The config is on every host at the same path with the same content (sha256).",
        why="If ranks read different batch sizes or models, they fail with errors that do not name the cause.",
        fix="Copy it from one host to the others, or use a shared directory.",
        judge=_judge_config,
    ),
    Check(
        name="writable", group="files", worst="warn", needs=("files",),
        verifies="The user can write to the work directory.",
        why="Most scripts write log.txt and checkpoints there. The first write fails, perhaps hours into the run.",
        fix="Give the user write permission, or remount the file system read-write.",
        judge=_judge_writable,
    ),
)  # fmt: skip
