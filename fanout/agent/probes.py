"""The questions that a host can be asked, by name, and who answers each; every answer is plain JSON, nothing is changed.

An answer is a dict. A generator answers with its first ``yield`` and then lives on until it is cancelled, killed or
out of time. A host takes in only the modules of the questions that it is asked: their sources are compiled there.
"""

from __future__ import annotations

import os
import time
from importlib import import_module

TYPE_CHECKING = False  # what typing says, without the price of importing it on a host
if TYPE_CHECKING:
    from typing import Any, Callable

_ANSWERED_BY = {
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


def probe(what: str) -> Callable[[dict[str, Any]], Any]:
    """Who answers this question; KeyError for one that nobody knows."""
    module, name = _ANSWERED_BY[what]
    found: Callable[[dict[str, Any]], Any] = getattr(import_module("." + module, __package__), name)
    return found


def ask_clock(args: dict[str, Any]) -> dict[str, Any]:
    """The time here, and who we are: the smallest question there is."""
    return {"time": time.time(), "pid": os.getpid()}
