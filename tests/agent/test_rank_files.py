"""Files that ranks write elsewhere: a real keeper finds and copies them, whatever started the ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fanout.agent import processes, rank_logs, torch_dirs
from tests.agent.agents import Agent, wait_for
from tests.processes import end_process

pytestmark = pytest.mark.process

# Does what torch does for `accelerate launch`: a directory of its own instead of PET_LOG_DIR, and a file per rank in it.
# Its arguments: seconds that each rank lives, and the directory that a user may name.
LAUNCHER = """
import os, subprocess, sys, tempfile
seconds, base = float(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="torchelastic_")
run = tempfile.mkdtemp(prefix="none_", dir=base)
ranks = []
for local in (0, 1):
    place = os.path.join(run, "attempt_0", str(local))
    os.makedirs(place)
    open(os.path.join(place, "error.json"), "w").close()
    files = [open(os.path.join(place, name), "w") for name in ("stdout.log", "stderr.log")]
    env = dict(os.environ, RANK=str(6 + local), LOCAL_RANK=str(local))
    text = "printf 'out of %s\\\\n\\\\000\\\\377' $RANK; sleep $0; printf 'last of %s' $RANK >&2; exit 7"
    ranks.append(subprocess.Popen(["bash", "-c", text, str(seconds)], env=env, stdout=files[0], stderr=files[1]))
print("the launcher", flush=True)
for rank in ranks:
    rank.wait()
import time; time.sleep(0.2)  # torch needs as long to report a failure
"""
BOTH = {f"rank {rank}": b"out of %d\n\0\377" % rank for rank in (6, 7)}
ALL = BOTH | {f"rank {rank} err": b"last of %d" % rank for rank in (6, 7)}


def follow_script(state: Path, cwd: Path, script: str, *, stacks: str = "off", **env: str) -> dict[str, bytes]:
    """Run a script to its end; return the recorded bytes by the name of the stream."""
    with Agent(state, **env) as agent:
        agent.start_run(script, cwd, first_rank=6, stacks=stacks)
        agent.end_run()
        names = {message["stream"]: message["name"] for message in agent.received if message["t"] == "stream_opened"}
    assert not state.exists()
    return {names.get(number, "main"): bytes(data) for number, data in agent.output.items()}


@pytest.mark.parametrize("seconds", ["0", "1"])
def test_files_in_a_temporary_directory_of_torch_are_copied_and_deleted(
    state: Path, tmp_path: Path, seconds: str
) -> None:
    """A rank that ends at once is found through its launcher, which has the files open."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    found = follow_script(state, tmp_path, f"{sys.executable} launcher.py {seconds}", TMPDIR=f"{tmp_path}/tmp")
    assert found == {"main": b"the launcher\n", **ALL}
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_directory_that_the_user_names_stays(state: Path, tmp_path: Path) -> None:
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    named = tmp_path / "torchelastic_12345678"
    named.mkdir(mode=0o700)
    found = follow_script(state, tmp_path, f"{sys.executable} launcher.py 0 {named}")
    assert found == {"main": b"the launcher\n", **ALL}
    assert sorted(path.read_bytes() for path in named.rglob("std*.log")) == sorted(ALL.values())


def test_only_files_of_torch_are_deleted(tmp_path: Path) -> None:
    """A file that the user put into the temporary directory stays, and so does a directory made anew at its path."""
    base = tmp_path / "torchelastic_12345678"
    rank = base / "none_1/attempt_0/0"
    for directory in (base, base / "none_1", rank.parent, rank):
        directory.mkdir(mode=0o700)
    for path in (rank / "stdout.log", rank / "mine.txt", base / "stdout.log"):
        path.write_text("x")
    torch_dirs.record_directory(str(tmp_path), str(base / "none_1"), os.getpid())
    torch_dirs.remove_temporary(str(tmp_path))
    assert sorted(path for path in base.rglob("*") if path.is_file()) == [rank / "mine.txt", base / "stdout.log"]
    base.rename(tmp_path / "other")
    rank.mkdir(parents=True)
    (rank / "stdout.log").write_text("x")
    torch_dirs.remove_temporary(str(tmp_path))
    assert (rank / "stdout.log").exists()


WAIT = "until [ -e {0} ]; do sleep 0.02; done; "


