"""Kinds of failure as runs, each with the expected verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fanout.model.events import Disconnected, Exited, HostLost
from tests.diagnose.kit import NCCL, STORE, TIMED_OUT, Run
from tests.histories import History

Expected = tuple[str, str | None, int | None, str]  # signature, host, rank, confidence


def exception(guilty: int = 3) -> History:
    """Raise a ValueError on one rank: gloo complains on all others, and torchrun names a victim on the other host."""
    run = Run().raises(guilty, "ValueError: bad sample 1234")
    for rank in range(4):
        if rank != guilty:
            run.victims(rank, peer="10.0.0.9")
    for host, (one, two) in (("gpu02", (3, 2)), ("gpu01", (0, 1))):
        order = (guilty, 5 - guilty if guilty > 1 else 1 - guilty) if guilty in (one, two) else (one, two)
        run.torchrun(host, (order[0], 1), (order[1], -15))
    return run


def exits(code: int = 3, guilty: int = 1) -> History:
    """Exit by sys.exit(3) without output; torchrun ends with 1 on both hosts."""
    run = Run().victims(0, 2, 3, peer="10.0.0.1")
    return run.torchrun("gpu01", (guilty, code), (0, -15)).torchrun("gpu02", (2, 1), (3, -15), after=1.0)


def unmarked_exception() -> History:
    """Fail before the process group exists: torch puts no mark before a line, but torchrun's report has the pid."""
    run = Run().raises(3, "KeyError: 'input_ids'", mark=False).torchrun("gpu02", (3, 1), (2, -15))
    run.pass_time(12.0)
    return run.raises(0, STORE.format(rank=3), mark=False).torchrun("gpu01", (0, 1), (1, -15))


def late_victim_first() -> History:
    """Let the host of the victims end long before torchrun notices the failed rank."""
    run = Run().victims(0, 1, peer="10.0.0.2").torchrun("gpu01", (0, 1), (1, -15))
    return run.torchrun("gpu02", (2, -9), (3, -15), after=2.0)


def chained() -> History:
    """Raise an exception while handling another: the first one counts."""
    run = Run().raises(2, "OSError: [Errno 5] Input/output error: '/data/shard-7'")
    run.out(
        2, "[rank2]: ", "[rank2]: The above exception was the direct cause of the following exception:", "[rank2]: "
    )
    run.raises(2, "RuntimeError: could not load the next batch").victims(0, 1, 3)
    return run.torchrun("gpu02", (2, 1), (3, -15)).torchrun("gpu01", (0, 1), (1, -15))


def victim_with_a_word_of_its_own() -> History:
    """Catch gloo's error and raise another one: the rank is still a victim."""
    run = Run().raises(0, "ValueError: bad batch").victims(1, 3, peer="10.0.0.1")
    run.victims(2, peer="10.0.0.1")
    run.out(2, "[rank2]: The above exception was the direct cause of the following exception:", "[rank2]: ")
    run.raises(2, "TrainingFailed: step 12 failed").torchrun("gpu01", (0, 1), (1, -15))
    return run.torchrun("gpu02", (2, 1), (3, -15))


def nccl_timeout_one_silent() -> History:
    run = Run()
    run.pass_time(600.0)
    for rank in (0, 1, 3):
        run.out(rank, NCCL.format(rank=rank))
    return run.torchrun("gpu01", (0, -6), (1, -6)).torchrun("gpu02", (3, -6), (2, -15))


def gloo_timeout_one_silent() -> History:
    run = Run()
    run.pass_time(12.0)
    run.victims(0, 1, 2, text=TIMED_OUT)
    return run.torchrun("gpu01", (0, 1), (1, 1)).torchrun("gpu02", (2, 1), (3, -15))


def partition() -> History:
    """Let both sides time out waiting for each other: no rank is blamed, only the network between them."""
    run = Run().victims(0, 1, 2, 3, text=TIMED_OUT)
    return run.torchrun("gpu01", (0, 1), (1, 1)).torchrun("gpu02", (2, 1), (3, 1))


