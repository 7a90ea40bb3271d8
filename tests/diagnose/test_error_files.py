"""Errors outside the streams: in torch's error file, and in torchrun's summary, which quotes it."""

from __future__ import annotations

from typing import Any

from fanout.model.actions import Inspect
from fanout.model.events import ActionSent, Answered
from tests.diagnose.kit import Run, people, verdict

REPORT = """============================================================
train.py FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2026-11-23_03:58:06
  host      : node
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 20000)  (SIGTERM)
  error_file: /tmp/torchelastic_1/attempt_0/0/error.json
  traceback : Traceback (most recent call last):
    File "/home/ann/proj/train.py", line 16, in main
      dist.all_reduce(t)
  RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.2]:21926. T

------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-23_03:58:05
  host      : node
  rank      : 1 (local_rank: 1)
  exitcode  : 1 (pid: 20001)
  error_file: /tmp/torchelastic_1/attempt_0/1/error.json
  traceback : Traceback (most recent call last):
    File "/home/ann/proj/train.py", line 13, in main
      raise ValueError("bad sample 1234")
  ValueError: bad sample 1234

============================================================
"""


def test_a_traceback_in_torchruns_report_only_belongs_to_its_rank() -> None:
    """The streams of the ranks went elsewhere (``--redirects``), and the ranks are decorated with ``@record``."""
    run = Run()
    run.add_output("gpu01", REPORT.encode())
    found = verdict(run.end_hosts("gpu01", code=1))
    assert found.cause is not None
    assert (found.cause.signature, found.cause.rank, found.confidence) == ("python-exception", 1, "high")
    assert found.cause.traceback[-1] == "ValueError: bad sample 1234"
    assert people(found.victims) == [("gpu01", 0)]


def test_an_error_that_a_rank_printed_is_not_counted_again_in_torchruns_quote() -> None:
    run = Run().raises(1, "ValueError: bad sample 1234", mark=False).pass_time(1.0)
    run.add_output("gpu01", REPORT.encode())
    found = verdict(run.end_hosts("gpu01", code=1))
    assert found.cause is not None
    assert (found.cause.rank, found.cause.line, found.confidence) == (1, 8, "high")
    assert not any("is the first of" in text for text in found.evidence)


def test_an_error_in_an_error_file_only_belongs_to_its_rank() -> None:
    """The file is TORCHELASTIC_ERROR_FILE of a rank with closed streams, with the time at which it was written."""
    error: dict[str, Any] = {"local_rank": 1, "message": "ValueError: bad sample 1234", "age": 2.0, "path": "/var/tmp/error.json",
             "stack": 'Traceback (most recent call last):\n  File "train.py", line 13\nValueError: bad sample 1234'}  # fmt: skip
    run = Run().victims(0, 1, 2).torchrun("gpu02", (3, 1), (2, -15))
    run.add_events(ActionSent(at=run.at, action=Inspect(host="gpu02", ask=9, what="aftermath")))
    run.add_events(Answered(at=run.at, host="gpu02", ask=9, value={"errors": [error]}, error=""))
    found = verdict(run)
    assert found.cause is not None
    assert (found.cause.rank, found.cause.file, found.confidence) == (3, "/var/tmp/error.json", "high")
    assert found.cause.says == "ended with ValueError: bad sample 1234"
    said = Run().raises(3, error["message"]).victims(0, 1, 2).torchrun("gpu02", (3, 1), (2, -15))
    said.add_events(ActionSent(at=said.at, action=Inspect(host="gpu02", ask=9, what="aftermath")))
    said.add_events(
        Answered(at=said.at, host="gpu02", ask=9, value={"errors": [error, None, {"message": 3}]}, error="")
    )
    assert (
        verdict(said).cause
        == verdict(Run().raises(3, error["message"]).victims(0, 1, 2).torchrun("gpu02", (3, 1), (2, -15))).cause
    )
