"""Instances of apptainer that fanout created for runs of this user on this host: listed, and removed if nothing holds them.

apptainer has no labels, so the name of an instance carries the run. Its first process does not end by itself. A shell
beside it stops it when it is empty, and has its name as an argument (``model/instance_creation.py``). An instance without
that shell and without a process of its run is left behind.
"""

from __future__ import annotations

import json
import os

from .. import processes, smi
from .probe_tools import FactUnavailable, ToolProcess, read_start

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

ENGINE = "apptainer"
PROGRAMS = ("apptainer", "singularity")
SECONDS = 15.0  # a stop may take 10 s
PREFIX, HOLDER = "fanout-", "fanout-holder"


def list_instances() -> tuple[list[dict[str, Any]], str]:
    """Return the instances, and why apptainer could not be asked, "" if it answered or is not installed."""
    tool = _find_program()
    if not tool:
        return [], ""
    try:
        status, text = _start_program([tool, "instance", "list", "--json"]).get_output()
    except FactUnavailable as error:
        return [], str(error)
    if status:
        return [], (text.strip().splitlines() or ["exit status %d" % status])[-1][:200]
    try:
        entries = json.loads(text[text.find("{") :]).get("instances") or []
        names = [str(entry["instance"]) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError):
        return [], "its answer is no list of instances"
    return [_describe_instance(name) for name in names if name.startswith(PREFIX)], ""


def _describe_instance(name: str) -> dict[str, Any]:
    run = name[len(PREFIX) :]  # each attempt of the run has an id that begins with it
    runs = _has_holder(name) or any(processes.read_mark(pid)[0].startswith(run) for pid in processes.list_pids())
    return {"engine": ENGINE, "name": name, "state": "running" if runs else "abandoned", "runs": runs}


def remove_instance(name: str) -> None:
    """Stop an instance that nothing holds. Look again before: its state may have changed."""
    found, _ = list_instances()
    if any(entry["name"] == name and not entry["runs"] for entry in found):
        try:
            _start_program([_find_program(), "instance", "stop", "-F", name]).get_output()
        except FactUnavailable:
            pass  # the next list shows it


def _has_holder(name: str) -> bool:
    """Return whether the shell that stops this instance when it is empty is alive."""
    for pid in processes.list_pids():
        try:
            words = read_start("/proc/%d/cmdline" % pid).split("\0")
        except OSError:
            continue
        if HOLDER in words and name in words:
            return True
    return False


def _find_program() -> str:
    return smi.find_tool(PROGRAMS, os.environ.get("PATH") or os.defpath)[1]


def _start_program(argv: list[str]) -> ToolProcess:
    return ToolProcess(argv, dict(os.environ, LC_ALL="C"), SECONDS)
