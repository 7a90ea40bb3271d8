"""Checks of the paths in the config that a run reads and writes, and of the home directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.engine.definition import Check, CheckContext, CheckRequest, CheckResult, fail, info, skip, warn
from fanout.checks.files import task_config
from fanout.checks.files.input_files import advise_remount, find_project_hosts


def _judge_data(case: CheckContext) -> Iterator[CheckResult]:
    """Yield a finding for each path that the config reads and that is missing. It may be a name on a hub instead."""
    rows = case.get_section("files")
    keys = dict.fromkeys(key for files in rows.values() for key in files if key.startswith(("config:", "maybe:")))
    for key in keys:
        setting = key.partition(":")[2]
        found = {
            name: files[key]
            for name, files in rows.items()
            if key in files and not is_in_missing_workdir(case, name, files[key])
        }
        lacking = tuple(name for name, row in found.items() if row["kind"] == "missing")
        if not lacking:
            continue
        path = found[lacking[0]]["path"]
        there = next((name for name, row in found.items() if row["kind"] != "missing"), "")
        if there:
            copy = case.commands.copy_tree if found[there]["kind"] == "directory" else case.commands.copy_file
            yield fail(lacking, f"{setting}: no {path}", f"{there} has it:  {copy(path, there, lacking[0])}")
        elif key.startswith("config:"):
            yield warn(lacking, f"{setting}: no {path} on any host", f"is the path in {case.request.config} right?")
        else:
            yield info(lacking, f"{setting}: no {path} on any host: assumed to be a name on a hub")
    if not keys:
        yield skip(case.hosts, f"{case.request.config} names no path to read")
    more = len(task_config.find_paths(case.request.config_values)) - task_config.MOST
    if more > 0:
        yield info(case.hosts, f"{case.request.config} names {more} more paths, which were not checked")


def is_in_missing_workdir(case: CheckContext, name: str, row: Mapping[str, Any]) -> bool:
    """Return whether a path lies in a work directory without the project, which another check reports."""
    top = case.facts[name]["files"].get("workdir", {})
    is_missing = top.get("kind") != "directory" or top.get("entries") == 0 or bool(find_project_hosts(case, name))
    return is_missing and str(row["path"]).startswith(f"{str(top.get('path', '')).rstrip('/')}/")


def _judge_output(case: CheckContext) -> Iterator[CheckResult]:
    keys = {key for files in case.get_section("files").values() for key in files if key.startswith("output:")}
    if not keys:
        yield skip(case.hosts, f"{case.request.config} names no path to write to")
    for name, files in case.get_section("files").items():
        for key, row in files.items():
            if key not in keys or is_in_missing_workdir(case, name, row):
                continue
            place = row if row["kind"] == "directory" else row["above"]
            if not place["writable"]:
                mount = place.get("mount", {})
                read_only = "ro" in mount.get("options", "").split(",")
                yield fail(
                    name,
                    f"{key.partition(':')[2]}: cannot write in {place['path']}"
                    + (f" ({mount['point']} is mounted read-only)" if read_only else ""),
                    f"{advise_remount(case, name, mount['point']) if read_only else 'give this user write permission'}, "
                    f"or choose another directory in {case.request.config}",
                )


def _judge_home(case: CheckContext) -> Iterator[CheckResult]:
    for name, space in case.get_section("space").items():
        row, home = space.get("home"), case.facts[name]["user"]["home"]
        if row is None or row.get("writable", True):
            continue
        mount = row.get("mount", {})
        if "ro" in mount.get("options", "").split(","):
            yield warn(
                name,
                f"cannot write in the home directory {home} ({mount['point']} is mounted read-only)",
                f"caches of torch, Triton and Hugging Face go there: {advise_remount(case, name, mount['point'])}",
            )
        else:
            why = "" if row["path"].rstrip("/") == home.rstrip("/") else f" (it does not exist; {row['path']} does)"
            yield warn(
                name,
                f"cannot write in the home directory {home}{why}",
                "caches of torch, Triton and Hugging Face go there: make this user its owner, or name another directory with  "
                "--env HF_HOME=DIR --env TRITON_CACHE_DIR=DIR",
            )


def get_unread_config_reason(request: CheckRequest) -> str:
    if not request.config:
        return "no config given"
    return "" if request.config_values is not None else "the config was not read"


CHECKS = (
    Check(
        name="data", group="files", worst="fail", needs=("files",), unless=get_unread_config_reason,
        verifies="Every path that the config reads exists on all hosts. A path is a value that looks like one, or whose key names one (data_path).",
        why="Otherwise one host ends with FileNotFoundError, after the others have loaded for twenty minutes.",
        fix="Copy it there, or correct the config.",
        judge=_judge_data,
    ),
    Check(
        name="output", group="files", worst="fail", needs=("files",), unless=get_unread_config_reason,
        verifies="The user can write to the directories that the config names for output, or create them.",
        why="Otherwise the first checkpoint fails, hours into the run.",
        fix="Give the user write permission, or choose another directory.",
        judge=_judge_output,
    ),
    Check(
        name="home", group="files", worst="warn", needs=("space", "user"),
        verifies="The user can write to the home directory.",
        why="torch, Triton and Hugging Face keep their caches there. Otherwise the first kernel or download fails, on that host only.",
        fix="Make the user its owner, or name other directories with --env HF_HOME=DIR --env TRITON_CACHE_DIR=DIR.",
        judge=_judge_home,
    ),
)  # fmt: skip
