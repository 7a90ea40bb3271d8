"""Probe registry: the questions that a host answers, by name. Every answer is plain JSON. Only the questions clean
and sync change files of the user or of ended runs.

An answer is a dict. A generator answers with its first ``yield`` and then lives until it is cancelled, killed or timed
out. A host compiles only the modules of the questions that it receives.
"""

from __future__ import annotations

import os
import time
from importlib import import_module

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Callable

_REGISTRY = {
    "facts": ("facts", "ask_facts"),
    "clock": ("registry", "ask_clock"),
    "listen": ("tcp", "ask_listen"),
    "dial": ("tcp", "ask_dial"),
    "deep-open": ("torch_test", "opened"),
    "deep-step": ("torch_test", "stepped"),
    "runs": ("runs", "ask_runs"),
    "availability": ("availability", "ask_availability"),
    "usage": ("usage", "ask_usage"),
    "clean": ("runs", "ask_clean"),
    "tree": ("source_tree", "ask_tree"),
    "software": ("python_env", "ask_software"),
    "rehearse": ("rehearsal", "ask_rehearse"),
    "share": ("shared_dir", "ask_share"),
    "shared": ("shared_dir", "ask_shared"),
    "stacks": ("stacks", "ask_stacks"),
    "aftermath": ("postmortem", "ask_aftermath"),
    "sync": ("sync", "ask_sync"),
}


def load_probe(what: str) -> Callable[[dict[str, Any]], Any]:
    """Return the function that answers this question. Raises KeyError for an unknown one."""
    module, name = _REGISTRY[what]
    found: Callable[[dict[str, Any]], Any] = getattr(import_module("." + module, __package__), name)
    return found


def ask_clock(args: dict[str, Any]) -> dict[str, Any]:
    """Return the host's time and this process's pid: the smallest question."""
    return {"time": time.time(), "pid": os.getpid()}
