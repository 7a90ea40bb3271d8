"""``fanout why`` on logs: of real torchrun runs (two hosts, two ranks each, PyTorch 2.13, gloo), and of other launchers."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from fanout.cli.parser import parse_arguments
from fanout.commands.why import run_why
from fanout.diagnose.import_logs.line_labels import detect_labels
from fanout.diagnose.import_logs.line_times import parse_time
from fanout.diagnose.import_logs.log_files import identify_files
from fanout.model.errors import UsageError
from tests.process_contexts import build_process

LOGS = Path(__file__).parent / "logs"


def call_why(*words: str, cwd: Path = LOGS, stdin: bytes = b"") -> tuple[int, str]:
    """Return (exit status, output)."""
    out = io.StringIO()
    process = build_process(cwd, out, stdin=io.BytesIO(stdin).read)
    return run_why(parse_arguments(["why", *words]), process), out.getvalue()


def verdict(*words: str, cwd: Path = LOGS, stdin: bytes = b"") -> dict[str, Any]:
    _, text = call_why("--json", *words, cwd=cwd, stdin=stdin)
    found: dict[str, Any] = json.loads(text)
    return found


#: What was injected into the real run whose logs lie in the folder of that name.
INJECTED = {
    "exception": ("python-exception", "gpu02", 3, "high"),
    "exit-7": ("exit", "gpu01", 1, "high"),
    "sys-exit": ("exit", "gpu01", 1, "high"),
    "sigkill": ("signal", "gpu02", 2, "high"),
    "import": ("no-module", "gpu02", 2, "high"),
    "hang": ("silent", "gpu02", 3, "medium"),
    "mismatch": ("gloo-size", "gpu02", 3, "low"),
}


@pytest.mark.parametrize("name", INJECTED)
def test_real_logs_show_what_was_injected(name: str) -> None:
    signature, host, rank, confidence = INJECTED[name]
    found = verdict(name)
    assert (found["cause"]["signature"], found["cause"]["host"], found["cause"]["rank"]) == (signature, host, rank)
    assert found["confidence"] == confidence
    assert found["files"] == 2


def test_a_cause_has_its_file_and_line() -> None:
    assert verdict("exception")["cause"]["file"] == "exception/gpu02.log:5"
    assert verdict("exception")["cause"]["line"] == "ValueError: bad sample 1234"


def test_the_text_output_fits_a_screen() -> None:
    status, text = call_why("exception/gpu01.log", "exception/gpu02.log")
    assert status == 0
    assert text.startswith("2 files of 2 hosts\n")
    assert "rank 3 on gpu02 (local rank 1," in text


def test_a_log_without_failure_is_undetermined_and_has_its_own_status(tmp_path: Path) -> None:
    (tmp_path / "gpu01.log").write_text("step 1 loss 2\nstep 2 loss 1\n")
    assert call_why(".", cwd=tmp_path)[0] == 1
    assert verdict(".", cwd=tmp_path)["cause"] is None


def test_labelled_lines_of_one_file_are_sorted_by_host(tmp_path: Path) -> None:
    """The file has the format of srun --label, kubectl --prefix, pdsh or `fanout logs`."""
    for label in ("gpu0{n} | ", "[pod/gpu0{n}/train] ", "gpu0{n}: "):
        lines = [
            label.format(n=n) + line
            for n in (1, 2)
            for line in (LOGS / "exception" / f"gpu0{n}.log").read_text().splitlines()
        ]
        (tmp_path / "all.log").write_text("\n".join(lines) + "\n")
        found = verdict("all.log", cwd=tmp_path)
        assert (found["cause"]["host"], found["cause"]["rank"], found["confidence"]) == ("gpu02", 3, "high")


def test_logs_without_any_time_name_all_candidates(tmp_path: Path) -> None:
    for host, error in (("a", "KeyError: 1"), ("b", "IndexError: 2")):
        (tmp_path / f"{host}.log").write_text(f'Traceback (most recent call last):\n  File "x.py", line 1\n{error}\n')
    found = verdict(".", cwd=tmp_path)
    assert found["confidence"] == "low"
    assert {found["cause"]["host"], *(each["host"] for each in found["also"])} == {"a", "b"}


def test_torchruns_log_directories_give_hosts_and_local_ranks(tmp_path: Path) -> None:
    for host, local, text in (
        ("n1", 0, "step 1\n"),
        ("n2", 1, "Traceback (most recent call last):\n  x\nKeyError: 1\n"),
    ):
        folder = tmp_path / host / "none_abc" / "attempt_0" / str(local)
        folder.mkdir(parents=True)
        (folder / "stderr.log").write_text(text)
    found = verdict(".", cwd=tmp_path)
    assert found["cause"]["host"] == "n2"


@pytest.mark.parametrize(
    ("paths", "hosts"),
    [
        (["gpu01.log", "gpu02.log"], ["gpu01", "gpu02"]),
        (["job.gpu01.out", "job.gpu02.out"], ["gpu01", "gpu02"]),
        (["gpu01/train.log", "gpu02/train.log"], ["gpu01", "gpu02"]),
        (["r/a/stdout.log", "r/b/stdout.log"], ["a", "b"]),
        (["gpu01.rank-5.log", "gpu01.log"], ["gpu01", "gpu01"]),
        (["slurm-4242.out"], ["slurm-4242"]),
        (["n1/x/attempt_0/0/stderr.log", "n2/x/attempt_0/0/stderr.log"], ["n1", "n2"]),
        (["trainer-0.log", "trainer-1.log"], ["trainer-0", "trainer-1"]),
    ],
)
def test_the_host_of_a_file(paths: list[str], hosts: list[str]) -> None:
    assert [each.host for each in identify_files(paths)] == hosts


#: Names of files -> host, rank, local rank.
FILE_NAMES: dict[str, tuple[str, int | None, int | None]] = {
    "192.168.1.1.log": ("192.168.1.1", None, None),
    "10.0.0.2_train.log": ("10.0.0.2", None, None),
    "logs/10.0.0.1/train.log": ("10.0.0.1", None, None),
    "rank0.log": ("host", 0, None),
    "std.out.rank3": ("host", 3, None),
    "local_rank_3.log": ("host", None, 3),
    "gpu02.dmesg.log": ("gpu02", None, None),
    "dmesg-gpu02.txt": ("gpu02", None, None),
    "syslog.gpu02": ("gpu02", None, None),
    "gpu02.nvidia-bug-report.log": ("gpu02", None, None),
    "gpu02.log.1.gz": ("gpu02", None, None),
    "node-03_rank7.out": ("node-03", 7, None),
    "rank_3_gpu02.err": ("gpu02", 3, None),
    "gpu02-rank7-stderr.log": ("gpu02", 7, None),
    "gpu01.rank-5-err.log": ("gpu01", 5, None),
    "slurm-8812-n12.out": ("n12", None, None),
    "slurm-123_4.out": ("slurm-123_4", None, None),
    "train_log_gpu01.txt": ("gpu01", None, None),
    "2025-06-12_gpu01.log": ("gpu01", None, None),
    "gpu01_20250612-031405.log": ("gpu01", None, None),
    "0-gpu01.log": ("gpu01", None, None),
    "stdout.3.gpu02": ("gpu02", None, None),
    "host=gpu01.log": ("gpu01", None, None),
    "gpu1.lab.example.com.log": ("gpu1.lab.example.com", None, None),
    "llama-worker-0.log": ("llama-worker-0", None, None),
    "worker_0.log": ("worker_0", None, None),
    "llama-worker-0.describe.txt": ("llama-worker-0", None, None),
    "llama-worker-0.previous.log": ("llama-worker-0", None, None),
    "pretrain_gpu07_rank12.err": ("gpu07", 12, None),
    "train.o4412": ("train", None, None),
    "train.log": ("train", None, None),
    "log_rank3.txt": ("host", 3, None),
    "attempt_0/3/stderr.log": ("host", None, 3),
    "1/rank.3/stdout": ("host", 3, None),
    "gpu02/stdout.log": ("gpu02", None, None),
}


@pytest.mark.parametrize("path", FILE_NAMES)
def test_the_host_and_the_rank_are_in_the_name_of_a_file(path: str) -> None:
    (found,) = identify_files([path])
    assert (found.host, found.rank, found.local) == FILE_NAMES[path]


def test_a_ranks_own_file_has_its_rank() -> None:
    assert [each.rank for each in identify_files(["gpu01.rank-5.log", "gpu01.rank_6.err"])] == [5, 6]
    assert [each.local for each in identify_files(["n1/x/attempt_0/3/stderr.log", "n2/x/attempt_0/0/stderr.log"])] == [
        3,
        0,
    ]


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-22T15:42:08.500Z step 1",
        "[2026-11-22 15:42:08,500] [INFO] step 1",
        "E1122 15:42:08.500000 20146 torch/distributed/elastic/x.py:1002] failed",
        "[rank2]:[E1122 15:42:08.500000 ProcessGroupNCCL.cpp:632] x",
    ],
)
def test_times_of_all_shapes_are_on_one_clock(line: str) -> None:
    assert parse_time(line) == parse_time("2026-11-22 15:42:08.5")


def test_a_line_without_a_time_has_none() -> None:
    assert parse_time("step 12/100") is None
    assert parse_time("9999-99-99 99:99:99") is None


def test_ordinary_lines_are_no_labels() -> None:
    assert detect_labels(["step 1: loss 2", "step 2: loss 1", "ValueError: x"]) is None
    assert detect_labels(["loss: 2", "step: 3", "loss: 1", "step: 4"]) is None


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        call_why("nowhere", cwd=tmp_path)
    with pytest.raises(UsageError, match="no log files"):
        call_why(".", cwd=tmp_path)
    with pytest.raises(UsageError, match="no log"):
        parse_arguments(["why"])


def test_a_file_of_the_users_signatures_counts(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        '[[signature]]\nid = "shard"\nrole = "root"\nregex = "bad sample (?P<n>\\\\d+)"\nsays = "read bad sample {n}"\n'
    )
    found = verdict("--signatures", str(tmp_path / "mine.toml"), "exception")
    assert (found["cause"]["signature"], found["cause"]["says"]) == ("shard", "read bad sample 1234")


REPORT_OF_LOCALHOST = """Traceback (most recent call last):
  File "/opt/venv/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
