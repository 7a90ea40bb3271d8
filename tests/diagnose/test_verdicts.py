"""Verdicts on histories: each names the rank with the fault, and weak evidence has a low confidence."""

from __future__ import annotations

import pytest

from fanout.diagnose.collector import EvidenceCollector
from fanout.diagnose.first_cause import diagnose_evidence
from fanout.diagnose.verdict import to_dict
from fanout.diagnose.verdict_text import render_lines
from fanout.model.events import Connected, Disconnected, StreamOpened
from tests.diagnose.cases import CASES, ONE_A_HOST, chained, exception, exits, missing_module
from tests.diagnose.kit import Run, people, verdict


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_names_the_injected_fault(name: str) -> None:
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
    """Rank 1 exits with 7, although torchrun, and so train.sh, ended with 1."""
    found = verdict(exits(7))
    assert found.cause is not None
    assert (found.cause.code, found.cause.host_code, found.cause.pid) == (7, 1, 20_001)


def test_the_traceback_is_that_of_the_first_exception_of_a_chain() -> None:
    cause = verdict(chained()).cause
    assert cause is not None
    assert cause.text.startswith("OSError")
    assert cause.traceback[-1].startswith("RuntimeError: could not load")


def test_two_candidates_that_cannot_be_distinguished_are_both_named() -> None:
    """Different errors on two hosts within the clock error."""
    run = Run().raises(0, "ValueError: left").raises(3, "IndexError: right", after=0.1)
    run.torchrun("gpu01", (0, 1), (1, -15)).torchrun("gpu02", (3, 1), (2, -15))
    found = verdict(run)
    assert found.cause is not None
    assert {found.cause.rank, *(each.rank for each in found.also)} == {0, 3}
    assert found.confidence == "low"
    assert found.sentence.startswith("undetermined between")


def test_a_clearly_later_error_is_no_candidate() -> None:
    run = Run().raises(0, "ValueError: left").raises(3, "IndexError: right", after=1.0)
    run.torchrun("gpu01", (0, 1), (1, -15)).torchrun("gpu02", (3, 1), (2, -15))
    found = verdict(run)
    assert found.cause is not None
    assert (found.cause.rank, found.also, found.confidence) == (0, (), "high")


def test_a_kill_that_is_reported_late_may_be_older_than_an_unknown_error() -> None:
    """torchrun reports the kill only afterwards: an error in between may be its victim's."""
    run = Run().raises(0, "MyError: the other side went away").torchrun("gpu01", (0, 1), (1, -15))
    found = verdict(run.torchrun("gpu02", (2, -9), (3, -15), after=0.5))
    assert found.confidence == "low"
    assert found.cause is not None
    assert {found.cause.rank, *(each.rank for each in found.also)} == {0, 2}


def test_a_broken_link_makes_its_hosts_times_doubtful() -> None:
    """Output that arrives after a reconnect may be from any time during the break."""
    run = Run().raises(0, "ValueError: left").torchrun("gpu01", (0, 1), (1, -15))
    run.add_events(Disconnected(at=run.at - 30, host="gpu02", why="reset")).pass_time(2.0)
    run.add_events(Connected(at=run.at, host="gpu02", attempt=2, took=0.4, hello={}))
    found = verdict(run.raises(3, "IndexError: right").torchrun("gpu02", (3, 1), (2, -15)))
    assert found.confidence == "low"
    assert len(found.also) == 1


def test_no_evidence_is_undetermined() -> None:
    run = Run().end_hosts("gpu01", code=1).end_hosts("gpu02", code=1)
    found = verdict(run)
    assert (found.cause, found.confidence) == (None, "undetermined")
    silent_run = Run().stop_hosts("interrupted", "gpu01", "gpu02").end_hosts("gpu01", "gpu02", code=None, signal=15)
    assert verdict(silent_run).cause is None
    assert verdict(silent_run).confidence == "undetermined"


def test_an_unknown_error_of_most_ranks_is_not_surely_the_cause() -> None:
    """Three of four ranks raise an unknown error: the fourth, which prints nothing, may be the reason."""
    run = Run()
    for rank in (0, 1, 2):
        run.raises(rank, "MyError: something is wrong")
    found = verdict(run.torchrun("gpu01", (0, 1), (1, 1)).torchrun("gpu02", (2, 1), (3, -15)))
    assert found.confidence == "low"


