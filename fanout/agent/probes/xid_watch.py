"""Xid errors of each GPU since boot: read once, and then again only if that costs little."""

from __future__ import annotations

import os
import time

from . import xid
from .probe_tools import FactUnavailable

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Dict

EVERY_SECONDS = 60.0
COST_FACTOR = 200.0


class XidWatch:
    """The last Xid errors, by PCI address. ``problem`` is why they are unknown, or ""."""

    def __init__(self, path: str) -> None:
        self._path, self._next = path, 0.0
        self._found: dict[str, dict[str, Any]] = {}
        self.problem = ""

    def add_xids(self, gpus: Dict[str, Dict[str, Any]]) -> None:
        """Add the last error of each GPU to its entry: ``xid``, ``xid_text`` and ``xid_at``, which is Unix time."""
        if not any(gpu.get("pci") for gpu in gpus.values()):
            return
        if time.monotonic() >= self._next:
            self._read_log()
        for gpu in gpus.values():
            gpu.update(self._found.get(shorten_pci(gpu.get("pci") or ""), {}))

    def _read_log(self) -> None:
        began, used = time.monotonic(), sum(os.times()[:4])
        try:
            errors = xid.read_xids(self._path)
            self.problem = ""
        except FactUnavailable as error:
            errors, self.problem = [], str(error)
        for entry in errors:
            at = None if entry["ago"] is None else round(time.time() - entry["ago"], -1)
            place = shorten_pci(entry["pci"])
            known = self._found.get(place)
            if known is None or known["xid"] != entry["xid"] or at is None or at > (known["xid_at"] or 0) + 20:
                self._found[place] = {"xid": entry["xid"], "xid_text": entry["text"], "xid_at": at}
        cost = sum(os.times()[:4]) - used
        self._next = began + max(EVERY_SECONDS, COST_FACTOR * cost)


def shorten_pci(address: str) -> str:
    """Return bus and device of a PCI address in any notation: ``3b:00`` of ``00000000:3B:00.0`` and of ``0000:3b:00``."""
    domain, _, rest = address.lower().partition(":")
    return "%x:%s" % (int(domain, 16) if domain and not domain.strip("0123456789abcdef") else 0, rest.partition(".")[0])