def partition_in_which_one_is_slower() -> History:
    """Let three ranks time out and end; the fourth detects the end of one before its own timeout."""
    run = Run(hosts=4, each=1)
    run.victims(0, 2, 3, text=TIMED_OUT)
    run.pass_time(0.2)
    run.victims(1, peer="10.0.0.3")
    return run.torchrun("gpu03", (2, 1)).torchrun("gpu04", (3, 1)).torchrun("gpu02", (1, 1)).torchrun("gpu01", (0, 1))


def memory() -> History:
    run = Run().victims(0, 1, 3)
    run.torchrun("gpu02", (2, -9), (3, 1)).torchrun("gpu01", (0, 1), (1, -15))
    run.events = [replace(e, oom=True) if isinstance(e, Exited) and e.host == "gpu02" else e for e in run.events]
    return run


def kernel_line() -> History:
    """Print the kernel's line in the log (a script that prints dmesg): its pid is the rank's."""
    run = Run().victims(0, 1, 3).torchrun("gpu01", (0, 1), (1, -15))
    run.out(2, "Out of memory: Killed process 20002 (python3) total-vm:81234567kB, anon-rss:61234567kB")
    return run.torchrun("gpu02", (2, -9), (3, 1))


def missing_module() -> History:
    run = Run()
    for rank in (2, 3):
        run.raises(rank, "ModuleNotFoundError: No module named 'flash_attn'", mark=False)
    run.torchrun("gpu02", (2, 1), (3, 1))
    run.pass_time(12.0)
    return run.raises(0, STORE.format(rank=2), mark=False).torchrun("gpu01", (0, 1), (1, -15))


def module_missing_everywhere() -> History:
    run = Run()
    for rank in range(4):
        run.raises(rank, "ModuleNotFoundError: No module named 'flash_attn'", mark=False)
    return run.torchrun("gpu01", (0, 1), (1, 1)).torchrun("gpu02", (2, 1), (3, 1))


def port_in_use() -> History:
    text = (
        "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. "
        "port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"
    )
    run = Run().raises(0, text, mark=False)
    return (
        run.end_hosts("gpu01", code=1)
        .stop_hosts("gpu01 failed", "gpu02")
        .pass_time(1.0)
        .end_hosts("gpu02", code=None, signal=15)
    )


def unreachable_master() -> History:
    line = "[E1122 15:45:15.7 socket.cpp:1028] [c10d] The client socket has timed out after 60000ms while trying to connect to (10.0.0.1, 29500)."
    run = Run()
    run.pass_time(60.0)
    run.out(2, line).raises(
        2,
        "torch.distributed.DistNetworkError: The client socket has timed out after 60000ms while trying to connect to (10.0.0.1, 29500).",
        mark=False,
    )
    return (
        run.end_hosts("gpu02", code=1)
        .stop_hosts("gpu02 failed", "gpu01")
        .pass_time(1.0)
        .end_hosts("gpu01", code=None, signal=15)
    )


def wrong_world_size() -> History:
    text = "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 2/4 clients joined."
    run = Run(each=1)
    for rank in (0, 1):
        run.raises(rank, text, mark=False)
    return run.torchrun("gpu01", (0, 1)).torchrun("gpu02", (1, 1))


def lost_host() -> History:
    run = Run()
    run.add_events(Disconnected(at=run.at, host="gpu02", why="no heartbeat for 15 s"))
    run.pass_time(5.0)
    run.victims(0, 1, text=TIMED_OUT).torchrun("gpu01", (0, 1), (1, 1)).pass_time(300.0)
    return run.add_events(HostLost(at=run.at, host="gpu02", why="no connection for 370 s"))


def blamed_host() -> History:
    """Lose the third host on two hosts; it reports nothing and is stopped with the rest."""
    run = Run(hosts=3, each=1).victims(0, 1, peer="10.0.0.3").torchrun("gpu01", (0, 1)).torchrun("gpu02", (1, 1))
    return run.stop_hosts("gpu01 failed", "gpu03").pass_time(1.0).end_hosts("gpu03", code=None, signal=15)


