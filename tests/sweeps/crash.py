"""The agent with a numbered trap before every statement: the process that reaches the armed one kills itself with SIGKILL.

The product has no hook for this: the sources are taken as they are, and a call is put before each statement of every
function (inside functions only, so that importing is not a step).
"""

from __future__ import annotations

import ast
import importlib.util
import os
import signal
import sys
from pathlib import Path
from types import ModuleType

import fanout.agent

_HERE = Path(fanout.agent.__file__).parent

#: No trap stands here: these read or measure, and no step of a start or of an end is in them.
UNTRAPPED = frozenset(
    {
        "frames",
        "load_monitor",
        "hello",
        "rendezvous",
        "oom_kills",
        "processes",
        "probe_runner",
        "rank_logs",
        "stack_hook",
    }
)


def _list_imported(name: str) -> list[str]:
    """Return the modules of the agent that a module imports, also inside its functions."""
    tree = ast.parse((_HERE / f"{name}.py").read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1]
    return [part for node in found for part in ([node.module] if node.module else [a.name for a in node.names])]


def _in_order(name: str, seen: list[str]) -> list[str]:
    """Append ``name`` to ``seen``, after what it imports; the checks' probes are left out."""
    if name not in seen and not name.startswith("probes") and name != "bundle":
        for part in _list_imported(name):
            _in_order(part, seen)
        seen.append(name)
    return seen


MODULES = tuple(_in_order("relay", []))
STEPPED = tuple(name for name in MODULES if name not in UNTRAPPED)

armed = 0  # the trap that goes off; 0: none


def step(number: int) -> None:
    """Die if this is the statement to die at."""
    if number == armed:
        os.kill(os.getpid(), signal.SIGKILL)


class _Traps(ast.NodeTransformer):
    """Numbers statements on, from ``first``; ``places`` has the place of each."""

    def __init__(self, module: str, first: int) -> None:
        self.module, self.next = module, first
        self.places: dict[int, str] = {}
        self._depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._depth += 1
        node.body = self._insert_traps(node.body)
        self._depth -= 1
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not self._depth:
            return super().generic_visit(node)
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list):
                setattr(node, field, self._insert_traps(statements))
        for handler in getattr(node, "handlers", ()):
            handler.body = self._insert_traps(handler.body)
        return node

    def _insert_traps(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for statement in statements:
            if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                self.places[self.next] = f"{self.module}.py:{statement.lineno}"
                out.append(ast.parse(f"__step__({self.next})").body[0])
                self.next += 1
            out.append(self.visit(statement))
        return out


def _instrument_module(name: str, first: int) -> tuple[ast.Module, dict[int, str]]:
    tree = ast.parse((_HERE / f"{name}.py").read_text(encoding="utf-8"))
    traps = _Traps(name, first)
    tree = ast.fix_missing_locations(traps.visit(tree))
    return tree, traps.places


def list_points() -> dict[int, str]:
    """Return every trap and its place."""
    places: dict[int, str] = {}
    for name in STEPPED:
        places |= _instrument_module(name, len(places) + 1)[1]
    return places


def load_agent() -> ModuleType:
    """Load the relay, and through it an agent full of traps."""
    first = 1
    for name in MODULES:
        full = f"fanout.agent.{name}"
        spec = importlib.util.spec_from_loader(full, loader=None)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        module.__dict__.update(__step__=step, __package__="fanout.agent")
        sys.modules[full] = module
        setattr(fanout.agent, name, module)
        if name in STEPPED:
            tree, places = _instrument_module(name, first)
            first += len(places)
        else:
            tree = ast.parse((_HERE / f"{name}.py").read_text(encoding="utf-8"))
        exec(compile(tree, f"{name}.py", "exec"), module.__dict__)
    return sys.modules["fanout.agent.relay"]
