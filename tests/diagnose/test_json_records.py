"""Lines of JSON: text, traceback, host and rank are read from the records of every logger and collector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fanout.diagnose.import_logs.json_records import read_record
from tests.diagnose.test_field import LOST, found, trace

TRACE = trace("KeyError: 'img'")
#: One record with an error of rank 1 on gpu02, as each program writes it.
RECORDS: dict[str, dict[str, Any]] = {
    "structlog": {"event": "failed", "rank": 1, "host": "gpu02", "exception": TRACE},
    "python-json-logger": {
        "message": "step failed",
        "hostname": "gpu02",
        "rank": 1,
        "exc_info": TRACE,
        "levelname": "ERROR",
    },
    "journalctl -o json": {
        "MESSAGE": "[rank1]: " + TRACE.replace("\n", "\n[rank1]: ").rstrip("[rank1]: "),
        "_HOSTNAME": "gpu02",
    },
    "a collector of Kubernetes": {
        "log": "failed\n" + TRACE,
        "rank": 1,
        "stream": "stderr",
        "kubernetes": {"pod_name": "gpu02"},
    },
    "a nested host": {"msg": "failed", "stack_trace": TRACE, "RANK": 1, "host": {"name": "gpu02"}},
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_shows_host_rank_and_traceback(name: str, tmp_path: Path) -> None:
    peers = [{"message": line, "host": "gpu01", "_HOSTNAME": "gpu01"} for line in LOST.format(r=0).splitlines()]
    lines = [{"message": "step 1 loss 2", "host": "gpu01"}, RECORDS[name], *peers]
    verdict = found(tmp_path / "logs", {"all.log": "".join(json.dumps(line) + "\n" for line in lines)})
    cause = verdict["cause"]
    assert (cause["host"], cause["rank"], cause["line"]) == ("gpu02", 1, "KeyError: 'img'")
    assert len(cause["traceback"]) == 4


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 3, "loss": 0.9}',
        "{'loss': 0.9}",
        '{"message": 3}',
        "{" * 70_000 + "}",
        '{"message": "x"',
        "[1]",
        '{"a":' * 9000 + "}" * 9000,
    ],
)
def test_a_line_without_a_message_is_no_record(line: str) -> None:
    assert read_record(line) is None


def test_a_record_has_its_time() -> None:
    record = read_record('{"msg": "x", "ts": "2025-06-12T03:14:05Z", "rank": 3}')
    assert record is not None
    assert (record.lines, record.time) == (("[rank3]: x",), "2025-06-12T03:14:05Z")


def test_a_record_of_logfmt_shows_host_rank_and_traceback(tmp_path: Path) -> None:
    words = [("gpu01", "step 1 loss 2"), *(("gpu02", line) for line in TRACE.splitlines())]
    words += [("gpu01", line) for line in LOST.format(r=0).splitlines()]
    lines = [f"time=2025-06-12T03:14:05Z level=info host={host} msg={json.dumps(text)}\n" for host, text in words]
    cause = found(tmp_path / "logs", {"all.log": "".join(lines)})["cause"]
    assert (cause["host"], cause["line"], len(cause["traceback"])) == ("gpu02", "KeyError: 'img'", 4)


def test_a_record_of_logfmt_keeps_its_steps_and_its_rank() -> None:
    record = read_record('level=info host=gpu01 rank=3 msg="epoch \\"a\\" ends" step=7 loss=2.5 caller=train.py:9')
    assert record is not None
    assert (record.lines, record.host) == (('[rank3]: epoch "a" ends step=7 loss=2.5',), "gpu01")


@pytest.mark.parametrize(
    "line", ["msg=", "msg=x", 'loss=2 msg="x', "loss=2 step=3", "saw msg=x host=y", "a=1 msg=x; b"]
)
def test_a_line_with_other_words_is_no_record_of_logfmt(line: str) -> None:
    assert read_record(line) is None
