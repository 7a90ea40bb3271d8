"""Job: what a scheduler needs to know about a launch plan. Pure.

A scheduler gives every host the same resources and the same command. So a plan whose hosts differ cannot be exported.
The ranks, addresses and counts of the plan are replaced by the variables that the scheduler sets on each host.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fanout.model.credentials import is_secret
from fanout.model.errors import UsageError
from fanout.model.frozen import frozen
from fanout.model.plan import EnvValue, LaunchPlan, NodePlan
from fanout.model.plan_text import render_export
from fanout.text.sanitize import to_single_line

CONTRACT = ("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "NPROC_PER_NODE")
_TORCHRUN_FLAGS = (
    ("--nnodes", "NNODES"),
    ("--nproc-per-node", "NPROC_PER_NODE"),
    ("--node-rank", "NODE_RANK"),
    ("--master-addr", "MASTER_ADDR"),
    ("--master-port", "MASTER_PORT"),
)
_OF_ONE_HOST = frozenset(("PET_LOCAL_ADDR", "CUDA_VISIBLE_DEVICES", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"))


@frozen
class Job:
    """A launch plan without its hosts.

    ``nproc`` is the number of ranks per host and ``gpus`` the number of GPUs per host; None: the plan does not know.
    ``head`` is shell text that starts the task; the words of ``task`` follow it. ``secrets`` are names of variables
    that the user must provide. ``left_out`` are exports that belong to single hosts.
    """

    name: str
    nodes: int
    nproc: int | None
    gpus: int | None
    port: int
    directory: str
    head: str
    task: tuple[str, ...]
    exports: tuple[tuple[str, EnvValue], ...]
    secrets: tuple[str, ...]
    left_out: tuple[str, ...]
    command: str  # the command line that wrote the job
    seconds: float | None  # time limit

    def without_local_paths(self) -> Job:
        """Return the job without exports that depend on a path of the hosts, for machines that are made for the job."""
        exports = tuple(item for item in self.exports if isinstance(item[1], str) or not item[1].only_if)
        return replace(self, exports=exports)

    def fill_variables(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return the shell text of the contract: the scheduler's ``variables``, with the port and the known count of ranks."""
        known = {"NPROC_PER_NODE": str(self.nproc)} if self.nproc is not None else {}
        return {**variables, **known, "MASTER_PORT": str(self.port)}

    def build_script(self, variables: Mapping[str, str], words: str) -> str:
        """Return the shell script of one host, which becomes the task. ``words`` is the shell text of its arguments.

        ``variables`` has the shell text of each variable of the contract.
        """
        return "\n".join([*self.list_exports(variables), f"exec {self.head} {words}"])

    def list_exports(self, variables: Mapping[str, str]) -> list[str]:
        """Return the lines of shell that export the variables of the contract, then those of the plan."""
        lines = [f"export {name}={variables[name]}" for name in CONTRACT if name in variables]
        return lines + [render_export(name, value) for name, value in self.exports]


def build_job(plan: LaunchPlan, *, name: str, gpus: int | None, command: str, seconds: float | None) -> Job:
    """Return the job of the plan. Raises UsageError if its hosts differ in what a scheduler gives to all alike."""
    first = plan.nodes[0]
    if not first.cwd.isprintable():
        raise UsageError(f"the name of the work directory {first.cwd!r} has a control character")
    _check_equal(plan, "slots", [node.nproc for node in plan.nodes])
    _check_equal(plan, "work directory", [node.cwd for node in plan.nodes])
    secrets = {
        key for node in plan.nodes for key, value in node.env if isinstance(value, str) and is_secret(key, value)
    }
    shared = [item for item in first.env if all(item in node.env for node in plan.nodes)]
    own = {(node.host.name, key) for node in plan.nodes for key, value in node.env if (key, value) not in shared}
    names = [(key, value) for key, value in shared if key not in secrets and not _is_of_launcher(key)]
    head, task = _split_command(first, plan.task)
    return Job(
        name=re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-") or "train",
        nodes=len(plan.nodes),
        nproc=first.nproc,
        gpus=gpus if gpus is not None else first.nproc,
        port=plan.master_port,
        directory=first.cwd,
        head=head,
        task=task,
        exports=tuple((key, value) for key, value in names if key not in _OF_ONE_HOST),
        secrets=tuple(sorted(secrets)),
        left_out=tuple(f"{host}: {key}" for host, key in sorted(own) if _is_lost(key, secrets)),
        command=command,
        seconds=seconds,
    )


def _is_of_launcher(name: str) -> bool:
    """Return whether fanout sets the variable for its own runs, or the scheduler sets it anew."""
    return name in CONTRACT or (name.startswith("FANOUT_") and name != "FANOUT_SETUP")


def _is_lost(name: str, secrets: set[str]) -> bool:
    return not _is_of_launcher(name) and name not in secrets and name != "PET_LOCAL_ADDR"


def _check_equal(plan: LaunchPlan, what: str, values: Sequence[object]) -> None:
    odd = next((index for index, value in enumerate(values) if value != values[0]), None)
    if odd is not None:
        first, other = plan.nodes[0].host.name, plan.nodes[odd].host.name
        raise UsageError(
            f"hosts differ in {what}: {first} has {values[0]}, {other} has {values[odd]}; a scheduler gives all hosts the same",
            hint=f"choose equal hosts with --nodes or --exclude {other}",
        )


def _split_command(node: NodePlan, task: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return (shell text that starts the task, words of the task). torchrun gets the variables of the contract."""
    count = len(task)
    before, words = node.argv[: len(node.argv) - count], node.argv[len(node.argv) - count :]
    return " ".join(_quote_word(word) for word in before), tuple(words)


def _quote_word(word: str) -> str:
    for flag, variable in _TORCHRUN_FLAGS:
        if re.fullmatch(rf"{flag}=\S+", word):
            return f'{flag}="${variable}"'
    return shlex.quote(word)


def make_label(text: str, most: int) -> str:
    """Return a name as Kubernetes and dstack accept it (RFC 1035): a letter, then lower case letters, digits and dashes."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).lstrip("0123456789-")[:most].rstrip("-")
    return name if len(name) > 1 else "train"


def list_head_comments(job: Job, *, secrets: str) -> list[str]:
    """Return the comment lines, without their marks, that stand at the top of every format."""
    lines = [f"Written by: {to_single_line(job.command)}"]
    if job.secrets:
        lines.append(f"{', '.join(job.secrets)}: {secrets}")
    if job.left_out:
        lines.append(f"Left out, because it belongs to one host: {', '.join(job.left_out)}")
    return lines
