"""The checks as tables: what to ask, how to judge all hosts together, what to advise. Pure."""

from __future__ import annotations

from fanout.checks import files, gpu, identity, network, software, ssh
from fanout.checks.model import Check

CATALOGUE: tuple[Check, ...] = (
    ssh.CHECKS + identity.CHECKS + network.CHECKS + files.CHECKS + software.CHECKS + gpu.CHECKS
)
