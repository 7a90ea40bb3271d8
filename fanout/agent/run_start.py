"""Environment of train.sh: the plan's entries, one log file per rank, and the hook that reads the stacks of ranks."""

from __future__ import annotations

import os

from . import spawn

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Optional

    from .rank_logs import RankLogs


def prepare_environment(spec: dict, directory: str, env: dict) -> tuple[dict, Optional[RankLogs], str]:
    """Return the environment, the logs of the ranks (None without them), and why there are none.

    It may wait for a file server.
    """
    environment = spawn.build_environment(dict(os.environ), env, spec["cwd"])
    ranks, notice = None, ""
    if spec.get("first_rank", -1) >= 0:
        from . import rank_logs  # hosts that do not need it do not compile it

        ranks, notice = rank_logs.follow_ranks(directory, spec["first_rank"], environment)
    if spec["settings"]["stacks"] != "off":
        from . import stack_hook  # likewise

        stack_hook.install_hook(environment, directory)
    return environment, ranks, notice
