"""The top-level modules that a task imports, read from its source without running it. Pure."""

from __future__ import annotations

import ast
import sys


def of_source(source: str) -> tuple[str, ...]:
    """Modules imported at the top of the file, less the standard library's; none if it does not parse.

    An import inside a function or a ``try`` may be meant to fail: those are left alone.
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return ()
    names: dict[str, None] = {}
    for node in body:
        if isinstance(node, ast.Import):
            names.update((alias.name.partition(".")[0], None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names[node.module.partition(".")[0]] = None
    return tuple(name for name in names if name not in sys.stdlib_module_names)
