"""``fanout why`` on one real failure in every shape in which people have the logs of other launchers.

The run: torchrun on gpu01 and gpu02 (two ranks each, PyTorch 2.13, gloo), rank 3 raises ValueError. Its console output
is put together as each tool does it; a report of torchrun is one write, so it stays in one piece.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from fanout.diagnose.import_logs.line_labels import detect_labels, strip_timestamp
from fanout.model.errors import UsageError
from tests.diagnose.test_why import LOGS, call_why, verdict

CONSOLES, DIRECTORIES = LOGS / "consoles", LOGS / "directories"


def console(node: int) -> str:
    return (CONSOLES / f"gpu0{node + 1}.log").read_text()


def pieces(node: int) -> Iterator[list[str]]:
    """Return the lines of each write."""
    piece: list[str] = []
    report = False
    for line in console(node).splitlines():
        piece.append(line)
        report ^= line.startswith("=====")
        if not report:
            yield piece
            piece = []


def merge_consoles(label: Callable[[int, int], str]) -> str:
    """Return the output of both hosts in order of time, with ``label(node, number)`` before each line."""
    rng = random.Random(7)
    waiting = [list(pieces(0)), list(pieces(1))]
    out: list[str] = []
    while any(waiting):
        node = rng.choice([node for node in (0, 1) if waiting[node]])
        out += [label(node, len(out)) + line for line in waiting[node].pop(0)]
    return "\n".join(out) + "\n"


def stamp(number: int) -> str:
    return f"2026-11-23T00:42:{26 + number // 40:02d}.{1 + number % 40:02d}3373381Z "


#: What wrote the lines together -> (what stands before them, the name that the guilty host has then)
LABELLED: dict[str, tuple[Callable[[int, int], str], str]] = {
    "nothing": (lambda node, number: "", "gpu02"),
    "srun --label": (lambda node, number: f"{node}: ", "gpu02"),
    "kubectl logs --prefix": (lambda node, number: f"[pod/llama-worker-{node}/pytorch] ", "llama-worker-1"),
    "kubectl logs --prefix --timestamps": (lambda node, number: f"[pod/w-{node}/pytorch] {stamp(number)}", "w-1"),
    "stern": (lambda node, number: f"llama-worker-{node} pytorch ", "llama-worker-1"),
    "docker compose": (lambda node, number: f"node-{node}  | ", "node-1"),
    "pdsh": (lambda node, number: f"gpu0{node + 1}: ", "gpu02"),
    "pdsh by address": (lambda node, number: f"10.0.0.{node + 1}: ", "gpu02"),
    "pdsh by domain": (lambda node, number: f"{'ab'[node]}.lab.org: ", "b.lab.org"),
    "clush on hosts without numbers": (lambda node, number: ("alpha: ", "beta: ")[node], "beta"),
    "mpirun --tag-output": (lambda node, number: f"[1,{node}]<stderr>:", "gpu02"),
    "mpirun of Open MPI 5": (lambda node, number: f"[prterun-login-77@1,{node}]<stdout>: ", "gpu02"),
    "mpiexec -prepend-rank": (lambda node, number: f"[{node}] ", "gpu02"),
}


def find_cause(place: Path, *words: str) -> tuple[str | None, int | None, str]:
    """Return (host, rank, confidence) of the verdict."""
    found = verdict(*words, cwd=place)
    cause = found["cause"] or {"host": None, "rank": None}
    return cause["host"], cause["rank"], found["confidence"]


@pytest.mark.parametrize("tool", LABELLED)
def test_one_file_of_two_hosts(tool: str, tmp_path: Path) -> None:
    """The host and the rank are the failed ones, and no other word is taken for a host."""
    label, host = LABELLED[tool]
    (tmp_path / "slurm-4242.out").write_text(merge_consoles(label))
    assert find_cause(tmp_path, "slurm-4242.out") == (host, 3, "high")
    assert call_why("slurm-4242.out", cwd=tmp_path)[1].startswith("1 file of 2 hosts\n")


def test_one_console_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "all.log").write_text(console(0) + console(1))
    assert find_cause(tmp_path, "all.log") == ("gpu02", 3, "high")


def test_lines_of_the_tool_itself_belong_to_no_host(tmp_path: Path) -> None:
    """srun, slurmstepd and pdsh put no label before their own lines."""
    own = "srun: error: gpu02: task 1: Exited with exit code 1\nslurmstepd: error: *** STEP 4242.0 ON gpu01 CANCELLED ***\n"
    (tmp_path / "slurm-4242.out").write_text(merge_consoles(lambda node, number: f"{node}: ") + own)
    assert find_cause(tmp_path, ".") == ("gpu02", 3, "high")
    assert call_why(".", cwd=tmp_path)[1].startswith("1 file of 2 hosts\n")


RULE = "-" * 15
#: The line, or the lines, that these tools print before all output of a host.
HEADINGS = {
    "clush -b and dshbak": f"{RULE}\n{{host}}\n{RULE}\n",
    "tail of two files": "==> /var/log/{host}.log <==\n",
    "ansible": "{host} | FAILED | rc=1 >>\n",
    "ansible with streams": "{host} | CHANGED | rc=0 (stdout) >>\n",
    "pssh -i": "[1] 10:21:02 [FAILURE] ann@{host} Exited with error code 1\n",
}


@pytest.mark.parametrize("tool", HEADINGS)
def test_output_grouped_by_host(tool: str, tmp_path: Path) -> None:
    text = "".join(HEADINGS[tool].format(host=f"gpu0{n + 1}") + console(n) for n in (0, 1))
    (tmp_path / "gathered").write_text(text)
    assert find_cause(tmp_path, "gathered") == ("gpu02", 3, "high")


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (("slurm-4242-gpu01.out", "slurm-4242-gpu02.out"), "gpu02"),
        (("slurm-4242_0.out", "slurm-4242_1.out"), "gpu02"),
        (("0.out", "1.out"), "gpu02"),
        (("llama-worker-0.log", "llama-worker-1.log"), "llama-worker-1"),
        (("a/train.log", "b/train.log"), "b"),
    ],
)
def test_a_file_for_each_host(names: tuple[str, str], host: str, tmp_path: Path) -> None:
    """The name of the file identifies the host, or, if it is a number, torchrun's report in it."""
    for node, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(console(node))
    assert find_cause(tmp_path, ".") == (host, 3, "high")
    assert find_cause(tmp_path, *names) == (host, 3, "high")


