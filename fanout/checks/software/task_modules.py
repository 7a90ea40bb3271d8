"""Checks of the task's source: the Python that runs it can parse it, and every imported module exists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from shlex import join, quote
from typing import Any

from fanout.checks.engine.definition import Check, CheckContext, CheckRequest, CheckResult, fail, warn
from fanout.checks.software.task_imports import is_standard_module

_PACKAGES = {  # module -> its package on PyPI, if the names differ
    "cv2": "opencv-python", "PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "skimage": "scikit-image",
    "bs4": "beautifulsoup4", "dotenv": "python-dotenv", "dateutil": "python-dateutil", "git": "gitpython",
    "Crypto": "pycryptodome", "attr": "attrs", "OpenSSL": "pyopenssl", "flash_attn": "flash-attn", "wx": "wxpython",
}  # fmt: skip


def _judge_imports(case: CheckContext) -> Iterator[CheckResult]:
    """Yield failures for missing modules; if another Python may run the task, warnings."""
    found = case.get_section("software")
    own = {module: (name, path) for name, row in found.items() for module, path in row.get("own", {}).items()}
    for name, row in found.items():
        yield from _judge_module(case, name, row, own)
        parts = _name_module_parts(case)
        yield from _judge_members(case, name, row)
        modules = [module for module in row["absent"] if ":" not in module]
        absent = [module for module in modules if module not in (*case.request.unsure, *parts)]
        unsure = [module for module in modules if module in case.request.unsure]
        for modules, level in ((absent, fail if _is_python_of_task(case, name) else warn), (unsure, warn)):
            mine = [module for module in modules if module in own or module in case.request.own]
            for module in mine:
                there, path = own.get(module, ("", case.request.own.get(module, "")))
                bring = case.commands.copy_module(path, there, name)
                saw = f"the task imports {module}, which {there or 'this machine'} has at {path}"
                yield level(name, saw, f"copy it:  {bring}")
            foreign = [module for module in modules if module not in mine]
            if foreign:
                saw = f"the task imports {', '.join(foreign[:5])}, which {row['executable']} does not have"
                yield level(name, saw, _advise_install(case, name, row, foreign))


def _judge_members(case: CheckContext, name: str, row: Mapping[str, Any]) -> Iterator[CheckResult]:
    """Yield warnings for names that the task imports from modules which do not define them."""
    for module, _, member in (each.partition(":") for each in row["absent"] if ":" in each):
        saw = f"the task imports {member} from {module}, and {module} of {row['executable']} does not define it"
        package = module.partition(".")[0]
        if package in row.get("own", {}):
            advice = f"correct the name, or copy the version of {package} that has it"
        elif is_standard_module(package):
            advice = f"correct the name, or use a Python whose {module} has it:  --venv DIR"
        else:
            look = case.format_remote_command(name, f"{quote(row['executable'])} -m pip show {quote(package)}")
            advice = f"correct the name, or install another version of {package}:  {look}"
        yield warn(name, saw, advice)


def _name_module_parts(case: CheckContext) -> tuple[str, ...]:
    """Return the names under which a host reports that it cannot run ``-m MODULE``: package, module, program."""
    module = "" if case.request.task else case.request.module  # the check of the task reports a file
    return (module.partition(".")[0], module, f"{module}.__main__") if module else ()


def _judge_module(
    case: CheckContext, name: str, row: Mapping[str, Any], own: Mapping[str, tuple[str, str]]
) -> Iterator[CheckResult]:
    """Yield a failure if that Python cannot run the module of ``-m MODULE``.

    ``own``: module of the project -> the host that has it, and its path.
    """
    lacks = [part for part in _name_module_parts(case) if part in row["absent"]]
    if not lacks:
        return
    level = fail if _is_python_of_task(case, name) else warn
    module, python = case.request.module, row["executable"]
    package = module.partition(".")[0]
    if lacks[0] == package and package in own:
        there, path = own[package]
        saw = f"-m {module}: {python} has no {package}, which {there} has at {path}"
        yield level(name, saw, f"copy it:  {case.commands.copy_module(path, there, name)}")
    elif lacks[0] == package:
        yield level(name, f"-m {module}: {python} has no {package}", _advise_install(case, name, row, [package]))
    elif lacks[0] == module:
        look = case.format_remote_command(name, f"{quote(python)} -m pip show --files {quote(package)}")
        saw = f"-m {module}: {python} has {package}, but not {module}"
        yield level(name, saw, f"correct the name, or install another version of {package}:  {look}")
    else:
        saw = f"-m {module}: in {python}, {module} is a package without a __main__.py"
        yield level(name, saw, "name a module in it that has a main program")


def _is_python_of_task(case: CheckContext, name: str) -> bool:
    """Return whether the examined Python will run the task."""
    if case.facts[name]["software"].get("of_run"):
        return True
    script = case.facts[name].get("files", {}).get("script", {})
    torchrun = case.facts[name].get("programs", {}).get("found", {}).get("torchrun")
    return (
        bool(torchrun)
        and not case.request.setup
        and (script.get("kind") != "file" or "activates" not in script or not script["activates"])
    )


def _advise_install(case: CheckContext, name: str, row: Mapping[str, Any], modules: list[str]) -> str:
    """Return the command that installs modules for that Python, or the advice to use another environment."""
    other = "use an environment that has it:  --venv DIR"
    standard = [module for module in modules if is_standard_module(module)]
    if standard:
        return f"{standard[0]} belongs to another version of Python: {other}"
    if row.get("pip", "yes") != "yes":
        why = "belongs to the system, where pip may not install" if row["pip"] == "system" else "has no pip"
        return f"that Python {why}: {other}"
    packages = join(dict.fromkeys(_PACKAGES.get(module, module) for module in modules[:5]))
    command = f"{quote(row['executable'])} -m pip install {packages}"
    return f"{case.format_remote_command(name, command)}   or use another environment:  --venv DIR"


def _get_missing_source_reason(request: CheckRequest) -> str:
    """Return why there is no source to parse; "" if there is one."""
    if request.module and not request.task:
        return f"{request.module} is a module of the environment"
    if not request.task:
        return "no task given"
    return "" if request.task.endswith(".py") else f"{request.task} is no Python file"


def _judge_syntax(case: CheckContext) -> Iterator[CheckResult]:
    for name, row in case.get_section("software").items():
        if row["syntax"]:
            version = ".".join(map(str, row["version"]))
            level = fail if _is_python_of_task(case, name) else warn
            yield level(
                name,
                f"Python {version} cannot read {case.request.task}: {row['syntax']}",
                "fix that line, or use the Python that it was written for:  --venv DIR",
            )


CHECKS = (
    Check(
        name="syntax", group="software", worst="fail", needs=("software",),
        unless=_get_missing_source_reason,
        verifies="The task's Python on every host can parse the task's file (it is not run).",
        why="A syntax error, or syntax of a newer Python (match, f-strings of 3.12), ends every rank only after the whole "
        "set-up.",
        fix="Fix the named line, or use the Python that the task was written for.",
        judge=_judge_syntax,
    ),
    Check(
        name="imports", group="software", worst="fail", needs=("software",),
        unless=lambda request: "" if request.imports or request.module else _get_missing_source_reason(request) or "no import could be read in the task",
        verifies="Every host has the module of -m MODULE, and every top-level module that the task imports. It is only a warning if another Python may run the task, or if the task changes sys.path before the import. It is a warning if a module does not define a name that the task imports from it.",
        why="ModuleNotFoundError on one of N hosts ends the run on all.",
        fix="Copy a module of the project, install a package with pip, or use another environment.",
        judge=_judge_imports,
    ),
)  # fmt: skip
