"""Probe registry: the questions that a host answers, by name. Every answer is plain JSON, and nothing is changed.

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
    "facts": ("probes_facts", "ask_facts"),
    "clock": ("probes", "ask_clock"),
    "listen": ("probes_port", "ask_listen"),
    "dial": ("probes_port", "ask_dial"),
    "deep-open": ("probes_deep", "opened"),
    "deep-step": ("probes_deep", "stepped"),
    "runs": ("probes_runs", "ask_runs"),
    "clean": ("probes_runs", "ask_clean"),
    "tree": ("probes_tree", "ask_tree"),
    "software": ("probes_soft", "ask_software"),
    "rehearse": ("probes_rehearsal", "ask_rehearse"),
    "share": ("probes_share", "ask_share"),
    "shared": ("probes_share", "ask_shared"),
    "stacks": ("probes_stacks", "ask_stacks"),
    "aftermath": ("probes_aftermath", "ask_aftermath"),
}


def load_probe(what: str) -> Callable[[dict[str, Any]], Any]:
    """Return the function that answers this question. Raises KeyError for an unknown one."""
    module, name = _REGISTRY[what]
    found: Callable[[dict[str, Any]], Any] = getattr(import_module("." + module, __package__), name)
    return found


def ask_clock(args: dict[str, Any]) -> dict[str, Any]:
    """Return the host's time and this process's pid: the smallest question."""
    return {"time": time.time(), "pid": os.getpid()}
