"""Errors that the run survived are no cause: later steps of the same process, a restart by torchrun, and files without times."""

from __future__ import annotations

from tests.diagnose.corpus.cases import expand_log
from tests.diagnose.corpus.scorer import diagnose_logs

CAUGHT = "@trace rank=0 | code=row = next(it) | error=ValueError: bad row\n"
FAILED = "@trace rank=1 | code=m = row['mask'] | error=KeyError: 'mask'\n@failed code=1 | local=1 | pid=51\n"
RESTART = (
    "I0612 03:14:10.1 3001 api.py:895] [default] Worker group FAILED. 2/3 attempts left; will restart worker group\n"
)


def steps(first: int, last: int) -> str:
    return "".join(f"[rank0]: step {number} loss 1.2\n" for number in range(first, last + 1))


def test_growing_steps_before_and_after_an_error_show_that_it_was_caught() -> None:
    caught = diagnose_logs({"gpu01.log": expand_log(steps(1, 5) + CAUGHT + steps(6, 40))})
    assert caught.cause is None


def test_few_steps_after_an_error_do_not_show_it() -> None:
    caught = diagnose_logs({"gpu01.log": expand_log(steps(1, 5) + CAUGHT + steps(6, 10))})
    assert caught.cause is not None


def test_steps_only_after_an_error_may_be_buffered_output() -> None:
    """A program whose stdout is a file writes its steps at its exit, after the traceback on stderr."""
    failed = diagnose_logs({"gpu01.log": expand_log(CAUGHT + steps(1, 40))})
    assert failed.cause is not None
    assert failed.cause.text == "ValueError: bad row"


def test_steps_of_another_rank_show_nothing() -> None:
    failed = diagnose_logs({"gpu01.log": expand_log(steps(1, 5) + FAILED + steps(6, 40))})
    assert failed.cause is not None
    assert (failed.cause.rank, failed.confidence) == (1, "high")


def test_a_restart_of_torchrun_ends_an_attempt() -> None:
    well = diagnose_logs({"gpu01.log": expand_log(FAILED + RESTART + steps(1, 9))})
    assert well.cause is None
    again = diagnose_logs({"gpu01.log": expand_log(CAUGHT + RESTART + FAILED)})
    assert again.cause is not None
    assert (again.cause.text, again.confidence) == ("KeyError: 'mask'", "high")


def test_an_error_in_a_file_without_times_is_not_early() -> None:
    """The console of the host has times; the file of the rank has none."""
    console = "@failed code=1 | local=1 | pid=51\n@report host=gpu01 | ranks=1:1:1:51\n"
    logs = {"gpu01.log": console, "gpu01.rank-1-err.log": "@trace code=a() | error=KeyError: 'mask'\n"}
    failed = diagnose_logs({name: expand_log(text) for name, text in logs.items()})
    assert failed.cause is not None
    assert (failed.cause.rank, failed.cause.text, failed.confidence) == (1, "KeyError: 'mask'", "high")


def test_a_summary_shows_which_ranks_torchrun_stopped() -> None:
    """torchrun lists the first failure as the root cause; SIGTERM of the others comes from torchrun itself."""
    logs = {"gpu01.log": "@failed code=-9 | local=1 | pid=51\n@report host=gpu01 | ranks=1:1:-9:51 0:0:-15:50\n"}
    killed = diagnose_logs({name: expand_log(text) for name, text in logs.items()})
    assert killed.cause is not None
    assert (killed.cause.rank, killed.confidence, killed.also) == (1, "high", ())
