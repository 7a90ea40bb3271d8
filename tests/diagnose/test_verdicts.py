"""Verdicts on histories: what was done to one rank is what the verdict names, and weak evidence is called weak."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fanout.diagnose.verdict import as_dict
from fanout.events import Exited, Linked, LinkLost, Lost, StreamOpened
from tests.diagnose.kit import NCCL, STORE, TIMED_OUT, Run, people, verdict
from tests.histories import History

Expected = tuple[str, str | None, int | None, str]  # signature, host, rank, confidence


def exception(guilty: int = 3) -> History:
    """A ValueError on one rank; gloo's complaints on all others; torchrun names a victim on the other host."""
    run = Run().raises(guilty, "ValueError: bad sample 1234")
    for rank in range(4):
        if rank != guilty:
            run.victims(rank, peer="10.0.0.9")
    for host, (one, two) in (("gpu02", (3, 2)), ("gpu01", (0, 1))):
        order = (guilty, 5 - guilty if guilty > 1 else 1 - guilty) if guilty in (one, two) else (one, two)
        run.torchrun(host, (order[0], 1), (order[1], -15))
    return run


def exits(code: int = 3, guilty: int = 1) -> History:
    """sys.exit(3) says nothing; torchrun ends with 1 on both hosts."""
    run = Run().victims(0, 2, 3, peer="10.0.0.1")
    return run.torchrun("gpu01", (guilty, code), (0, -15)).torchrun("gpu02", (2, 1), (3, -15), after=1.0)


def unmarked_exception() -> History:
    """Before the process group exists torch puts no mark before a line: torchrun's pid says who it was."""
    run = Run().raises(3, "KeyError: 'input_ids'", mark=False).torchrun("gpu02", (3, 1), (2, -15))
    run.wait(12.0)
    return run.raises(0, STORE.format(rank=3), mark=False).torchrun("gpu01", (0, 1), (1, -15))


def late_victim_first() -> History:
    """The host of the victims ends long before torchrun notices the guilty one."""
    run = Run().victims(0, 1, peer="10.0.0.2").torchrun("gpu01", (0, 1), (1, -15))
    return run.torchrun("gpu02", (2, -9), (3, -15), after=2.0)


def chained() -> History:
    """An exception while handling another: the first one counts."""
    run = Run().raises(2, "OSError: [Errno 5] Input/output error: '/data/shard-7'")
    run.out(
        2, "[rank2]: ", "[rank2]: The above exception was the direct cause of the following exception:", "[rank2]: "
    )
    run.raises(2, "RuntimeError: could not load the next batch").victims(0, 1, 3)
    return run.torchrun("gpu02", (2, 1), (3, -15)).torchrun("gpu01", (0, 1), (1, -15))


def victim_with_a_word_of_its_own() -> History:
    """A program that catches gloo's error and raises its own: still a victim."""
    run = Run().raises(0, "ValueError: bad batch").victims(1, 3, peer="10.0.0.1")
    run.victims(2, peer="10.0.0.1")
    run.out(2, "[rank2]: The above exception was the direct cause of the following exception:", "[rank2]: ")
    run.raises(2, "TrainingFailed: step 12 failed").torchrun("gpu01", (0, 1), (1, -15))
    return run.torchrun("gpu02", (2, 1), (3, -15))


def nccl_timeout_one_silent() -> History:
    run = Run()
    run.wait(600.0)
    for rank in (0, 1, 3):
        run.out(rank, NCCL.format(rank=rank))
    return run.torchrun("gpu01", (0, -6), (1, -6)).torchrun("gpu02", (3, -6), (2, -15))


def gloo_timeout_one_silent() -> History:
    run = Run()
    run.wait(12.0)
    run.victims(0, 1, 2, text=TIMED_OUT)
    return run.torchrun("gpu01", (0, 1), (1, 1)).torchrun("gpu02", (2, 1), (3, -15))


def partition() -> History:
    """Both sides wait in vain for each other: nobody is guilty but what lies between."""
    run = Run().victims(0, 1, 2, 3, text=TIMED_OUT)
    return run.torchrun("gpu01", (0, 1), (1, 1)).torchrun("gpu02", (2, 1), (3, 1))


