"""Checks of a login's limits: files, processes, stack, memory, locked memory. train.sh inherits all of them."""

from __future__ import annotations

from collections.abc import Iterator

from fanout.checks.engine.comparison import find_nccl_version, parse_version
from fanout.checks.engine.definition import Check, CheckContext, CheckResult, skip, warn
from fanout.text.units import format_binary_size

_FILES = 4096
_PROCESSES = 4096  # and threads: eight ranks with eight data loaders each, and the threads of OpenMP and NCCL
_STACK_IS_FINE = (2, 28)  # older NCCL uses an unlimited stack as the size of its threads' stacks, and crashes


def _judge_open_files(case: CheckContext) -> Iterator[CheckResult]:
    for name, limits in case.get_section("limits").items():
        if 0 <= limits["nofile"] < _FILES:
            yield warn(
                name,
                f"at most {limits['nofile']} open files per process",
                "data loaders and NCCL need more: add  ulimit -n 65536  to train.sh, or "
                + case.choose_cure(name, "--ulimit nofile=65536", "raise it in /etc/security/limits.conf"),
            )


def _judge_locked_memory(case: CheckContext) -> Iterator[CheckResult]:
    for name, limits in case.get_section("limits").items():
        if not case.facts[name]["infiniband"]:
            yield skip(name, "no InfiniBand")
        elif limits["memlock"] != -1:
            yield warn(
                name,
                f"at most {format_binary_size(limits['memlock'])} of locked memory, but InfiniBand needs it unlimited",
                case.choose_cure(
                    name,
                    "--ulimit memlock=-1",
                    "add  * soft memlock unlimited  and  * hard memlock unlimited  to /etc/security/limits.conf there, then log in again",
                ),
            )


def _judge_memory_cap(case: CheckContext) -> Iterator[CheckResult]:
    for name, memory in case.get_section("memory").items():
        if memory["cap"] and memory["cap"] < 0.8 * memory["total"]:
            yield warn(
                name,
                f"a login may use {format_binary_size(memory['cap'])} of {format_binary_size(memory['total'])} memory (control group)",
                "above this limit the kernel kills the run: "
                + case.choose_cure(
                    name,
                    "a larger --memory",
                    f"see  {case.format_remote_command(name, 'systemctl show user.slice -p MemoryMax')}",
                ),
            )
        limits = case.facts[name].get("limits", {})
        if limits.get("as", -1) != -1:
            yield warn(
                name,
                f"a process may map at most {format_binary_size(limits['as'])} (ulimit -v)",
                "CUDA maps more than that: remove the limit",
            )


def _judge_processes(case: CheckContext) -> Iterator[CheckResult]:
    for name, limits in case.get_section("limits").items():
        cap = case.facts[name]["memory"]["pids_cap"]
        if 0 <= limits["nproc"] < _PROCESSES:
            yield warn(
                name,
                f"at most {limits['nproc']} processes and threads of this user (ulimit -u)",
                "add  ulimit -u 65536  to train.sh, or "
                + case.choose_cure(name, "--ulimit nproc=65536", "raise nproc in /etc/security/limits.conf"),
            )
        elif 0 < cap < _PROCESSES:
            yield warn(
                name,
                f"at most {cap} processes and threads in the login's control group (pids.max)",
                "“Resource temporarily unavailable” above this limit: "
                + case.choose_cure(
                    name,
                    "--pids-limit -1",
                    f"see  {case.format_remote_command(name, 'systemctl show user.slice -p TasksMax')}",
                ),
            )


def _judge_stack(case: CheckContext) -> Iterator[CheckResult]:
    for name, limits in case.get_section("limits").items():
        installed = find_nccl_version(case.facts[name]["software"]["packages"])
        version = parse_version(installed)
        if not version or not case.get_section("gpu"):
            yield skip(name, "no NCCL package beside torch" if not version else "no GPU")
        elif limits["stack"] == -1 and version < _STACK_IS_FINE:
            yield warn(
                name,
                f"the stack is unlimited (ulimit -s), which crashes NCCL {installed}",
                "it ends in a segmentation fault in libnccl: add  ulimit -s 8192  to train.sh",
            )


CHECKS = (
    Check(
        name="open-files", group="system", worst="warn", needs=("limits",),
        verifies=f"A process may open {_FILES} files or more.",
        why="Data loaders share tensors by file descriptors, and NCCL opens hundreds of sockets: “Too many open files”.",
        fix="Add ulimit -n 65536 to train.sh, or raise nofile in /etc/security/limits.conf.",
        judge=_judge_open_files,
    ),
    Check(
        name="locked-memory", group="system", worst="warn", needs=("limits", "infiniband"),
        verifies="On hosts with InfiniBand, locked memory is unlimited.",
        why="NCCL locks its buffers in memory. With the default limit of 8 MB it fails with “ibv_reg_mr failed”.",
        fix="Set memlock to unlimited in /etc/security/limits.conf; sshd needs UsePAM yes for it.",
        judge=_judge_locked_memory,
    ),
    Check(
        name="memory-cap", group="system", worst="warn", needs=("memory",),
        verifies="No control group and no ulimit restricts the login to less than 80 % of the machine's memory.",
        why="The kernel kills the run at this limit, although the machine has free memory.",
        fix="Raise MemoryMax of user.slice, or remove ulimit -v.",
        judge=_judge_memory_cap,
    ),
    Check(
        name="processes", group="system", worst="warn", needs=("limits", "memory"),
        verifies=f"The user and the login's control group may have {_PROCESSES} processes and threads or more.",
        why="Data loaders, OpenMP and NCCL start hundreds of threads: “Resource temporarily unavailable”.",
        fix="Add ulimit -u 65536 to train.sh, or raise TasksMax of user.slice or --pids-limit of the container.",
        judge=_judge_processes,
    ),
    Check(
        name="stack", group="system", worst="warn", needs=("limits", "software"),
        verifies="If NCCL is older than 2.28, the stack is limited.",
        why="Older NCCL uses “unlimited” as the size of its threads' stacks: a segmentation fault in libnccl.",
        fix="Add ulimit -s 8192 to train.sh.",
        judge=_judge_stack,
    ),
)  # fmt: skip
