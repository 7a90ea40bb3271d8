"""Block-diffusion fine-tuning of a LLaDA2-style model: ``train_llada2_bd.py CONFIG.yaml [--section.field VALUE ...]``.

Started by torchrun (``train.sh``) on every host, or alone as one process. Exit codes: 0 done, 2 a mistake in a file
or an option (one line names it), 75 saved after SIGUSR1, restart it, 130/143 saved and stopped by SIGINT/SIGTERM.
"""

from __future__ import annotations

import sys

import torch.distributed as dist
from llada2 import checks, config, loop, model_config, world
from llada2.errors import UserError


def main(arguments: list[str]) -> int:
    """Run the training, and return the exit code of the process."""
    rank, local_rank = world.from_environment("RANK", 0), world.from_environment("LOCAL_RANK", 0)
    try:
        settings = config.load(arguments, world.from_environment("WORLD_SIZE", 1))
        shape, warnings = model_config.load(settings.model.config_path)
        checks.check_length(settings, shape)
        if rank == 0:
            for kind, lines in (("warning", (*settings.warnings, *warnings)), ("note", settings.remarks)):
                for line in lines:
                    print(f"{kind}: {line}", file=sys.stderr, flush=True)
        train = settings.train
        here = world.join(train.device, train.timeout_s, offload=train.enable_fsdp_offload)
        code = loop.train(settings, shape, here)
    except UserError as error:
        # If all ranks have the same mistake, rank 0 reports it; if only another host has it, that host reports it.
        if rank == 0:
            print(f"error: {error}", file=sys.stderr, flush=True)
        elif local_rank == 0 and not dist.is_initialized():
            print(f"error (rank {rank}): {error}", file=sys.stderr, flush=True)
        code = 2
    if dist.is_initialized():
        world.leave()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
