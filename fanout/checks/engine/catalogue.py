"""Check catalogue: all checks in the order of the report. A module of its own, because importing them takes 35 ms."""

from __future__ import annotations

from fanout.checks import container_setup, identity
from fanout.checks.deep import torch_speed, torch_start
from fanout.checks.engine.definition import GROUPS, Check
from fanout.checks.files import batch_size, config_paths, input_files, source_code, storage
from fanout.checks.gpu import accelerators, gpu_health, gpu_links
from fanout.checks.network import infiniband, interfaces, master_port, mesh, packet_loss
from fanout.checks.rehearsal import detached, train_sh
from fanout.checks.software import programs, task_modules
from fanout.checks.ssh import access, invalid_answers
from fanout.checks.system import failure_evidence, limits, machine, services

_ALL_CHECKS = (
    access.CHECKS
    + invalid_answers.CHECKS
    + container_setup.CHECKS
    + identity.CHECKS
    + master_port.CHECKS
    + mesh.CHECKS
    + packet_loss.CHECKS
    + interfaces.CHECKS
    + infiniband.CHECKS
    + input_files.CHECKS
    + source_code.CHECKS
    + config_paths.CHECKS
    + storage.CHECKS
    + programs.CHECKS
    + task_modules.CHECKS
    + accelerators.CHECKS
    + gpu_health.CHECKS
    + gpu_links.CHECKS
    + limits.CHECKS
    + machine.CHECKS
    + services.CHECKS
    + failure_evidence.CHECKS
    + train_sh.CHECKS
    + detached.CHECKS
    + batch_size.CHECKS
    + torch_start.CHECKS
    + torch_speed.CHECKS
)

CATALOGUE: tuple[Check, ...] = tuple(sorted(_ALL_CHECKS, key=lambda check: GROUPS.index(check.group)))