def memory() -> History:
    run = Run().victims(0, 1, 3)
    run.torchrun("gpu02", (2, -9), (3, 1)).torchrun("gpu01", (0, 1), (1, -15))
    run.events = [replace(e, oom=True) if isinstance(e, Exited) and e.host == "gpu02" else e for e in run.events]
    return run


def kernel_line() -> History:
    """The kernel's line in the log (a script that prints dmesg): its pid is the rank's."""
    run = Run().victims(0, 1, 3).torchrun("gpu01", (0, 1), (1, -15))
    run.out(2, "Out of memory: Killed process 20002 (python3) total-vm:81234567kB, anon-rss:61234567kB")
    return run.torchrun("gpu02", (2, -9), (3, 1))


def missing_module() -> History:
    run = Run()
    for rank in (2, 3):
        run.raises(rank, "ModuleNotFoundError: No module named 'flash_attn'", mark=False)
    run.torchrun("gpu02", (2, 1), (3, 1))
    run.wait(12.0)
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
    return run.end("gpu01", code=1).stop("gpu01 failed", "gpu02").wait(1.0).end("gpu02", code=None, signal=15)


def unreachable_master() -> History:
    line = "[E1122 15:45:15.7 socket.cpp:1028] [c10d] The client socket has timed out after 60000ms while trying to connect to (10.0.0.1, 29500)."
    run = Run()
    run.wait(60.0)
    run.out(2, line).raises(2, "torch.distributed.DistNetworkError: The client socket has timed out after 60000ms while trying to connect to (10.0.0.1, 29500).", mark=False)  # fmt: skip
    return run.end("gpu02", code=1).stop("gpu02 failed", "gpu01").wait(1.0).end("gpu01", code=None, signal=15)


def wrong_world_size() -> History:
    text = "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 2/4 clients joined."
    run = Run(each=1)
    for rank in (0, 1):
        run.raises(rank, text, mark=False)
    return run.torchrun("gpu01", (0, 1)).torchrun("gpu02", (1, 1))


def lost_host() -> History:
    run = Run()
    run.add(LinkLost(at=run.at, host="gpu02", why="no heartbeat for 15 s"))
    run.wait(5.0)
    run.victims(0, 1, text=TIMED_OUT).torchrun("gpu01", (0, 1), (1, 1)).wait(300.0)
    return run.add(Lost(at=run.at, host="gpu02", why="no link for 370 s"))


def blamed_host() -> History:
    """Two hosts lost the third, which says nothing at all and was stopped with the rest."""
    run = Run(hosts=3, each=1).victims(0, 1, peer="10.0.0.3").torchrun("gpu01", (0, 1)).torchrun("gpu02", (1, 1))
    return run.stop("gpu01 failed", "gpu03").wait(1.0).end("gpu03", code=None, signal=15)


def no_command() -> History:
    run = Run()
    run.say("gpu02", b"train.sh: line 12: torchrun: command not found\n").end("gpu02", code=127)
    return run.stop("gpu02 failed", "gpu01").wait(1.0).end("gpu01", code=None, signal=15)


def thread() -> History:
    """An exception in a thread has no mark; the only process of the host whose end is unexplained must have said it."""
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
    "out of memory": (memory, ("kernel-oom", "gpu02", 2, "high")),
    "the kernel's line": (kernel_line, ("kernel-oom", "gpu02", 2, "high")),
    "thread": (thread, ("python-exception", "gpu01", 1, "high")),
    "gpu memory": (gpu_memory, ("cuda-out-of-memory", "gpu01", 1, "high")),
    "missing module": (missing_module, ("no-module", "gpu02", 2, "high")),
    "missing everywhere": (module_missing_everywhere, ("no-module", "gpu01", 0, "high")),
    "port in use": (port_in_use, ("store-port-in-use", "gpu01", None, "high")),
    "unreachable master": (unreachable_master, ("store-timeout", "gpu02", None, "low")),
    "wrong world size": (wrong_world_size, ("meeting", None, None, "low")),
    "lost host": (lost_host, ("lost", "gpu02", None, "medium")),
    "blamed host": (blamed_host, ("blamed", "gpu03", None, "medium")),
    "no command": (no_command, ("no-command", "gpu02", None, "high")),
}


