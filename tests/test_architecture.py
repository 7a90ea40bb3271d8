"""The laws of the house: who may import whom, what only one room may do, and how small things stay.

They read the source with ``ast``, so an import inside a function or under TYPE_CHECKING counts like any other.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.floors import FLOORS

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("fanout", "tasks", "tests", "bench")

#: What others may use of the agent: how it talks, and the text that is sent.
AGENT_DOORS = {"fanout.agent.frames", "fanout.agent.bundle"}
VALUES = ("events", "hosts", "settings", "state", "supervise", "plan", "outcome")

LONGEST_FILE = 350
LONGEST_FUNCTION = 60
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
SLEEPS = {
    "fanout/verbs/replay.py": "a replay takes as long as the run did; its test hands in a clock of its own",
    "tests/lab/verdicts/task.py": "a task whose steps take their time, and that hangs when it is told to",
    "tests/lab/ns.py": "waits for a kernel that wakes nobody when a namespace's last process goes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One source file: its dotted name, its path below the root, its text as a tree."""

    name: str
    path: str
    tree: ast.Module
    lines: int

    @property
    def package(self) -> str:
        return self.name if self.path.endswith("__init__.py") else self.name.rpartition(".")[0]

    @property
    def room(self) -> str:
        """``hostfile`` for fanout/hostfile/reader.py, ``plan`` for fanout/plan.py."""
        return self.name.split(".")[1] if "." in self.name else ""


@cache
def modules(*rooms: str) -> tuple[Module, ...]:
    found = []
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            short = path.relative_to(ROOT)
            name = ".".join(short.with_suffix("").parts).removesuffix(".__init__")
            found.append(Module(name=name, path=str(short), tree=ast.parse(text), lines=len(text.splitlines())))
    return tuple(found)


def ours() -> tuple[Module, ...]:
    return modules("fanout")


def launcher() -> tuple[Module, ...]:
    """fanout without what is sent to the hosts (the module that packs it is the launcher's)."""
    return tuple(module for module in ours() if module.room != "agent" or module.name == "fanout.agent.bundle")


def sent() -> tuple[Module, ...]:
    return tuple(module for module in ours() if module.room == "agent" and module.name != "fanout.agent.bundle")


#: No part of the launcher nor of the agent: a text that the task's own Python runs, in a process of its own.
TASK_PYTHON = "fanout/agent/collective.py"


@cache
def imports(module: Module) -> frozenset[str]:
    """Every module that this one imports, by its full name, wherever in the file."""
    names = {one.name for one in ours()}
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.package.split(".")
                base = ".".join(parts[: len(parts) - node.level + 1] + ([base] if base else []))
            inner = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if name in names else base for name in inner}
    return frozenset(found - {"fanout"})


def tops(module: Module) -> set[str]:
    return {name.partition(".")[0] for name in imports(module)}


def calls(module: Module, *wanted: str) -> Iterator[str]:
    """``file:line`` of each call, or use, of the dotted names."""
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and (name := dotted(node)) in wanted:
            yield f"{module.path}:{node.lineno} {name}"


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


# ------------------------------------------------------------------------------------------------ who may import whom


def test_every_file_has_a_floor() -> None:
    homeless = {module.path for module in ours() if module.room not in {*FLOORS, "agent", ""}}
    assert not homeless, "give it a floor in FLOORS"


def test_a_file_imports_only_from_floors_below_or_from_its_own_room() -> None:
    wrong = []
    for module in ours():
        for name in imports(module):
            room = name.split(".")[1] if name.startswith("fanout.") else ""
            if room in ("", "agent", module.room) or module.room in ("agent", ""):
                continue
            if FLOORS[room] >= FLOORS[module.room]:
                wrong.append(f"{module.path} (floor {FLOORS[module.room]}) imports {name} (floor {FLOORS[room]})")
    assert not wrong


def test_there_is_no_circle_of_imports() -> None:
    graph = {module.name: {name for name in imports(module) if name.startswith("fanout")} for module in ours()}
    while leaves := {name for name, needs in graph.items() if not needs & graph.keys()}:
        graph = {name: needs for name, needs in graph.items() if name not in leaves}
    assert not graph


def test_what_is_sent_to_the_hosts_stands_alone() -> None:
    """Nothing of ours from outside the agent, nothing that is not in every python."""
    for module in sent():
        foreign = {name.partition(".")[0] for name in imports(module) if not name.startswith("fanout.agent")}
        beyond = {"torch"} if module.path == TASK_PYTHON else set()
        assert foreign <= sys.stdlib_module_names | beyond, module.path


def test_what_the_tasks_python_runs_is_imported_by_nobody() -> None:
    """It has torch, which neither the launcher nor the agent may wait for."""
    assert not [module.path for module in ours() if TASK_PYTHON[:-3].replace("/", ".") in imports(module)]


def test_the_launcher_uses_only_the_agents_two_doors() -> None:
    for module in launcher():
        inside = {name for name in imports(module) if name.startswith("fanout.agent")}
        assert inside <= AGENT_DOORS, module.path


def test_transports_know_hosts_settings_and_errors_alone() -> None:
    for module in ours():
        if module.room == "transports":
            above = {name for name in imports(module) if name.startswith("fanout.")}
            assert {name.split(".")[1] for name in above} <= {"hosts", "settings", "errors", "transports"}, module.path


def test_views_only_look() -> None:
    for module in ours():
        if module.room == "views":
            above = {name.split(".")[1] for name in imports(module) if name.startswith("fanout.")}
            assert above <= {"answers", "errors", "events", "gist", "hosts", "outcome", "schema", "state", "views"}, (
                module.path
            )


def test_tasks_never_import_fanout() -> None:
    assert not [module.path for module in modules("tasks") if "fanout" in tops(module)]


