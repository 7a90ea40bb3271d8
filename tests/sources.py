"""Source files as syntax trees, for the tests that read the code."""

from __future__ import annotations

import ast
import gc
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("fanout", "tasks", "tests", "bench")
DEMO_PROJECT = "fanout/demo/project/"  # a task that the demo's hosts run: fanout never imports it


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One source file: its dotted name, its path below the root, its syntax tree, its number of lines."""

    name: str
    path: str
    tree: ast.Module
    lines: int

    @property
    def parent(self) -> str:
        """Return the dotted name of the package that relative imports start from."""
        return self.name if self.path.endswith("__init__.py") else self.name.rpartition(".")[0]

    @property
    def package(self) -> str:
        """Return ``hostfile`` for fanout/hostfile/parse.py, "" for fanout/__init__.py."""
        return self.name.split(".")[1] if "." in self.name else ""


def read_modules(*folders: str) -> tuple[Module, ...]:
    """Return every source file below the folders."""
    return tuple(module for folder in folders for module in _read_folder(folder))


@cache
def _read_folder(folder: str) -> tuple[Module, ...]:
    """Return every source file below the folder. The collector of garbage ignores the trees: it would read all of them."""
    found = []
    gc.disable()
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        short = path.relative_to(ROOT)
        name = ".".join(short.with_suffix("").parts).removesuffix(".__init__")
        found.append(Module(name=name, path=str(short), tree=ast.parse(text), lines=len(text.splitlines())))
    gc.freeze()
    gc.enable()
    return tuple(found)


@cache
def list_nodes(module: Module) -> tuple[ast.AST, ...]:
    """Return all nodes of the tree."""
    return tuple(ast.walk(module.tree))


def all_of_fanout() -> tuple[Module, ...]:
    """Return every module of fanout, the agent included."""
    return tuple(one for one in read_modules("fanout") if not one.path.startswith(DEMO_PROJECT))


def launcher_modules() -> tuple[Module, ...]:
    """Return fanout without the agent; the module that packs the agent belongs to the launcher."""
    return tuple(one for one in all_of_fanout() if one.package != "agent" or one.name == "fanout.agent.bundle")


def agent_modules() -> tuple[Module, ...]:
    """Return the modules that fanout sends to the hosts."""
    return tuple(one for one in all_of_fanout() if one.package == "agent" and one.name != "fanout.agent.bundle")


@cache
def imports_of(module: Module) -> frozenset[str]:
    """Return the full name of every module that this one imports, anywhere in the file."""
    names = {one.name for one in all_of_fanout()}
    found = set()
    for node in list_nodes(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.parent.split(".")
                base = ".".join(parts[: len(parts) - node.level + 1] + ([base] if base else []))
            inner = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if name in names else base for name in inner}
    return frozenset(found - {"fanout"})


def top_level_imports_of(module: Module) -> set[str]:
    """Return the first part of each imported name."""
    return {name.partition(".")[0] for name in imports_of(module)}


def find_uses(module: Module, *wanted: str) -> Iterator[str]:
    """Yield ``file:line name`` of each use of the dotted names."""
    for line, name in list_dotted_names(module):
        if name in wanted:
            yield f"{module.path}:{line} {name}"


@cache
def list_dotted_names(module: Module) -> tuple[tuple[int, str], ...]:
    """Return (line, name) of each name and attribute that the module uses: ``x.y.z`` is in it as three names."""
    nodes = (node for node in list_nodes(module) if isinstance(node, (ast.Name, ast.Attribute)))
    return tuple((node.lineno, dotted_name(node)) for node in nodes)


def dotted_name(node: ast.expr) -> str:
    """Return ``os.path`` for that expression, "?" for what is not a dotted name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def functions_of(module: Module) -> Iterator[ast.FunctionDef]:
    """Yield every function and method of the module."""
    for node in list_nodes(module):
        if isinstance(node, ast.FunctionDef):
            yield node


def comments_and_docstrings(module: Module) -> list[str]:
    """Return the docstrings and comments of one file."""
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = [ast.get_docstring(node) or "" for node in list_nodes(module) if isinstance(node, nodes)]
    source = (ROOT / module.path).read_text(encoding="utf-8")
    return texts + re.findall(r"(?m)(?:^|\s)#:? (.*)$", source)