ONE_A_HOST = ("wrong world size", "blamed host")  # one rank on each host, not two


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_names_what_was_done(name: str) -> None:
    make, (signature, host, rank, confidence) = CASES[name]
    found = verdict(make(), each=1 if name in ONE_A_HOST else 2)
    assert found.cause is not None
    assert (found.cause.signature, found.cause.host, found.cause.rank) == (signature, host, rank)
    assert found.confidence == confidence
    assert not found.also


def test_every_rank_is_in_one_class_and_none_in_two() -> None:
    found = verdict(exception())
    assert people(found.victims) == [("gpu01", 0), ("gpu01", 1), ("gpu02", 2)]
    assert (found.collateral, found.silent, found.lost) == ((), (), ())
    found = verdict(missing_module())
    assert people(found.collateral) == [("gpu01", 1)]
    assert found.cause is not None
    assert found.cause.ranks == (2, 3)


def test_torchruns_own_exit_hides_no_code() -> None:
    """exit 7 of rank 1, although torchrun, and so train.sh, ended with 1."""
    found = verdict(exits(7))
    assert found.cause is not None
    assert (found.cause.code, found.cause.host_code, found.cause.pid) == (7, 1, 20_001)


def test_the_traceback_is_that_of_the_first_exception_of_a_chain() -> None:
    cause = verdict(chained()).cause
    assert cause is not None
    assert cause.text.startswith("OSError")
    assert cause.traceback[-1].startswith("RuntimeError: could not load")


def test_two_that_cannot_be_told_apart_are_both_named() -> None:
    """Different errors on two hosts within the clock error."""
    run = Run().raises(0, "ValueError: left").raises(3, "IndexError: right", after=0.1)
    run.torchrun("gpu01", (0, 1), (1, -15)).torchrun("gpu02", (3, 1), (2, -15))
    found = verdict(run)
    assert found.cause is not None
    assert {found.cause.rank, *(each.rank for each in found.also)} == {0, 3}
    assert found.confidence == "low"
    assert found.sentence.startswith("undetermined between")


def test_what_is_clearly_later_is_no_candidate() -> None:
    run = Run().raises(0, "ValueError: left").raises(3, "IndexError: right", after=1.0)
    run.torchrun("gpu01", (0, 1), (1, -15)).torchrun("gpu02", (3, 1), (2, -15))
    found = verdict(run)
    assert found.cause is not None
    assert (found.cause.rank, found.also, found.confidence) == (0, (), "high")


def test_a_kill_that_is_reported_late_may_be_older_than_an_unknown_error() -> None:
    """torchrun says only afterwards that a process was killed: the error that came meanwhile may be its victim's."""
    run = Run().raises(0, "MyError: the other side went away").torchrun("gpu01", (0, 1), (1, -15))
    found = verdict(run.torchrun("gpu02", (2, -9), (3, -15), after=0.5))
    assert found.confidence == "low"
    assert found.cause is not None
    assert {found.cause.rank, *(each.rank for each in found.also)} == {0, 2}


def test_a_broken_link_makes_its_hosts_times_doubtful() -> None:
    """What arrives after a reconnect may have happened at any time while the link was gone."""
    run = Run().raises(0, "ValueError: left").torchrun("gpu01", (0, 1), (1, -15))
    run.add(LinkLost(at=run.at - 30, host="gpu02", why="reset")).wait(2.0)
    run.add(Linked(at=run.at, host="gpu02", attempt=2, took=0.4, hello={}))
    found = verdict(run.raises(3, "IndexError: right").torchrun("gpu02", (3, 1), (2, -15)))
    assert found.confidence == "low"
    assert len(found.also) == 1


def test_nothing_known_is_undetermined() -> None:
    run = Run().end("gpu01", code=1).end("gpu02", code=1)
    found = verdict(run)
    assert (found.cause, found.confidence) == (None, "undetermined")
    silent_run = Run().stop("interrupted", "gpu01", "gpu02").end("gpu01", "gpu02", code=None, signal=15)
    assert verdict(silent_run).cause is None
    assert verdict(silent_run).confidence == "undetermined"