def test_the_launcher_never_imports_torch() -> None:
    assert [module.path for module in ours() if "torch" in tops(module)] == [TASK_PYTHON]


def test_ssh_libraries_are_known_to_the_transports_and_the_demo() -> None:
    for module in ours():
        if module.room not in ("transports", "demo"):
            assert not tops(module) & {"fabric", "paramiko", "invoke"}, module.path


def test_rich_is_known_to_the_views_alone() -> None:
    assert not [module.path for module in ours() if "rich" in tops(module) and module.room != "views"]


# ------------------------------------------------------------------------------------------- what only one room may do


def test_threads_begin_in_the_link_the_fan_the_demo_and_the_agent_alone() -> None:
    for module in ours():
        if module.path not in ("fanout/link.py", "fanout/fan.py") and module.room not in ("agent", "demo"):
            assert not list(calls(module, "threading.Thread", "threading.Timer", "Thread", "Timer"))
            assert not tops(module) & {"concurrent", "multiprocessing", "asyncio", "_thread"}, module.path


def test_only_the_command_line_prints_exits_and_reads_the_environment() -> None:
    forbidden = ("print", "sys.exit", "os._exit", "os.environ", "os.getenv", "SystemExit")
    for module in launcher():
        if module.path not in ("fanout/cli.py", "fanout/agent/bundle.py"):
            assert not list(calls(module, *forbidden))


def test_what_steers_the_cursor_is_written_by_the_live_view_and_a_line_of_progress_alone() -> None:
    """Everybody else's words go through the one edge that makes them harmless."""
    for module in launcher():
        if module.path != "fanout/cli.py":
            assert not list(calls(module, "sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__")), module.path
        if module.path not in ("fanout/verbs/showing.py", "fanout/verbs/check.py", "fanout/views/out.py"):
            assert "fanout.views.out.past" not in imports(module)
            assert not list(calls(module, "past", "out.past")), module.path


def test_no_command_for_a_remote_shell_is_put_together_where_it_is_sent() -> None:
    """What goes to exec_command is a value that somebody checked, never text with a user's word in it."""
    for module in ours():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and dotted(node.func).endswith(".exec_command"):
                assert all(isinstance(argument, (ast.Name, ast.Attribute)) for argument in node.args), module.path


def test_nothing_sleeps_but_the_agent_and_whoever_has_a_reason() -> None:
    """Everything else waits for an event: sleeping is either too long or not long enough."""
    asleep = {
        where.partition(":")[0]
        for module in modules(*ROOMS)
        if module.room != "agent"
        for where in calls(module, "time.sleep", "sleep")
    }
    assert asleep == set(SLEEPS)


def test_tests_use_the_real_thing() -> None:
    assert not [module.path for module in modules("tests") if any("mock" in name for name in imports(module))]


# ------------------------------------------------------------------------------------------------------- shape and size


def test_the_tiers_that_read_one_room_alone_find_all_of_their_tests_there() -> None:
    """tests/run looks for tests of the lab and of the browser in their own rooms."""
    for mark in ("lab", "browser"):
        marked = {
            module.path for module in modules("tests") if f"mark.{mark}" in (ROOT / module.path).read_text("utf-8")
        }
        marked -= {"tests/test_architecture.py"}
        assert marked, mark
        assert not [path for path in marked if not path.startswith(f"tests/{mark}/")]


def test_values_that_travel_are_frozen_slotted_and_named() -> None:
    for module in ours():
        if module.room not in VALUES:
            continue
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not set(map(ast.unparse, node.bases)) & {"Enum", "Exception"}:
                decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
                assert decorators == ["dataclass(frozen=True, slots=True, kw_only=True)"], f"{module.path} {node.name}"


def test_no_file_is_too_long_to_be_read_at_one_sitting() -> None:
    long = {module.path for module in modules(*ROOMS) if module.lines > LONGEST_FILE}
    assert long == set(LONG_FILES)


def test_no_function_is_too_long_for_a_screen() -> None:
    long = {
        f"{module.path}:{node.name}"
        for module in modules(*ROOMS)
        for node in ast.walk(module.tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    }
    assert long == set(LONG_FUNCTIONS)


def test_every_module_opens_by_saying_what_it_is() -> None:
    silent = [module.path for module in modules(*ROOMS) if module.tree.body and not ast.get_docstring(module.tree)]
    assert not silent


def test_what_is_sent_to_the_hosts_is_python_3_8() -> None:
    for module in sent():
        source = (ROOT / module.path).read_text(encoding="utf-8")
        assert ast.parse(source, module.path, feature_version=(3, 8))


def test_no_file_names_a_directory_of_one_machine() -> None:
    """A clone of the project means the same everywhere."""
    private = re.compile(rb"(?<![\w.-])/(?:work|root)/|\.\./shared")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout
    files = [name for name in os.fsdecode(listed).split("\0") if name and (ROOT / name).is_file()]
    assert files, "this test asks git which files are the project's: run it in a clone"
    found = [f"{name}: {hit!r}" for name in files for hit in private.findall((ROOT / name).read_bytes())]
    assert not found


# ------------------------------------------------------------------------------------------------------- fresh processes


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.process
def test_the_command_line_starts_without_any_heavy_library() -> None:
    heavy = {"torch", "numpy", "fabric", "paramiko", "cryptography", "rich", "yaml"}
    done = python("-c", "import sys, fanout.cli; print(*{name.partition('.')[0] for name in sys.modules})")
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & heavy
    assert "fanout" in done.stdout.split()


@pytest.mark.process
def test_help_is_printed() -> None:
    done = python("-m", "fanout", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "fanout run hosts.txt task.py cfg.yaml" in done.stdout
