"""Launch plan: the command and environment of every host, complete and frozen before anything starts.

planner.py makes the plan. plan_text.py prints the same value that protocol.py sends, so a dry run shows exactly what will
run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, TypeAlias

from fanout.model.attempt_plan import split_attempt_id
from fanout.model.frozen import frozen
from fanout.model.hosts import Host

# Constant. The user's text is passed in the environment and never becomes part of a shell's source.
SETUP = 'if [ -f "$FANOUT_SETUP" ]; then . "$FANOUT_SETUP"; else eval "$FANOUT_SETUP"; fi || exit; unset FANOUT_SETUP; exec "$@"'


@frozen
class PathList:
    """Directories before and after the host's own value. Relative ones are below the work directory."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    only_if: str = ""  # a path that must exist on the host, or this has no effect


@frozen
class Default:
    """A value that is used only if the host's login sets none."""

    value: str
    only_if: str = ""


EnvValue: TypeAlias = str | PathList | Default


@frozen
class NodePlan:
    """The part of one host. ``nproc`` is None if the host was not asked yet (dry runs only)."""

    host: Host
    rank: int
    nproc: int | None
    cwd: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, EnvValue], ...]
    needs: tuple[str, ...]  # files that must exist before any host starts
    first_rank: int | None = None  # global rank of its first process; None: ranks share one log
    claims: tuple[str, ...]  # port and GPUs that no other run may use on that host at the same time
    run_id: str
    private: frozenset[str] = frozenset()  # exports with values of the user, which no record contains
    holds_claims: bool = False  # after the end, until the next attempt of the run takes them
    before: tuple[str, int] | None = None  # (id, node rank) of the attempt whose claims this one takes

    @property
    def gpu_ids(self) -> tuple[str, ...]:
        """Return the ids of its GPUs in the order of its processes, () if unknown."""
        return tuple(claim[4:] for claim in self.claims if claim.startswith("gpu-"))

    @property
    def process_mark(self) -> tuple[str, ...]:
        """Return the environment entries that mark this run's processes on that host."""
        run_id, attempt = split_attempt_id(self.run_id)
        return (f"FANOUT_RUN_ID={run_id}", f"FANOUT_NODE={self.rank}", f"FANOUT_ATTEMPT={attempt}")


@frozen
class LaunchPlan:
    """The whole run."""

    run_id: str
    task: tuple[str, ...]
    nodes: tuple[NodePlan, ...]
    master_addr: str
    master_port: int
    host_settings: Mapping[str, Any] = field(default_factory=dict)  # by name: the settings that the agent needs
    detached: bool = False  # launched with -d: its launcher has no terminal

    @property
    def world_size(self) -> int | None:
        """Return the number of ranks of all hosts, None if that of a host is unknown."""
        counts = [node.nproc for node in self.nodes if node.nproc is not None]
        return sum(counts) if len(counts) == len(self.nodes) else None

    def node_of(self, name: str) -> NodePlan:
        return next(node for node in self.nodes if node.host.name == name)
