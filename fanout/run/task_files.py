"""Files of the task on this machine: its directory, its config and its script."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from fanout.model.errors import UsageError
from fanout.model.settings import Settings
from fanout.run.process_context import ProcessContext


def read_task_config(task: Sequence[str], directory: str) -> tuple[str, Any]:
    """Return the path and the content of the task's config, its first YAML argument; ("", None) without one.

    fanout reads the config only to check that it parses, and to find the paths in it. Raises UsageError.
    """
    path = next((word for word in task[1:] if word.endswith((".yaml", ".yml"))), "")
    if not path:
        return "", None
    try:
        with open(os.path.join(directory, path), encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        raise UsageError(f"no config {path} in {directory}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot read it: {error}") from None
    import yaml

    try:
        return path, yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{where}: not valid YAML: {problem}", hint="indent YAML with spaces, not with tabs") from None
    except RecursionError:
        raise UsageError(f"{path}: nested too deeply for a config") from None


def find_work_directory(settings: Settings, process: ProcessContext) -> str:
    """Return the absolute path of the work directory on every host. Raises UsageError if it cannot be known."""
    if not process.cwd_exists and not os.path.isabs(settings.chdir):
        raise UsageError(
            f"the working directory {process.cwd} was deleted",
            hint="cd to the project's directory, or give its absolute path with --chdir",
        )
    return os.path.normpath(os.path.join(process.cwd, settings.chdir))


def has_script_here(settings: Settings, directory: str) -> bool:
    """Return whether the project has the script. If the directory is not on this machine, assume that hosts have it."""
    return not os.path.isdir(directory) or os.path.isfile(os.path.join(directory, settings.script))


def check_task_exists(task: Sequence[str], directory: str) -> None:
    """Check that the task exists. Paths are the same on all hosts, so a local directory must contain the task."""
    if task and os.path.isdir(directory) and not os.path.isfile(os.path.join(directory, task[0])):
        raise UsageError(
            f"no task {task[0]} in {directory}",
            hint="run fanout in the project's directory, or give its path with --chdir",
        )
