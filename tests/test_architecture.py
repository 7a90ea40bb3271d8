"""Architecture rules: layers, imports, and what only one package may do.

An import inside a function or below TYPE_CHECKING counts like any other.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.layers import LAYERS, PACKAGES, format_layer_table
from tests.sources import (
    DEMO_PROJECT,
    FOLDERS,
    ROOT,
    Module,
    agent_modules,
    all_of_fanout,
    dotted_name,
    find_uses,
    imports_of,
    launcher_modules,
    list_nodes,
    read_modules,
    top_level_imports_of,
)

#: What the launcher may import of the agent: the frames of the protocol, and the text that it sends.
AGENT_INTERFACE = {"fanout.agent.frames", "fanout.agent.bundle"}
#: The worker of the torch test belongs to neither program: the task's own Python runs its text.
TORCH_WORKER = "fanout/agent/torch_worker.py"
MOST_LAYERS = 8
FROZEN = ("events", "hosts", "settings", "state", "policy", "plan", "outcome")
SLEEPS = {
    "tests/sharing/races.py": "the runs of a race begin and end at random times",
    "fanout/notify/hook.py": "waits for a hook that closed both its pipes; there is no event but its exit",
    "fanout/notify/send_message.py": "pauses before it tries a service again",
    "fanout/commands/replay.py": "a replay takes as long as the run; its test passes a clock",
    "fanout/ui/keyboard.py": "waits as long for a key where none can come",
    "fanout/ui/usage_view.py": "pauses between two looks at what the hosts have sent; a wake for each costs more",
    "tests/lab/verdicts/task.py": "a task whose steps take time, and that hangs on request",
    **{f"fanout/demo/project/{name}.py": "a task whose steps take time" for name in ("task", "torch_task")},
    "tests/lab/toy_task.py": "a task whose steps take time",
    "tests/lab/own_log_task.py": "a task that prints a line 20 times a second",
    "bench/restart_task.py": "a task whose steps take time",
    "bench/scale.py": "measures a run that is idle for some minutes",
    "tests/lab/restart_scenes.py": "a cable that is out for a while",
    "tests/lab/restart_host_scenes.py": "a cable that is out for a while",
    "tests/lab/ns.py": "waits for a kernel that sends no event when the last process of a namespace exits",
}
#: A module name may stand twice where the package makes it unique: commands and probes are named by their topic.
NAMED_BY_TOPIC = ("fanout.commands", "fanout.agent.probes")


# ------------------------------------------------------------------------------------------------------------- imports


def test_the_top_of_the_package_holds_only_packages() -> None:
    files = {path.name for path in (ROOT / "fanout").iterdir() if path.is_file()}
    assert files == {"__init__.py", "__init__.pyi", "__main__.py", "py.typed"}
    folders = {path.name for path in (ROOT / "fanout").iterdir() if any(path.rglob("*.py"))}
    assert folders == {package.name for package in PACKAGES}


def test_there_are_at_most_eight_layers() -> None:
    assert len(set(LAYERS.values())) <= MOST_LAYERS


def test_a_module_imports_only_from_lower_layers_or_its_own_package() -> None:
    wrong = []
    for module in all_of_fanout():
        for name in imports_of(module):
            package = name.split(".")[1] if name.startswith("fanout.") else ""
            if package and module.package not in ("", package) and LAYERS[package] >= LAYERS[module.package]:
                wrong.append(f"{module.path} (layer {LAYERS[module.package]}) imports {name} (layer {LAYERS[package]})")
    assert not wrong


def test_there_is_no_import_cycle() -> None:
    graph = {
        module.name: {name for name in imports_of(module) if name.startswith("fanout")} for module in all_of_fanout()
    }
    while leaves := {name for name, needs in graph.items() if not needs & graph.keys()}:
        graph = {name: needs for name, needs in graph.items() if name not in leaves}
    assert not graph


def test_the_layer_table_of_the_docs_is_generated_from_the_layers() -> None:
    assert format_layer_table() in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_reading_start_of_each_package_exists() -> None:
    assert not [one.name for one in PACKAGES if not (ROOT / "fanout" / one.name / one.start).is_file()]


def test_each_package_states_contents_imports_and_a_start() -> None:
    """The docstring of an ``__init__`` has three sentences."""
    wrong = []
    for module in all_of_fanout():
        if module.path.endswith("__init__.py") and module.package:
            text = ast.get_docstring(module.tree) or ""
            if len(re.findall(r"\.(?:\s|$)", text)) != 3 or "tart in" not in text:
                wrong.append(module.path)
    assert not wrong


def test_the_tests_mirror_the_packages() -> None:
    extra = {"lab", "browser", "projects", "sweeps", "fuzz", "tasks"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.rglob("*.py"))}
    assert folders - extra <= {package.name for package in PACKAGES}


def test_the_agent_imports_only_the_standard_library() -> None:
    for module in agent_modules():
        foreign = {name.partition(".")[0] for name in imports_of(module) if not name.startswith("fanout.agent")}
        beyond = {"torch"} if module.path == TORCH_WORKER else set()
        assert foreign <= sys.stdlib_module_names | beyond, module.path


def test_no_module_imports_the_torch_worker() -> None:
    """It imports torch, which neither the launcher nor the agent loads."""
    name = TORCH_WORKER[:-3].replace("/", ".")
    assert not [module.path for module in all_of_fanout() if name in imports_of(module)]


def test_the_launcher_imports_only_the_interface_of_the_agent() -> None:
    for module in launcher_modules():
        inside = {name for name in imports_of(module) if name.startswith("fanout.agent")}
        assert inside <= AGENT_INTERFACE, module.path


def test_transports_import_only_hosts_settings_and_errors() -> None:
    values = ("fanout.model.hosts", "fanout.model.settings", "fanout.model.errors", "fanout.model.frozen")
    allowed = (*values, "fanout.remote.transports")
    for module in all_of_fanout():
        if module.name.startswith("fanout.remote.transports"):
            assert not [one for one in imports_of(module) if one.startswith("fanout.") and not one.startswith(allowed)]


def test_the_ui_imports_only_values_logs_sharing_and_the_record() -> None:
    for module in all_of_fanout():
        if module.package == "ui":
            packages = {name.split(".")[1] for name in imports_of(module) if name.startswith("fanout.")}
            assert packages <= {"model", "text", "logs", "record", "sharing", "ui"}, module.path


def test_tasks_never_import_fanout() -> None:
    assert not [module.path for module in read_modules("tasks") if "fanout" in top_level_imports_of(module)]


def test_the_launcher_never_imports_torch() -> None:
    assert [one.path for one in all_of_fanout() if "torch" in top_level_imports_of(one)] == [TORCH_WORKER]


def test_the_tasks_of_the_demo_import_the_standard_library_and_one_of_them_torch() -> None:
    tasks = [module for module in read_modules("fanout") if module.path.startswith(DEMO_PROJECT)]
    imported = set().union(*(top_level_imports_of(module) for module in tasks))
    assert imported - sys.stdlib_module_names == {"demo_missing_module", "torch"}  # `--fail import`, torch_task.py


def test_only_transports_and_the_demo_import_ssh_libraries() -> None:
    for module in all_of_fanout():
        if not module.name.startswith(("fanout.remote.transports", "fanout.demo")):
            assert not top_level_imports_of(module) & {"fabric", "paramiko", "invoke"}, module.path


def test_only_the_ui_imports_rich() -> None:
    assert not [one.path for one in all_of_fanout() if "rich" in top_level_imports_of(one) and one.package != "ui"]


# --------------------------------------------------------------------------------------------- what one package may do


def test_only_connections_messages_demo_and_agent_start_threads() -> None:
    for module in all_of_fanout():
        allowed = module.path in (
            "fanout/remote/connection.py",
            "fanout/remote/pool.py",
            "fanout/notify/delivery.py",
            "fanout/api/active_run.py",
        )
        if not allowed and module.package not in ("agent", "demo"):
            assert not list(find_uses(module, "threading.Thread", "threading.Timer", "Thread", "Timer"))
            assert not top_level_imports_of(module) & {"concurrent", "multiprocessing", "asyncio", "_thread"}, (
                module.path
            )


PROGRAMS = (
    "fanout/cli/main.py",
    "fanout/agent/bundle.py",
    "fanout/notify/send_message.py",
    "fanout/run/guardian.py",
)  # each is a process of its own


CALLER = "fanout/api/caller.py"  # the edge of the Python API


def test_only_the_command_line_prints_exits_and_reads_the_environment() -> None:
    for module in launcher_modules():
        if module.path not in PROGRAMS:
            assert not list(find_uses(module, "print", "sys.exit", "os._exit", "SystemExit")), module.path
        if module.path not in (*PROGRAMS, CALLER):
            assert not list(find_uses(module, "os.environ", "os.getenv")), module.path


def test_only_live_screens_and_progress_lines_move_the_cursor() -> None:
    """Every other text passes through the writer that removes control sequences."""
    unsafe = (
        "fanout/run/choose_view.py",
        "fanout/run/usage_screen.py",
        "fanout/ui/refreshed_output.py",
        "fanout/ui/replaced_line.py",
        "fanout/ui/safe_writer.py",
        "fanout/ui/wait_status.py",
    )
    streams = ("sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__")
    for module in launcher_modules():
        if module.path != "fanout/cli/main.py":
            assert not list(find_uses(module, *streams)), module.path
        if module.path not in unsafe:
            assert not list(find_uses(module, "unwrap_stream", "safe_writer.unwrap_stream")), module.path


def test_a_transport_sends_only_commands_that_were_validated() -> None:
    """The argument of exec_command is a variable, never a text that is built at the call."""
    for module in all_of_fanout():
        for node in list_nodes(module):
            if isinstance(node, ast.Call) and dotted_name(node.func).endswith(".exec_command"):
                assert all(isinstance(argument, (ast.Name, ast.Attribute)) for argument in node.args), module.path


def test_only_the_agent_and_modules_with_a_reason_sleep() -> None:
    """Everything else waits for an event."""
    modules = [module for module in read_modules(*FOLDERS) if module.package != "agent"]
    assert {one.path for one in modules if any(find_uses(one, "time.sleep", "sleep"))} == set(SLEEPS)


def test_no_test_uses_mocks() -> None:
    assert not [one.path for one in read_modules("tests") if any("mock" in name for name in imports_of(one))]


def test_lab_and_browser_tests_stand_in_their_own_folders() -> None:
    """The test runner collects these tiers from these folders only."""
    for mark in ("lab", "browser", "projects"):
        text = f"mark.{mark}"
        marked = {one.path for one in read_modules("tests") if text in (ROOT / one.path).read_text("utf-8")}
        marked -= {"tests/test_architecture.py"}
        assert marked, mark
        assert not [path for path in marked if not path.startswith(f"tests/{mark}/")]


def test_values_of_the_model_are_frozen_slotted_and_keyword_only() -> None:
    for module in all_of_fanout():
        if module.package != "model" or module.name.rpartition(".")[2] not in FROZEN:
            continue
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not set(map(ast.unparse, node.bases)) & {"Enum", "Exception"}:
                decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
                assert decorators == ["frozen"], f"{module.path} {node.name}"


# --------------------------------------------------------------------------------------------------------------- names


def test_no_module_name_stands_for_two_different_things() -> None:
    names = Counter(
        module.name.rpartition(".")[2]
        for module in all_of_fanout()
        if not module.path.endswith(("__init__.py", "__main__.py")) and not module.name.startswith(NAMED_BY_TOPIC)
    )
    assert not [name for name, count in names.items() if count > 1]


def test_no_class_name_stands_for_two_different_things() -> None:
    classes = Counter(
        node.name
        for module in all_of_fanout()
        for node in module.tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert not [name for name, count in classes.items() if count > 1]


def test_the_agent_is_python_3_8() -> None:
    for module in agent_modules():
        source = (ROOT / module.path).read_text(encoding="utf-8")
        assert ast.parse(source, module.path, feature_version=(3, 8))


def test_no_file_names_a_directory_of_one_machine() -> None:
    """A clone of the project works in any directory."""
    private = re.compile(rb"(?<![\w.-])/(?:work|root)/|\.\./shared")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout
    files = [name for name in os.fsdecode(listed).split("\0") if name and (ROOT / name).is_file()]
    assert files, "this test asks git for the project's files: run it in a clone"
    found = [f"{name}: {hit!r}" for name in files for hit in private.findall((ROOT / name).read_bytes())]
    assert not found


# ------------------------------------------------------------------------------------------------------- fresh processes


def run_python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.process
def test_the_command_line_starts_without_a_heavy_library() -> None:
    heavy = {"torch", "numpy", "fabric", "paramiko", "cryptography", "rich", "yaml"}
    done = run_python("-c", "import sys, fanout.cli.main; print(*{name.partition('.')[0] for name in sys.modules})")
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & heavy
    assert "fanout" in done.stdout.split()


@pytest.mark.process
def test_the_python_api_is_imported_at_its_first_use() -> None:
    code = "import sys, fanout; print(len(sys.modules), 'fanout.api' in sys.modules); fanout.run; print('fanout.api' in sys.modules)"
    before, after = (
        run_python("-S", "-c", "import __future__, sys; print(len(sys.modules))"),
        run_python("-S", "-c", code),
    )
    assert after.returncode == 0, after.stderr
    count, early, late = after.stdout.split()
    assert (early, late) == ("False", "True")
    assert int(count) == int(before.stdout) + 1


@pytest.mark.process
def test_help_is_printed() -> None:
    done = run_python("-m", "fanout", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "fanout run hosts.txt task.py cfg.yaml" in done.stdout


def test_a_module_is_found_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of modules finds one known import, so that the tests above cannot pass on an empty list."""
    found: dict[str, Module] = {module.name: module for module in all_of_fanout()}
    assert "fanout.model.events" in imports_of(found["fanout.model.state"])
    assert len(found) > 200