task.py FAILED
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-30_12:57:03
  host      : localhost
  rank      : 3 (local_rank: 1)
  exitcode  : 1 (pid: 15434)
  error_file: <N/A>
============================================================
"""


def test_the_logs_of_a_run_in_another_folder_have_the_hosts_of_their_names(tmp_path: Path) -> None:
    """torchrun reports localhost where a host has no better name: the address in the name of the file is one."""
    (tmp_path / "10.77.0.12.log").write_text("ready\n")
    (tmp_path / "10.77.0.13.log").write_text(REPORT_OF_LOCALHOST)
    error = (
        'Traceback (most recent call last):\n  File "task.py", line 7, in <module>\nValueError: sample 6 is broken\n'
    )
    (tmp_path / "10.77.0.13.rank-3-err.log").write_text(error)
    found = verdict(str(tmp_path))
    assert (found["cause"]["host"], found["cause"]["rank"]) == ("10.77.0.13", 3)
    hosts = {each["host"] for name in ("victims", "collateral", "silent") for each in found[name]}
    assert hosts <= {"10.77.0.12", "10.77.0.13"}


def test_a_folder_of_documents_has_no_log(tmp_path: Path) -> None:
    (tmp_path / "checks.md").write_text("| `space` | No space left on device |\n")
    (tmp_path / "index.html").write_text("torchrun: not found\n")
    with pytest.raises(UsageError, match="no log files in this directory"):
        call_why(str(tmp_path))


@pytest.mark.parametrize("words", [["--json", "a", "b"], ["a", "--json", "b"], ["a", "b", "--json"]])
def test_flags_may_stand_anywhere(words: list[str]) -> None:
    request = parse_arguments(["why", *words])
    assert (request.task, request.given["as_json"]) == (("a", "b"), True)


def test_a_binary_file_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "core.log").write_bytes(bytes(range(256)) * 100)
    assert call_why(".", cwd=tmp_path)[0] == 1


def test_two_files_of_one_rank_belong_to_one_host(tmp_path: Path) -> None:
    """In fanout's own log files, a rank has one file for stdout and one for stderr."""
    names = ["gpu01.log", "gpu01.rank-1.log", "gpu01.rank-1-err.log", "gpu02.rank-3-err-attempt-1.log"]
    found = identify_files(names)
    assert [(each.host, each.rank) for each in found] == [("gpu01", None), ("gpu01", 1), ("gpu01", 1), ("gpu02", 3)]


def test_a_log_on_stdin_is_not_held_in_memory() -> None:
    """The input has 64 MB of lines without an end, then a traceback."""
    block = b"x" * (1 << 16)
    blocks = iter([block] * 1024 + [b"\n", (LOGS / "exception" / "gpu02.log").read_bytes()])
    out = io.StringIO()
    process = build_process("/", out, stdin=lambda size: next(blocks, b""))
    tracemalloc.start()
    try:
        status = run_why(parse_arguments(["why", "-"]), process)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert status == 0
    assert "ValueError" in out.getvalue() or "RuntimeError" in out.getvalue()
    assert peak < 16 << 20
