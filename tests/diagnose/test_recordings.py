"""Recordings of injected failures: the form in which the corpus keeps them has every line that matters."""

from __future__ import annotations

from tests.diagnose.corpus.cases import expand_log, load_cases
from tests.lab.verdicts.kinds import KINDS
from tests.lab.verdicts.recording import fold_log, merge_hosts

RECORDED = "recorded: torch 2.13, gloo"
LEAST_RECORDED = 107  # all of them
RAW = """\
step 1/40 loss 4.000 step_time 0.050
step 2/40 loss 4.000 step_time 0.061
W1130 13:30:34.820000 47 torch/distributed/elastic/multiprocessing/api.py:1028] Sending process 52 closing signal SIGTERM
E1130 13:30:35.107000 47 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: -6) local_rank: 0 (pid: 51) of binary: /home/ann/v/bin/python
Traceback (most recent call last):
  File "/home/ann/v/bin/torchrun", line 8, in <module>
    sys.exit(main())
             ^^^^^^
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
====================================================
task.py FAILED
----------------------------------------------------
Failures:
[1]:
  time      : 2026-11-30_13:30:35
  host      : h1
  rank      : 1 (local_rank: 1)
  exitcode  : -15 (pid: 52)  (SIGTERM)
  error_file: <N/A>
  traceback : Signal 15 (SIGTERM) received by PID 52
----------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-30_13:30:34
  host      : h1
  rank      : 0 (local_rank: 0)
  exitcode  : -6 (pid: 51)  (SIGABRT)
  error_file: <N/A>
  traceback : Signal 6 (SIGABRT) received by PID 51
====================================================
"""
FOLDED = """\
@times 2 step %n/40 loss 4.000 step_time 0.051
@closing-213 at=1130 13:30:34.820000 | pid=52
@failed-213 at=1130 13:30:35.107000 | code=-6 | local=0 | pid=51
@child-failed
@report host=h1 | at=2026-11-30_13:30:34 | ranks=0:0:-6:51 1:1:-15:52
"""


def test_a_log_of_torchrun_becomes_directives() -> None:
    assert fold_log(RAW) == FOLDED


def test_a_form_with_braces_has_only_its_own_fields() -> None:
    line = "@assigned-213 error=torch.distributed.DistStoreError: wait timeout after 25000ms, keys: /1"
    assert fold_log(expand_log(line)) == f"{line}\n"


def test_folding_a_recording_again_changes_nothing() -> None:
    for case in load_cases():
        for name, text in case.logs.items():
            if case.source == RECORDED and name != "run.log":
                lines = [line for line in text.splitlines() if line.strip()]
                assert expand_log(fold_log(text)).splitlines() == lines, (case.id, name)


def test_the_ranks_of_a_host_come_before_its_torchrun() -> None:
    logs = {
        "h1.log": "torchrun\n",
        "h1.rank-0-err.log": "error\n",
        "h1.rank-0.log": "step\n",
        "h2.rank-2.log": "step\n",
    }
    assert merge_hosts(logs) == {"h1.log": "step\nerror\ntorchrun\n", "h2.log": "step\n"}


def test_recordings_are_those_of_injected_failures() -> None:
    """The id of the last place has no suffix."""
    wanted = {f"lab-{kind.name}" + ("" if place == "last" else f"-{place}") for kind in KINDS for place in kind.places}
    recorded = {case.id for case in load_cases() if case.source == RECORDED}
    assert recorded <= wanted
    assert len(wanted) == 107
    assert len(recorded) >= LEAST_RECORDED
