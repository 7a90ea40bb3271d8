"""Automatic GPU driver upgrades: whether Debian's unattended upgrades are on, and which driver packages are free."""

from __future__ import annotations

import glob
import re

from .probe_tools import read_or_empty

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

_SETTINGS = "/etc/apt/apt.conf.d"
_PACKAGES = "/var/lib/dpkg/status"
_LARGEST = 64 << 20
_DRIVER = re.compile(
    rb"^Package: ((?:nvidia-(?:driver|dkms|headless|utils|kernel|open)|libnvidia-compute|linux-modules-nvidia|cuda-drivers)\b\S*)\n"
    rb"Status: (\w+) ok installed$",
    re.MULTILINE,
)


def find_upgrades(args: dict[str, Any]) -> dict[str, Any]:
    """Return ``unattended``: they are on; ``free``: the driver packages that they may replace. Only files are read."""
    if not _is_unattended():
        return {"unattended": False, "free": []}
    try:
        with open(_PACKAGES, "rb") as file:
            listed = file.read(_LARGEST)
    except OSError:
        return {"unattended": False, "free": []}
    free = [name.decode("utf-8", "replace") for name, selection in _DRIVER.findall(listed) if selection != b"hold"]
    return {"unattended": True, "free": sorted(free)[:64]}


def _is_unattended() -> bool:
    """Return whether upgrades are on and do not exclude NVIDIA's packages. Later files win, as in apt."""
    on, barred = False, False
    for path in sorted(glob.glob(_SETTINGS + "/*")):
        text = re.sub(r"(?m)^\s*(//|#).*$", "", read_or_empty(path))
        for value in re.findall(r'APT::Periodic::Unattended-Upgrade\s+"([^"]*)"', text):
            on = value not in ("", "0")
        for names in re.findall(r"Unattended-Upgrade::Package-Blacklist\s*\{([^}]*)\}", text):
            barred = barred or "nvidia" in names
    return on and not barred
