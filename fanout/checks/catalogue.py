"""Check catalogue: all checks in the order of the report. A module of its own, because importing them takes 35 ms."""

from __future__ import annotations

from fanout.checks import (
    batch,
    code,
    deep,
    deep_speed,
    evidence,
    fabric,
    files,
    gpu,
    gpu_health,
    gpu_links,
    identity,
    interfaces,
    limits,
    loss,
    mesh,
    modules,
    network,
    places,
    rehearsal,
    services,
    software,
    ssh,
    storage,
    system,
    validity,
)
from fanout.checks.model import GROUPS, Check

_ALL_CHECKS = (
    ssh.CHECKS
    + validity.CHECKS
    + identity.CHECKS
    + network.CHECKS
    + mesh.CHECKS
    + loss.CHECKS
    + interfaces.CHECKS
    + fabric.CHECKS
    + files.CHECKS
    + code.CHECKS
    + places.CHECKS
    + storage.CHECKS
    + software.CHECKS
    + modules.CHECKS
    + gpu.CHECKS
    + gpu_health.CHECKS
    + gpu_links.CHECKS
    + limits.CHECKS
    + system.CHECKS
    + services.CHECKS
    + evidence.CHECKS
    + rehearsal.CHECKS
    + batch.CHECKS
    + deep.CHECKS
    + deep_speed.CHECKS
)

CATALOGUE: tuple[Check, ...] = tuple(sorted(_ALL_CHECKS, key=lambda check: GROUPS.index(check.group)))
