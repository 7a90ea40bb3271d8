"""Lines of JSON: text, traceback, host and rank are read from the records of every logger and collector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fanout.diagnose.import_logs.json_records import read_json_line
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
    assert read_json_line(line) is None


def test_a_record_has_its_time() -> None:
    record = read_json_line('{"msg": "x", "ts": "2025-06-12T03:14:05Z", "rank": 3}')
    assert record is not None
    assert (record.lines, record.time) == (("[rank3]: x",), "2025-06-12T03:14:05Z")
