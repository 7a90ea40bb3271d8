"""Import scan: the top-level modules that a task imports, parsed from its source without running it. Pure."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator

from fanout.model.frozen import frozen

_PATH = {("sys", "path"), ("sys", "meta_path"), ("sys", "modules"), ("sys", "path_hooks")}
_CHANGERS = {"site", "importlib", "subprocess", "runpy"}


@frozen
class ModuleImports:
    """Modules imported at the top of a file; those in ``unsure`` come after a change of the search path.

    ``members`` are the names that it takes from modules, as ``MODULE:NAME``.
    """

    names: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    unsure: frozenset[str] = frozenset()


def find_imports(source: str, changes_path: Callable[[str], bool] = lambda name: False) -> ModuleImports:
    """Return the imports of a file; none if it does not parse.

    An import inside a function or a ``try`` may be meant to fail and is ignored. ``changes_path`` returns whether a
    module of the project changes the search path when it is imported.
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return ModuleImports()
    names: dict[str, None] = {}
    members: list[str] = []
    unsure: set[str] = set()
    changed = False
    for node in body:
        for name in _iterate_module_names(node):
            names[name] = None
            if changed:
                unsure.add(name)
            changed = changed or changes_path(name)
        members += () if changed else _list_members(node)
        changed = changed or is_changing_search_path(node)
    return ModuleImports(names=tuple(names), members=tuple(members), unsure=frozenset(unsure))


def _iterate_module_names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.partition(".")[0]


def _list_members(node: ast.stmt) -> list[str]:
    """Return the names that a ``from`` import takes from its module, as ``MODULE:NAME``."""
    if not isinstance(node, ast.ImportFrom) or not node.module or node.level:
        return []
    return [f"{node.module}:{alias.name}" for alias in node.names if alias.name != "*"]


def is_changing_search_path(tree: ast.AST) -> bool:
    """Return whether code names an object that decides where modules are found, such as ``sys.path``."""
    for node in ast.walk(tree):
        named = node.value if isinstance(node, ast.Attribute) else None
        if isinstance(node, ast.Attribute) and isinstance(named, ast.Name) and _is_search_path(named.id, node.attr):
            return True
        if isinstance(node, ast.ImportFrom) and any((node.module, alias.name) in _PATH for alias in node.names):
            return True
    return False


def _is_search_path(module: str, name: str) -> bool:
    return (module, name) in _PATH or module in _CHANGERS


def is_standard_module(name: str) -> bool:
    """Return whether a module belongs to the standard library of this Python."""
    return name in sys.stdlib_module_names


def list_module_questions(module: str) -> tuple[str, ...]:
    """Return the names that a host looks up for ``-m MODULE``: its package, and the program that Python would run."""
    return (module.partition(".")[0], f"{module}.__main__") if module else ()