def test_an_error_about_others_is_weaker_than_an_error_of_the_rank_itself() -> None:
    run = Run().raises(0, "TimeoutError: no answer from the remote side").raises(3, "KeyError: 3", after=1.0)
    found = verdict(run.torchrun("gpu01", (0, 1), (1, -15)).torchrun("gpu02", (3, 1), (2, -15)))
    assert found.cause is not None
    assert (found.cause.rank, found.confidence) == (3, "low")
    assert [each.rank for each in found.also] == [0]


def test_an_error_after_which_training_goes_on_is_no_cause() -> None:
    run = Run().out(2, "OSError: [Errno 28] No space left on device")
    for step in range(2, 30):
        run.pass_time(1.0)
        run.out(2, f"step {step} loss 2.0")
    run.victims(0, 1, 3)
    found = verdict(run.torchrun("gpu02", (2, -9), (3, -15)).torchrun("gpu01", (0, 1), (1, -15)))
    assert found.cause is not None
    assert (found.cause.signature, found.confidence) == ("signal", "high")


def test_a_handled_error_long_before_is_not_blamed() -> None:
    """The program only logged a traceback at the start (no attention kernel, say), and was really killed an hour later."""
    run = Run().raises(3, "ImportError: libflash.so: cannot open shared object file: No such file or directory")
    run.pass_time(3600.0)
    run.victims(0, 1, 3).torchrun("gpu01", (0, 1), (1, -15)).torchrun("gpu02", (2, -9), (3, -15))
    found = verdict(run)
    assert found.cause is not None
    assert (found.cause.rank, found.cause.signature, found.confidence) == (2, "signal", "high")


def test_an_error_long_before_the_end_is_a_hint_without_other_evidence() -> None:
    run = Run().raises(3, "KeyError: 3")
    run.pass_time(3600.0)
    found = verdict(run.end_hosts("gpu02", code=1))
    assert found.cause is not None
    assert (found.cause.rank, found.confidence) == (3, "low")


def test_torchruns_summaries_that_disagree_do_not_decide() -> None:
    """Each host's torchrun names its own root cause; the times of all streams show the first one."""
    found = verdict(exception())
    assert found.rule == "first"
    assert found.cause is not None
    assert found.cause.host == "gpu02"


def test_ranks_with_their_own_streams_are_identified_by_them() -> None:
    run = Run()
    for rank in range(4):
        run.add_events(StreamOpened(at=run.at, host=run.host(rank), stream=rank + 1, name=f"rank {rank}"))
    error = b'Traceback (most recent call last):\n  File "train.py", line 1, in <module>\nKeyError: 3\n'
    run.add_output("gpu02", error, stream=4)
    run.pass_time(0.3)
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
    record = to_dict(verdict(exception()))
    assert {"verdict", "cause", "victims", "silent", "confidence", "advice"} <= record.keys()
    assert {"signature", "host", "rank", "line", "file"} <= record["cause"].keys()
    assert record["cause"]["file"].startswith("gpu02:")


def test_the_cause_has_its_gpu_if_the_plan_knows_it() -> None:
    """The GPU follows from the rank's place among the processes of its host; a hostfile may have chosen some GPUs."""
    run = (
        Run()
        .raises(3, "RuntimeError: CUDA error: an illegal memory access was encountered")
        .torchrun("gpu02", (3, 1), (2, -15))
    )
    witness = EvidenceCollector(run.hosts, ranks={"gpu01": (0, 2), "gpu02": (1, 2)})
    witness.gpus = {"gpu01": ("0", "1"), "gpu02": ("4", "6")}
    for event in run.events:
        witness.add_event(event)
    found = diagnose_evidence(witness.build_evidence())
    assert found.cause is not None
    assert (found.cause.rank, found.cause.local_rank, found.cause.gpu) == (3, 1, "6")
    assert "(local rank 1, GPU 6, pid 20003, exit 1)" in "\n".join(render_lines(found))
