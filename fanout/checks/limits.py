"""Checks of what a login may use: files, processes, stack, memory, locked memory. train.sh inherits all of them."""

from __future__ import annotations

from collections.abc import Iterator

from fanout.checks.compare import nccl, numbers, size
from fanout.checks.model import Case, Check, Verdict, skip, warn

_FILES = 4096
_PROCESSES = 4096  # and threads: eight ranks with as many data loaders, OpenMP's and NCCL's threads in each
_STACK_IS_FINE = (2, 28)  # NCCL before that takes an unlimited stack for its threads' size, and dies


def _open_files(case: Case) -> Iterator[Verdict]:
    for name, limits in case.of("limits").items():
        if 0 <= limits["nofile"] < _FILES:
            yield warn(
                name, f"at most {limits['nofile']} open files a process",
                "data loaders and NCCL need more: put  ulimit -n 65536  into train.sh, or raise it in /etc/security/limits.conf",
            )  # fmt: skip


def _locked_memory(case: Case) -> Iterator[Verdict]:
    for name, limits in case.of("limits").items():
        if not case.facts[name]["infiniband"]:
            yield skip(name, "no InfiniBand")
        elif limits["memlock"] != -1:
            yield warn(
                name, f"at most {size(limits['memlock'])} of locked memory, InfiniBand needs it unlimited",
                "add  * soft memlock unlimited  and  * hard memlock unlimited  to /etc/security/limits.conf there, then log in anew",
            )  # fmt: skip


def _capped(case: Case) -> Iterator[Verdict]:
    for name, memory in case.of("memory").items():
        if memory["cap"] and memory["cap"] < 0.8 * memory["total"]:
            yield warn(
                name, f"a login may use {size(memory['cap'])} of {size(memory['total'])} memory (control group)",
                f"beyond it the kernel kills the run: see  {case.on(name, 'systemctl show user.slice -p MemoryMax')}",
            )  # fmt: skip
        limits = case.facts[name].get("limits", {})
        if limits.get("as", -1) != -1:
            yield warn(
                name,
                f"a process may map {size(limits['as'])} at most (ulimit -v)",
                "CUDA maps more than that: remove the limit",
            )


def _processes(case: Case) -> Iterator[Verdict]:
    for name, limits in case.of("limits").items():
        cap = case.facts[name]["memory"]["pids_cap"]
        if 0 <= limits["nproc"] < _PROCESSES:
            yield warn(
                name, f"at most {limits['nproc']} processes and threads of this user (ulimit -u)",
                "put  ulimit -u 65536  into train.sh, or raise nproc in /etc/security/limits.conf",
            )  # fmt: skip
        elif 0 < cap < _PROCESSES:
            yield warn(
                name, f"at most {cap} processes and threads in the login's control group (pids.max)",
                f"“Resource temporarily unavailable” beyond it: see  {case.on(name, 'systemctl show user.slice -p TasksMax')}   "
                "(a container: --pids-limit)",
            )  # fmt: skip


def _stack(case: Case) -> Iterator[Verdict]:
    for name, limits in case.of("limits").items():
        installed = nccl(case.facts[name]["software"]["packages"])
        version = numbers(installed)
        if not version or not case.of("gpu"):
            yield skip(name, "no NCCL package beside torch" if not version else "no GPU")
        elif limits["stack"] == -1 and version < _STACK_IS_FINE:
            yield warn(
                name, f"the stack is unlimited (ulimit -s), which NCCL {installed} does not bear",
                "a segmentation fault in libnccl: put  ulimit -s 8192  into train.sh",
            )  # fmt: skip


CHECKS = (
    Check(
        name="open-files", group="system", worst="warn", needs=("limits",),
        verifies=f"A process may open {_FILES} files or more.",
        why="Data loaders share tensors by descriptors, NCCL opens sockets by the hundred: “Too many open files”.",
        fix="ulimit -n 65536 in train.sh, or nofile in /etc/security/limits.conf.",
        judge=_open_files,
    ),
    Check(
        name="locked-memory", group="system", worst="warn", needs=("limits", "infiniband"),
        verifies="Locked memory is unlimited where there is InfiniBand.",
        why="NCCL registers its buffers; the default of 8 MB ends in “ibv_reg_mr failed”.",
        fix="memlock unlimited in /etc/security/limits.conf; sshd needs UsePAM yes for it.",
        judge=_locked_memory,
    ),
    Check(
        name="memory-cap", group="system", worst="warn", needs=("memory",),
        verifies="No control group and no limit cuts the login's memory below 80 % of the machine's.",
        why="The kernel kills the run at the cap, while the machine has memory to spare.",
        fix="Raise MemoryMax of user.slice, or remove ulimit -v.",
        judge=_capped,
    ),
    Check(
        name="processes", group="system", worst="warn", needs=("limits", "memory"),
        verifies=f"The user and the login's control group may have {_PROCESSES} processes and threads or more.",
        why="Data loaders, OpenMP and NCCL start threads by the hundred: “Resource temporarily unavailable”.",
        fix="ulimit -u 65536 in train.sh, TasksMax of user.slice, or --pids-limit of the container.",
        judge=_processes,
    ),
    Check(
        name="stack", group="system", worst="warn", needs=("limits", "software"),
        verifies="The stack is limited, where NCCL is older than 2.28.",
        why="Those take “unlimited” for the size of their threads' stacks: a segmentation fault in libnccl.",
        fix="ulimit -s 8192 in train.sh.",
        judge=_stack,
    ),
)  # fmt: skip
