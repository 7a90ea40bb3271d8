"""What can be asked of a host."""

from __future__ import annotations

PROBES: dict = {}
