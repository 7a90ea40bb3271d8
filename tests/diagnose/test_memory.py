"""Memory as a cause: only if the OOM killer killed a process of this run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fanout.model import outcome
from fanout.model.events import Exited
from fanout.ui.status_messages import describe_exit
from tests.diagnose.kit import Run, verdict


def ended(code: int | None, signal: int | None, *, oom: bool) -> Run:
    run = Run()
    run.end_hosts("gpu01", "gpu02", code=code, signal=signal)
    run.events = [
        replace(each, oom=oom) if isinstance(each, Exited) and each.host == "gpu01" else each for each in run.events
    ]
    run.pass_time(0.5).release_hosts(*run.hosts)
    return run


@pytest.mark.parametrize(("code", "signal", "oom", "reason"), [
    (0, None, True, "exit 0"),  # the script continued well: memory is not mentioned
    (5, None, False, "exit 5"),
    (5, None, True, "exit 5 (out of memory: the kernel killed a process of this run)"),
    (None, 9, True, "killed by SIGKILL (out of memory: the kernel killed a process of this run)"),
])  # fmt: skip
def test_the_end_of_a_host_mentions_memory_only_if_that_ended_it(
    code: int | None, signal: int | None, oom: bool, reason: str
) -> None:
    state = ended(code, signal, oom=oom).play_events()
    assert outcome.outcome_of(state).hosts[0].reason == reason
    assert ("out of memory" in describe_exit(state.hosts["gpu01"])) is ("memory" in reason)


def killed_rank(*, oom: bool, kernel_pid: int | None = None) -> Run:
    run = Run().victims(0, 1, 3)
    if kernel_pid is not None:
        run.out(2, f"Out of memory: Killed process {kernel_pid} (python3) total-vm:81234567kB, anon-rss:61234567kB")
    run.torchrun("gpu02", (2, -9), (3, 1)).torchrun("gpu01", (0, 1), (1, -15))
    run.events = [
        replace(each, oom=oom) if isinstance(each, Exited) and each.host == "gpu02" else each for each in run.events
    ]
    return run


@pytest.mark.parametrize(("oom", "kernel_pid", "signature"), [
    (False, None, "signal"),  # a person's kill -9
    (False, 4711, "signal"),  # the kernel killed a process of another user
    (False, 20_002, "kernel-oom"),  # the kernel names the rank
    (True, None, "kernel-oom"),  # the host counted a process of this run
])  # fmt: skip
def test_a_killed_rank_had_no_memory_only_if_that_is_known(oom: bool, kernel_pid: int | None, signature: str) -> None:
    found = verdict(killed_rank(oom=oom, kernel_pid=kernel_pid))
    assert found.cause is not None
    assert (found.cause.signature, found.cause.rank, found.confidence) == (signature, 2, "high")


def test_the_kernel_log_about_a_worker_of_a_data_loader_is_a_proof() -> None:
    run = Run().raises(2, "RuntimeError: DataLoader worker (pid 46794) is killed by signal: Killed. ").victims(0, 1, 3)
    run.out(2, "Out of memory: Killed process 46794 (pt_data_worker) total-vm:81234567kB, anon-rss:61234567kB")
    found = verdict(run.torchrun("gpu02", (2, 1), (3, -15)).torchrun("gpu01", (0, 1), (1, -15)))
    assert found.cause is not None
    assert (found.rule, found.cause.signature, found.cause.rank, found.confidence) == ("proof", "kernel-oom", 2, "high")