@pytest.mark.parametrize(
    ("ending", "pack"),
    [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zstandard.compress)],
)
def test_packed_files(ending: str, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """The beginning of a truncated archive counts; a file that is no archive is refused by name."""
    for node in (0, 1):
        (tmp_path / f"gpu0{node + 1}.log.{ending}").write_bytes(pack(console(node).encode()))
    assert find_cause(tmp_path, ".") == ("gpu02", 3, "high")
    whole = pack(console(0).encode() * 50)
    (tmp_path / f"gpu01.log.{ending}").write_bytes(whole[: len(whole) // 2])
    assert find_cause(tmp_path, ".")[:2] == ("gpu02", 3)
    (tmp_path / f"gpu01.log.{ending}").write_bytes(whole[:10] + b"\xff" * 100 + whole[110:])
    with pytest.raises(UsageError, match=rf"gpu01\.log\.{ending}: cannot unpack it"):
        call_why(".", cwd=tmp_path)


def test_standard_input_is_a_file_too(tmp_path: Path) -> None:
    """Its lines are assigned as those of any file."""
    text = merge_consoles(lambda node, number: "").encode()
    found = verdict("-", cwd=tmp_path, stdin=text)
    assert (found["cause"]["host"], found["cause"]["rank"]) == ("gpu02", 3)
    assert found["cause"]["file"].startswith("stdin:")


def test_torchruns_log_directories(tmp_path: Path) -> None:
    """Below /tmp/torchelastic_*: the console of a host, or the name of the copied folder, identifies the host."""
    shutil.copytree(DIRECTORIES, tmp_path / "both")
    assert find_cause(tmp_path / "both", ".") == ("gpu02", 3, "high")
    assert call_why(".", cwd=tmp_path / "both")[1].startswith("10 files of 2 hosts\n")
    for host, name in (("gpu01", "torchelastic_ab1f"), ("gpu02", "torchelastic_9c2e")):
        shutil.copytree(DIRECTORIES / name, tmp_path / "copied" / host / "tmp" / name)
        shutil.copytree(DIRECTORIES / name, tmp_path / "bare" / name)
    assert find_cause(tmp_path / "copied", ".") == ("gpu02", 3, "high")
    assert find_cause(tmp_path / "bare", ".") == ("torchelastic_9c2e", 3, "high")


def test_tasks_of_srun_that_are_ranks_themselves(tmp_path: Path) -> None:
    """Without torchrun between them a task's number is its rank."""
    trace = ["Traceback (most recent call last):", '  File "train.py", line 3, in <module>', "KeyError: 'x'"]
    lines = [f"{task}: step {step} loss 1.0" for step in range(20) for task in range(4)]
    (tmp_path / "slurm-7.out").write_text("\n".join(lines + [f"2: {line}" for line in trace]) + "\n")
    assert find_cause(tmp_path, ".")[1] == 2


@pytest.mark.parametrize("label", ["{0}: ", "[1,{0}]<stderr>:", "[{0}] ", "[{0}]<stderr>:"])
def test_tasks_without_a_known_host_are_ranks_of_one_host(label: str, tmp_path: Path) -> None:
    """The number of a task names no host. A task without an error is found although the others have no host either."""
    timeout = (
        "[rank{0}]:[E508 10:32:31.929096 ProcessGroupNCCL.cpp:632] [Rank {0}] Watchdog caught collective operation timeout: "
        "WorkNCCL(SeqNum=7, OpType=ALLREDUCE, NumelIn=4, NumelOut=4, Timeout(ms)=600000) ran for 600065 milliseconds"
    )
    lines = [label.format(task) + f"step {step} loss 1.0" for step in range(20) for task in range(4)]
    lines += [label.format(task) + timeout.format(task) for task in (0, 1, 3)]
    (tmp_path / "exp7.out").write_text("\n".join(lines) + "\n")
    assert find_cause(tmp_path, ".") == ("exp7", 2, "medium")


def test_words_before_colons_are_no_hosts() -> None:
    """Metrics, levels and YAML are no hosts: only a word before lines of a launcher is a host's name."""
    assert detect_labels(["loss: 1.0", "lr: 0.1", "loss: 0.9", "lr: 0.1"]) is None
    assert detect_labels(["info: starting", "warning: slow", "info: done"]) is None
    assert detect_labels(["my-model is here", "my-data is there", "my-loss is low"]) is None
    assert strip_timestamp("2026 was a good year") == "2026 was a good year"


@pytest.mark.parametrize(
    "rest", ["[" * 60_000, '{"log":' * 8_000, "1}", "null}", '"a", "log": [1]}', "1" * 5_000 + "}"]
)
def test_a_line_that_only_begins_as_docker_writes_it_is_read_as_it_is(rest: str) -> None:
    line = f'{{"log":{rest}'
    assert strip_timestamp(line) == line
