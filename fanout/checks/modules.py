"""Checks of the task's own file and of what it imports: can the Python that runs it read it, and is every module there?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from shlex import join, quote
from typing import Any

from fanout.checks.imports import is_standard
from fanout.checks.model import Case, Check, CheckRequest, Verdict, fail, warn

_PACKAGES = {  # what PyPI calls a module of another name
    "cv2": "opencv-python", "PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "skimage": "scikit-image",
    "bs4": "beautifulsoup4", "dotenv": "python-dotenv", "dateutil": "python-dateutil", "git": "gitpython",
    "Crypto": "pycryptodome", "attr": "attrs", "OpenSSL": "pyopenssl", "flash_attn": "flash-attn", "wx": "wxpython",
}  # fmt: skip


def _imports(case: Case) -> Iterator[Verdict]:
    """A module that is nowhere ends every rank; where another Python may run the task, it is only a warning."""
    found = case.of("software")
    own = {module: (name, path) for name, row in found.items() for module, path in row.get("own", {}).items()}
    for name, row in found.items():
        absent = [module for module in row["absent"] if module not in case.request.unsure]
        unsure = [module for module in row["absent"] if module in case.request.unsure]
        for modules, level in ((absent, fail if _runs_the_task(case, name) else warn), (unsure, warn)):
            mine = [module for module in modules if module in own or module in case.request.own]
            for module in mine:
                there, path = own.get(module, ("", case.request.own.get(module, "")))
                bring = case.commands.copy_module(path, there, name)
                saw = f"the task imports {module}, which {there or 'this machine'} has at {path}"
                yield level(name, saw, f"bring it over:  {bring}")
            foreign = [module for module in modules if module not in mine]
            if foreign:
                saw = f"the task imports {', '.join(foreign[:5])}, which {row['executable']} does not have"
                yield level(name, saw, _install(case, name, row, foreign))


def _runs_the_task(case: Case, name: str) -> bool:
    """Whether the Python that was looked at is the one that will run the task."""
    if case.facts[name]["software"].get("of_run"):
        return True
    script = case.facts[name].get("files", {}).get("script", {})
    torchrun = case.facts[name].get("programs", {}).get("found", {}).get("torchrun")
    return (
        bool(torchrun)
        and not case.request.setup
        and (script.get("kind") != "file" or "activates" not in script or not script["activates"])
    )


def _install(case: Case, name: str, row: Mapping[str, Any], modules: list[str]) -> str:
    """Return what brings modules into that Python; an environment of the user's own where it takes none."""
    other = "use an environment that has it:  --venv DIR"
    standard = [module for module in modules if is_standard(module)]
    if standard:
        return f"{standard[0]} belongs to another version of Python: {other}"
    if row.get("pip", "yes") != "yes":
        why = "belongs to the system, and takes no packages" if row["pip"] == "system" else "has no pip"
        return f"that Python {why}: {other}"
    packages = join(dict.fromkeys(_PACKAGES.get(module, module) for module in modules[:5]))
    command = f"{quote(row['executable'])} -m pip install {packages}"
    return f"{case.on(name, command)}   or use another environment:  --venv DIR"


def _no_python(request: CheckRequest) -> str:
    """Why there is no source to look at; "" if there is one."""
    if not request.task:
        return "no task given"
    return "" if request.task.endswith(".py") else f"{request.task} is no Python file"


def _syntax(case: Case) -> Iterator[Verdict]:
    for name, row in case.of("software").items():
        if row["syntax"]:
            version = ".".join(map(str, row["version"]))
            level = fail if _runs_the_task(case, name) else warn
            yield level(
                name, f"Python {version} cannot read {case.request.task}: {row['syntax']}",
                "mend that line, or use the Python that it was written for:  --venv DIR",
            )  # fmt: skip


CHECKS = (
    Check(
        name="syntax", group="software", worst="fail", needs=("software",),
        unless=_no_python,
        verifies="The task's Python on every host can read the task's file (it is parsed, not run).",
        why="A slip, or what only a newer Python knows (match, f-strings of 3.12), ends every rank at once, after all else was set up.",
        fix="Mend the line that is named, or use the Python that the task was written for.",
        judge=_syntax,
    ),
    Check(
        name="imports", group="software", worst="fail", needs=("software",),
        unless=lambda request: "" if request.imports else _no_python(request) or "no import could be read in the task",
        verifies="Every top-level module that the task imports can be found on every host. It is a warning where another Python may run the task, or the task changes sys.path before.",
        why="ModuleNotFoundError on one of N hosts ends the run on all.",
        fix="Copy a module of the project, pip install another one, or use another environment.",
        judge=_imports,
    ),
)  # fmt: skip