def cut_short() -> History:
    """Break off a traceback (Python lost its stderr over another error): only the other ranks' output identifies the rank."""
    run = Run().out(1, "Traceback (most recent call last):").out(1, '  File "task.py", line 174, in <module>')
    run.victims(0, 2, 3, peer="10.0.0.1")
    return run.torchrun("gpu01", (1, 1), (0, -15)).torchrun("gpu02", (2, 1), (3, -15))


def no_command() -> History:
    run = Run()
    run.add_output("gpu02", b"train.sh: line 12: torchrun: command not found\n").end_hosts("gpu02", code=127)
    return run.stop_hosts("gpu02 failed", "gpu01").pass_time(1.0).end_hosts("gpu01", code=None, signal=15)


def thread() -> History:
    """Raise in a thread, without a mark: it belongs to the only process of the host whose end is unexplained."""
    run = Run().raises(1, "ZeroDivisionError: division by zero", mark=False).victims(0, 2, 3, peer="10.0.0.1")
    return run.torchrun("gpu01", (1, 9), (0, 1)).torchrun("gpu02", (2, 1), (3, -15))


def gpu_memory() -> History:
    text = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 1 has a total capacity of 79.11 GiB"
    run = Run().raises(1, text).victims(0, 2, 3, peer="10.0.0.1")
    return run.torchrun("gpu01", (1, 1), (0, -15)).torchrun("gpu02", (2, 1), (3, -15))


CASES: dict[str, tuple[Callable[[], History], Expected]] = {
    "exception": (exception, ("python-exception", "gpu02", 3, "high")),
    "exception on rank 0": (lambda: exception(0), ("python-exception", "gpu01", 0, "high")),
    "exception in the middle": (lambda: exception(1), ("python-exception", "gpu01", 1, "high")),
    "unmarked exception": (unmarked_exception, ("python-exception", "gpu02", 3, "high")),
    "exit": (exits, ("exit", "gpu01", 1, "high")),
    "killed": (lambda: exits(-9), ("signal", "gpu01", 1, "high")),
    "crashed": (lambda: exits(-11), ("signal", "gpu01", 1, "high")),
    "bus error": (lambda: exits(-7), ("signal", "gpu01", 1, "high")),
    "aborted": (lambda: exits(-6), ("signal", "gpu01", 1, "medium")),
    "a victim's host ends first": (late_victim_first, ("signal", "gpu02", 2, "high")),
    "chained": (chained, ("python-exception", "gpu02", 2, "high")),
    "victim with its own word": (victim_with_a_word_of_its_own, ("python-exception", "gpu01", 0, "high")),
    "nccl timeout": (nccl_timeout_one_silent, ("silent", "gpu02", 2, "medium")),
    "gloo timeout": (gloo_timeout_one_silent, ("silent", "gpu02", 3, "medium")),
    "partition": (partition, ("network", None, None, "low")),
    "partition, one is slower": (partition_in_which_one_is_slower, ("network", None, None, "low")),
    "out of memory": (memory, ("kernel-oom", "gpu02", 2, "high")),
    "the kernel's line": (kernel_line, ("kernel-oom", "gpu02", 2, "high")),
    "thread": (thread, ("python-exception", "gpu01", 1, "high")),
    "gpu memory": (gpu_memory, ("cuda-out-of-memory", "gpu01", 1, "high")),
    "missing module": (missing_module, ("no-module", "gpu02", 2, "high")),
    "missing everywhere": (module_missing_everywhere, ("no-module", "gpu01", 0, "high")),
    "port in use": (port_in_use, ("store-port-in-use", "gpu01", None, "high")),
    "unreachable master": (unreachable_master, ("store-timeout", "gpu02", None, "low")),
    "wrong world size": (wrong_world_size, ("nnodes", None, None, "medium")),
    "lost host": (lost_host, ("lost", "gpu02", None, "medium")),
    "blamed host": (blamed_host, ("blamed", "gpu03", None, "medium")),
    "cut short": (cut_short, ("blamed", "gpu01", 1, "low")),
    "no command": (no_command, ("no-command", "gpu02", None, "high")),
}


ONE_A_HOST = ("wrong world size", "blamed host", "partition, one is slower")  # one rank on each host, not two