def test_an_unknown_error_of_most_ranks_is_not_sure_to_be_the_cause() -> None:
    """Three of four raise what nobody knows: the fourth, which says nothing, may be why."""
    run = Run()
    for rank in (0, 1, 2):
        run.raises(rank, "MyError: something is wrong")
    found = verdict(run.torchrun("gpu01", (0, 1), (1, 1)).torchrun("gpu02", (2, 1), (3, -15)))
    assert found.confidence == "low"


def test_an_error_about_others_is_weaker_than_one_of_its_own() -> None:
    run = Run().raises(0, "TimeoutError: no answer from the remote side").raises(3, "KeyError: 3", after=1.0)
    found = verdict(run.torchrun("gpu01", (0, 1), (1, -15)).torchrun("gpu02", (3, 1), (2, -15)))
    assert found.cause is not None
    assert (found.cause.rank, found.confidence) == (3, "low")
    assert [each.rank for each in found.also] == [0]


def test_an_error_after_which_training_goes_on_is_no_cause() -> None:
    run = Run().out(2, "OSError: [Errno 28] No space left on device")
    for step in range(2, 30):
        run.wait(1.0)
        run.out(2, f"step {step} loss 2.0")
    run.victims(0, 1, 3)
    found = verdict(run.torchrun("gpu02", (2, -9), (3, -15)).torchrun("gpu01", (0, 1), (1, -15)))
    assert found.cause is not None
    assert (found.cause.signature, found.confidence) == ("signal", "high")


def test_a_handled_error_long_before_is_not_blamed() -> None:
    """A traceback at the start that the program only logged (no attention kernel, say) and an honest kill an hour later."""
    run = Run().raises(3, "ImportError: libflash.so: cannot open shared object file: No such file or directory")
    run.wait(3600.0)
    run.victims(0, 1, 3).torchrun("gpu01", (0, 1), (1, -15)).torchrun("gpu02", (2, -9), (3, -15))
    found = verdict(run)
    assert found.cause is not None
    assert (found.cause.rank, found.cause.signature, found.confidence) == (2, "signal", "high")


def test_an_error_long_before_the_end_is_a_hint_where_there_is_nothing_else() -> None:
    run = Run().raises(3, "KeyError: 3")
    run.wait(3600.0)
    found = verdict(run.end("gpu02", code=1))
    assert found.cause is not None
    assert (found.cause.rank, found.confidence) == (3, "low")


def test_torchruns_summaries_that_disagree_do_not_decide() -> None:
    """Each host's torchrun names a root cause of its own; the times of all streams say which was first."""
    found = verdict(exception())
    assert found.rule == "first"
    assert found.cause is not None
    assert found.cause.host == "gpu02"


def test_ranks_with_streams_of_their_own_are_known_by_them() -> None:
    run = Run()
    for rank in range(4):
        run.add(StreamOpened(at=run.at, host=run.host(rank), stream=rank + 1, name=f"rank {rank}"))
    error = b'Traceback (most recent call last):\n  File "train.py", line 1, in <module>\nKeyError: 3\n'
    run.say("gpu02", error, stream=4)
    run.wait(0.3)
    found = verdict(run.torchrun("gpu02", (3, 1), (2, -15)))
    assert found.cause is not None
    assert (found.cause.rank, found.confidence) == (3, "high")


def test_a_desync_report_is_trusted() -> None:
    run = Run()
    run.out(0, "     [2] finished collective #2, but didn't join collective #3 (count from 1)")
    found = verdict(run.torchrun("gpu01", (0, -6), (1, -6)).torchrun("gpu02", (3, -6), (2, -15)))
    assert found.cause is not None
    assert (found.cause.rank, found.rule) == (2, "pointed")


def test_the_json_has_the_keys_that_programs_rely_on() -> None:
    told = as_dict(verdict(exception()))
    assert {"verdict", "cause", "victims", "silent", "confidence", "advice"} <= told.keys()
    assert {"signature", "host", "rank", "line", "file"} <= told["cause"].keys()
    assert told["cause"]["file"].startswith("gpu02:")
