"""Files of the task as this machine has them: the work directory, the config and the script."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import Any

from fanout.model.attempt_plan import FIRST_ATTEMPT, AttemptPlan
from fanout.model.errors import UsageError
from fanout.model.frozen import frozen
from fanout.model.planner import Planner
from fanout.model.settings import Settings
from fanout.model.task_words import get_arguments, get_module, is_config_name
from fanout.run.argument_order import suggest_task
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import RunContext
from fanout.text.suggest import find_nearest


@frozen
class TaskFiles:
    """Files of a task. Paths are the same on all hosts.

    ``directory`` is the work directory. ``task_file`` is "" for a module that the directory does not have: then the
    environment on the hosts must have it. ``config`` is the path of the task's config, "" if it has none. If this machine
    lacks the directory, fanout assumes that the hosts have the script.
    """

    directory: str
    task_file: str
    config: str
    config_values: Any
    has_script: bool
    import_folder: str = ""  # Python finds modules there first: the folder of a script; the work directory for -m


def read_task_files(context: RunContext) -> TaskFiles:
    """Find the files of the task, and check those that this machine has. Raises UsageError."""
    task, settings = context.request.task, context.settings
    directory = find_work_directory(settings, context.process)
    is_here = os.path.isdir(directory)
    module = get_module(task)
    task_file = find_module_file(module, directory) if module else task[0] if task else ""
    if module and not task_file and (near := find_misspelled_module(module, directory)) is not None:
        words = [*context.request.head, context.request.hosts, "-m", near or "package.module", *get_arguments(task)]
        hint = shlex.join(["fanout", context.request.verb, *words])
        raise UsageError(f"no module {module} in {directory} that python -m can run", hint=hint)
    if task and not module and is_here and not os.path.isfile(os.path.join(directory, task_file)):
        raise UsageError(f"no task {task_file} in {directory}", hint=suggest_task(context.request, directory))
    config, values = _read_config(task, directory)
    has_script = not is_here or os.path.isfile(os.path.join(directory, settings.script))
    if task and not has_script and is_config_name(task[0]):
        raise UsageError(
            f"{task[0]} is not a program, and {directory} has no {settings.script} that could read it",
            hint=f"fanout {context.request.verb} {context.request.hosts} task.py {task[0]}",
        )
    return TaskFiles(
        directory=directory,
        task_file=task_file,
        config=config,
        config_values=values,
        has_script=has_script,
        import_folder="" if module else os.path.dirname(task_file),
    )


def build_planner(context: RunContext, files: TaskFiles, run_id: str, attempt: AttemptPlan = FIRST_ATTEMPT) -> Planner:
    """Return the planner of ``fanout run``. A check uses it too, so that it tests what a run would do."""
    more = shlex.split(context.settings.resume_args) if attempt.number else []
    return Planner(
        hosts=context.hosts,
        task=(*context.request.task, *more),
        settings=context.settings,
        run_id=run_id,
        directory=files.directory,
        has_script=files.has_script,
        task_file=files.task_file,
        detached=bool(context.request.given.get("detach")),
        attempt=attempt,
    )


def find_module_file(module: str, directory: str) -> str:
    """Return the path of a module's file, relative to the work directory; "" if the directory does not have it.

    The paths are those of PYTHONPATH in a run: the work directory and VeOmni.
    """
    place = module.replace(".", "/")
    names = (f"{folder}{place}{ending}" for folder in ("", "VeOmni/") for ending in (".py", "/__main__.py"))
    return next((name for name in names if os.path.isfile(os.path.join(directory, name))), "")


def find_misspelled_module(module: str, directory: str) -> str | None:
    """Return the nearest module, or "", if the package of the module is in the work directory; None if it is not."""
    package = module.partition(".")[0]
    if os.path.isfile(os.path.join(directory, f"{package}.py")):
        return package
    if not os.path.isfile(os.path.join(directory, package, "__init__.py")):
        return None
    above, _, last = module.rpartition(".")
    try:
        names = [name.removesuffix(".py") for name in os.listdir(os.path.join(directory, above.replace(".", "/")))]
    except OSError:
        return ""
    near = find_nearest(last, [name for name in names if not name.startswith("_")], likeness=0.6)
    return f"{above}.{near[0]}" if near and above else ""


def find_work_directory(settings: Settings, process: ProcessContext) -> str:
    """Return the absolute path of the work directory on every host. Raises UsageError if it cannot be known."""
    if not process.cwd_exists and not os.path.isabs(settings.chdir):
        raise UsageError(
            f"the working directory {process.cwd} was deleted",
            hint="cd to the project's directory, or give its absolute path with --chdir",
        )
    return os.path.normpath(os.path.join(process.cwd, settings.chdir))


def _read_config(task: Sequence[str], directory: str) -> tuple[str, Any]:
    """Return the path and the content of the task's config, its first YAML argument; ("", None) without one.

    The content includes the overrides ``--section.field VALUE`` after it. fanout reads the config only to check that
    it parses, and to find paths and batch sizes in it. Raises UsageError.
    """
    path = next((word for word in task[1:] if word.endswith((".yaml", ".yml"))), "")
    if not path:
        return "", None
    words = task[task.index(path, 1) + 1 :]
    try:
        with open(os.path.join(directory, path), encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        raise UsageError(f"no config {path} in {directory}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot read it: {error}") from None
    import yaml

    try:
        return path, apply_overrides(yaml.safe_load(text), words)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{where}: not valid YAML: {problem}", hint="indent YAML with spaces, not with tabs") from None
    except RecursionError:
        raise UsageError(f"{path}: nested too deeply for a config") from None


def apply_overrides(values: Any, words: Sequence[str]) -> Any:
    """Return the config with each ``--section.field VALUE`` or ``--section.field=VALUE`` of the task's arguments."""
    import yaml

    if not isinstance(values, dict):
        return values
    for number, word in enumerate(words):
        name, has_value, text = word.partition("=")
        section, has_dot, field = name.removeprefix("--").partition(".")
        if not (name.startswith("--") and has_dot and isinstance(values.get(section, {}), dict)):
            continue
        if not has_value:
            text = words[number + 1] if number + 1 < len(words) else ""
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        values = values | {section: values.get(section, {}) | {field: value}}
    return values
