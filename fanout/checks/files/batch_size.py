"""Check of the config's batch size against the number of processes."""

from __future__ import annotations

from collections.abc import Iterator

from fanout.checks.engine.definition import Check, CheckContext, CheckResult, ok, skip, warn
from fanout.checks.files import task_config
from fanout.checks.files.config_paths import get_unread_config_reason
from fanout.checks.gpu.accelerators import count_gpus


def _judge_batch_size(case: CheckContext) -> Iterator[CheckResult]:
    found = task_config.find_batch_sizes(case.request.config_values)
    counts = []
    for name in case.hosts:
        host = case.get_host(name)
        counts.append(host.slots if host.slots is not None else len(host.gpus) or count_gpus(case.facts[name]))
    if found is None or not counts or not all(counts):
        yield skip(
            case.hosts,
            "no global and micro batch size in the config" if found is None else "the number of processes is not known",
        )
        return
    whole, micro = found
    world = sum(counts)
    step = world * micro
    if whole % step:
        near = max(step, round(whole / step) * step)
        yield warn(
            case.hosts,
            f"global_batch_size {whole} is not divisible by {world} processes × micro_batch_size {micro}",
            f"use a multiple of {step}, for instance {near}",
        )
    elif whole > step and task_config.is_offload_enabled(case.request.config_values):
        yield warn(
            case.hosts,
            f"enable_fsdp_offload excludes gradient accumulation, but global_batch_size {whole} is"
            f" {world} processes × micro_batch_size {micro} × {whole // step} steps",
            f"use global_batch_size {step}, or enable_fsdp_offload: false",
        )
    else:
        yield ok(case.hosts, f"{whole} = {world} processes × {micro} × {whole // step} steps")


CHECKS = (
    Check(
        name="batch", group="rehearsal", worst="warn", unless=get_unread_config_reason,
        verifies="The config's global batch size is divisible by processes × micro batch size. With enable_fsdp_offload it equals that product.",
        why="Otherwise trainers stop with an assertion, some after they have loaded the model.",
        fix="Choose a multiple of processes × micro batch size. With enable_fsdp_offload choose the product itself.",
        judge=_judge_batch_size,
    ),
)  # fmt: skip
