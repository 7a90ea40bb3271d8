"""Containers that fanout created for runs of this user on this host: found by label or name, and removed if they do not run.

A container that runs ends by itself with its run (``container_holder.py``), so it is never removed here.
"""

from __future__ import annotations

import os

from .. import processes, smi
from . import apptainer_instances
from .probe_tools import FactUnavailable, ToolProcess

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

ENGINES = ("docker", "podman")
SECONDS = 5.0
MOST_BYTES = 4 << 20  # of the list of all containers of a user
FORMAT = "{{.Names}} {{.State}}"
ENDED = ("created", "configured", "exited", "stopped", "dead")  # each other state counts as running


def list_containers() -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the containers, and engine -> why it could not be asked."""
    found: list[dict[str, Any]] = []
    silent: dict[str, str] = {}
    labels = ["label=fanout.run", "label=fanout.user=%d" % os.getuid()]
    asked = []
    instances, why = apptainer_instances.list_instances()
    found += instances
    if why:
        silent[apptainer_instances.ENGINE] = why
    for name in ENGINES:
        tool = find_engine(name)
        if tool and (name != "podman" or may_have_container()):
            words = [word for label in labels for word in ("--filter", label)]
            asked.append((name, start_tool([tool, "ps", "-a", *words, "--format", FORMAT])))
    for name, process in asked:
        try:
            status, text = process.get_output()
        except FactUnavailable as error:
            silent[name] = str(error)
            continue
        if status:
            silent[name] = (text.strip().splitlines() or ["exit status %d" % status])[-1][:200]
            continue
        for line in text.splitlines():
            words = line.lower().split()
            if len(words) > 1 and words[0].startswith("fanout-"):
                state = "running" if words[1] == "up" else words[1]  # podman 4.3 writes Up
                found.append({"engine": name, "name": words[0], "state": state, "runs": state not in ENDED})
    return found, silent


def may_have_container() -> bool:
    """Return whether podman may have a container of fanout, without a start of podman.

    The podman of a user other than root leaves a process that keeps the user's namespaces. So only a user who has such
    a container gets one. Its storage names all containers (containers/storage, container.go).
    """
    if os.getuid() == 0:
        return True
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    storage = os.path.join(data, "containers", "storage")
    try:
        drivers = [name for name in os.listdir(storage) if name.endswith("-containers")]
    except OSError:
        return False
    files = [os.path.join(storage, name, kind + "containers.json") for name in drivers for kind in ("", "volatile-")]
    return any('"fanout-' in processes.read_text(path, MOST_BYTES) for path in files)


def remove_containers(wanted: list[list[str]]) -> None:
    """Remove those of ``wanted``, [engine, name], that do not run. The engine itself refuses to remove a running one."""
    for entry in list_containers()[0]:
        if [entry["engine"], entry["name"]] in wanted and not entry["runs"]:
            if entry["engine"] == apptainer_instances.ENGINE:
                apptainer_instances.remove_instance(str(entry["name"]))
                continue
            try:
                start_tool([find_engine(entry["engine"]), "rm", entry["name"]]).get_output()
            except FactUnavailable:
                continue  # the next list shows it


def find_engine(name: str) -> str:
    """Return the path of an engine's program on the PATH of the login; "" if it is not there."""
    return smi.find_tool((name,), os.environ.get("PATH") or os.defpath)[1]


def start_tool(argv: list[str]) -> ToolProcess:
    """Start a call of an engine, which may take SECONDS."""
    return ToolProcess(argv, dict(os.environ, LC_ALL="C"), SECONDS)