def test_a_rank_that_writes_to_a_file_is_recorded(state: Path, tmp_path: Path) -> None:
    """Truncated by another process, deleted, or with content of an earlier run: what the rank wrote is recorded."""
    (tmp_path / "old.log").write_text("an earlier run\n")
    os.utime(tmp_path / "old.log", (1, 1))
    script = """
RANK=0 bash -c 'echo zero; sleep 1.5; : > plain.log; echo more; sleep 0.5' > plain.log &
RANK=1 bash -c 'for n in 1 2 3; do echo line $n; sleep 1.5; : > added.log; done; echo more; sleep 0.5' >> added.log &
RANK=2 bash -c 'rm gone.log; echo two; sleep 0.5; echo both >&2; sleep 0.3' > gone.log 2>&1 &
RANK=3 bash -c 'sleep 0.3; echo three >&2; sleep 0.3' 2>> old.log &
RANK=4 bash -c 'sleep 0.3; exec > late.log; echo four; sleep 0.3' &
(RANK=5 bash -c 'echo five; sleep 0.3') > shell.log &
wait
"""
    found = follow_script(state, tmp_path, script)
    assert found == {
        "rank 0": b"zero\nmore\n",
        "rank 1": b"line 1\nline 2\nline 3\nmore\n",
        "rank 2": b"two\nboth\n",
        "rank 3 err": b"three\n",
        "rank 4": b"four\n",
        "rank 5": b"five\n",
    }
    assert sorted(path.name for path in tmp_path.glob("*.log")) == [
        "added.log",
        "late.log",
        "old.log",
        "plain.log",
        "shell.log",
    ]


def test_a_file_of_several_ranks_is_not_labelled_with_one_rank(state: Path, tmp_path: Path) -> None:
    """Helpers of a rank are not followed: only what a rank itself writes is its output."""
    (tmp_path / "rank.py").write_text(
        "import subprocess\nprint(1, flush=True)\n"
        "subprocess.run(['bash', '-c', 'echo 2; sleep 0.3'], stdout=open('helper.log', 'w'))\n"
    )
    ranks = f"for rank in 0 1; do RANK=$rank LOCAL_RANK=$rank {sys.executable} rank.py & done; wait"
    (tmp_path / "launcher.sh").write_text(ranks)
    script = "bash launcher.sh > all.log"
    found = follow_script(state, tmp_path, script)
    assert found == {"file all.log": b"1\n1\n"}


def test_ranks_on_the_pipe_of_the_keeper_get_files(state: Path, tmp_path: Path) -> None:
    """The launcher of DeepSpeed passes its stdout to the ranks: their lines would mix."""
    (tmp_path / "rank.py").write_text("import sys\nprint('out')\nprint('err', file=sys.stderr)\n")
    script = f"for rank in 0 1; do RANK=$rank LOCAL_RANK=$rank {sys.executable} rank.py & done; wait; echo end"
    found = follow_script(state, tmp_path, script, stacks="auto")
    assert found == {
        "main": b"end\n",
        **{f"rank {rank}": b"out\n" for rank in (0, 1)},
        **{f"rank {rank} err": b"err\n" for rank in (0, 1)},
    }


def test_what_a_rank_captures_itself_is_not_its_output(state: Path, tmp_path: Path) -> None:
    """DeepSpeed reads what a compiler prints in this way."""
    (tmp_path / "rank.py").write_text(
        "import os, tempfile, time\n"
        "print('before', flush=True)\ntime.sleep(0.3)\n"
        "saved, file = os.dup(1), tempfile.TemporaryFile()\nos.dup2(file.fileno(), 1)\n"
        "print('captured', flush=True)\ntime.sleep(0.5)\nos.dup2(saved, 1)\n"
        "time.sleep(0.3)\nprint('after', flush=True)\n"
    )
    found = follow_script(state, tmp_path, f"RANK=0 LOCAL_RANK=0 {sys.executable} rank.py > rank.log")
    assert found == {"rank 0": b"before\nafter\n"}


def test_file_that_torchrun_makes_during_a_search_is_one_stream(tmp_path: Path) -> None:
    """The keeper lists the files of its own directory, then torchrun makes one, then the keeper sees it at the rank."""
    logs = rank_logs.RankLogs(str(tmp_path), 0)
    place = tmp_path / "ranks" / "none_x" / "attempt_0" / "0"
    place.mkdir(parents=True)
    env = {"PATH": "/usr/bin:/bin", "RANK": "0", "LOCAL_RANK": "0"}
    with open(place / "stdout.log", "wb") as output:
        rank = subprocess.Popen(["sleep", "60"], env=env, stdout=output)
    try:
        wait_for(lambda: b"sleep" in processes.read_text(f"/proc/{rank.pid}/cmdline").encode(), "the rank runs")
        (place / "stdout.log").write_bytes(b"step 1\n")
        logs._search_processes(os.getpid())
        logs.scan(os.getpid(), final=True)
    finally:
        end_process(rank)
    assert logs.names == {1: "rank 0"}
    assert logs.paths == {1: str(place / "stdout.log")}
