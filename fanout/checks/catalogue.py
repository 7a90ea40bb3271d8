"""All checks, in the order of the report; apart from the package, because to load them takes 35 ms."""

from __future__ import annotations

from fanout.checks import (
    batch,
    deep,
    deep_speed,
    files,
    gpu,
    gpu_health,
    identity,
    interfaces,
    mesh,
    network,
    rehearsal,
    software,
    ssh,
    storage,
    system,
)
from fanout.checks.model import Check

CATALOGUE: tuple[Check, ...] = (
    ssh.CHECKS
    + identity.CHECKS
    + network.CHECKS
    + mesh.CHECKS
    + interfaces.CHECKS
    + files.CHECKS
    + storage.CHECKS
    + software.CHECKS
    + gpu.CHECKS
    + gpu_health.CHECKS
    + system.CHECKS
    + rehearsal.CHECKS
    + batch.CHECKS
    + deep.CHECKS
    + deep_speed.CHECKS
)
