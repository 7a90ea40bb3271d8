"""Run information: what is known of a run before it starts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Facts about a run before it starts. ``ranks`` maps host -> (node rank, number of processes or None).

    ``name`` is what the user calls the run, "" without --name. ``lease`` and ``connect_timeout`` are in seconds, 0 if they
    are not known.
    """

    run_id: str
    title: str
    name: str = ""
    hosts: tuple[str, ...]
    log_dir: str | None = None
    ranks: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    lease: float = 0.0
    connect_timeout: float = 0.0
