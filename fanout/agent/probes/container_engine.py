"""Container of this host, seen from outside: its engine, its image, its network, and how it got its GPUs.

Only the host's own agent can ask the engine. It asks the engine that has the container, with one call for each answer.
"""

from __future__ import annotations

import json
import os

from . import apptainer_instances
from .created_containers import ENGINES, find_engine, start_tool
from .probe_tools import FactUnavailable

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

_FIRST_GPU = "/dev/char/195:0"  # NVIDIA's major number; systemd's device rules need this link


def examine_container(args: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about ``args["container"]``. Raises FactUnavailable if no engine of this user has it."""
    reasons = []
    for name in args.get("engines") or ENGINES:
        tool = find_engine(name)
        if name == apptainer_instances.ENGINE:
            raise FactUnavailable("apptainer reports no settings and no image digest of an instance")
        if not tool:
            continue
        settings = start_tool([tool, "info", "-f", "{{json .}}"]) if name == "docker" else None
        try:
            found = _ask_engine(tool, "container", args["container"])
        except FactUnavailable as error:
            if settings is not None:
                settings.discard()
            reasons.append("%s: %s" % (name, error))
            continue
        return _describe_container(name, tool, found, parse_answer(settings.get_output()[1]) if settings else {})
    raise FactUnavailable("; ".join(reasons) or "no engine on the PATH of the login")


def _ask_engine(tool: str, kind: str, name: str) -> dict[str, Any]:
    """Return what the engine knows about a container or an image. Raises FactUnavailable."""
    status, text = start_tool([tool, kind, "inspect", name]).get_output()
    if status:
        raise FactUnavailable((text.strip().splitlines() or ["exit status %d" % status])[-1][:200])
    return parse_answer(text)


def parse_answer(text: str) -> dict[str, Any]:
    """Return the object that an engine printed, after its warnings. Raises FactUnavailable."""
    lines = text.splitlines()
    first = next((at for at, line in enumerate(lines) if line[:1] in ("{", "[")), len(lines))
    try:
        found = json.loads("\n".join(lines[first:]))
    except ValueError:
        raise FactUnavailable("its answer is no JSON: %s" % text.strip()[:160]) from None
    found = found[0] if isinstance(found, list) and found else found
    if not isinstance(found, dict):
        raise FactUnavailable("its answer is no JSON object")
    return found


def _describe_container(name: str, tool: str, found: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    image = str(found.get("Image") or "")
    digests: list[Any] = []
    if image:
        try:
            digests = _ask_engine(tool, "image", image).get("RepoDigests") or []
        except FactUnavailable:  # the image was removed while its container runs
            pass
    given = found.get("HostConfig") or {}
    return {
        "engine": name,
        "rootless": _is_rootless(name, settings),
        "image": image,
        "digests": sorted({str(digest).rpartition("@")[2] for digest in digests}),
        "network": str(given.get("NetworkMode") or ""),
        "cgroup_driver": str(settings.get("CgroupDriver") or given.get("CgroupManager") or ""),
        "gpu_hook": has_gpu_hook(given),
        "gpu_links": os.path.exists(_FIRST_GPU),
    }


def _is_rootless(name: str, settings: dict[str, Any]) -> bool:
    if name == "podman":
        return os.getuid() != 0
    return any("rootless" in str(option) for option in settings.get("SecurityOptions") or ())


def has_gpu_hook(given: dict[str, Any]) -> bool:
    """Return whether NVIDIA's hook put GPUs into the container at its start, without the knowledge of the engine."""
    requests = [request for request in given.get("DeviceRequests") or () if isinstance(request, dict)]
    asked = [request for request in requests if "gpu" in str(request.get("Capabilities")).lower()]
    return given.get("Runtime") == "nvidia" or any(request.get("Driver") != "cdi" for request in asked)
