"""Dumps that torch wrote, torch's own reader, and a run whose ranks leave dumps."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fanout.cli.parser import parse_arguments
from fanout.commands.why import run_why
from tests.diagnose.kit import NCCL
from tests.diagnose.recorder import build_dump, build_entry, build_finished, write_dumps
from tests.process_contexts import build_process

pytestmark = pytest.mark.process

#: Ranks on gloo: all but one have begun a second sum when they dump.
GLOO = """
import os, pickle, sys
import torch, torch.distributed as dist
from torch._C._distributed_c10d import _dump_fr_trace
rank, place = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method="file://" + place + "/store", rank=rank, world_size=3)
def step():
    return dist.all_reduce(torch.ones(4), async_op=True)
step().wait()
while not pickle.loads(_dump_fr_trace())["entries"][0]["retired"]:
    pass  # its thread takes it off the list a moment after it is done
if rank != 1:
    step()
with open(place + "/nccl_trace_rank_%d" % rank, "wb") as file:
    file.write(_dump_fr_trace())
print("left", flush=True)
sys.stdin.read()
os._exit(0)
"""

#: : Result of torch's reader for a folder: for each incomplete collective its number, the missing and the different ranks.
READER = """
import json, sys
from torch.distributed.flight_recorder.components.builder import build_db
from torch.distributed.flight_recorder.components.config_manager import JobConfig
from torch.distributed.flight_recorder.components.loader import read_dir
args = JobConfig().parse_args([sys.argv[1], "-p", "nccl_trace_rank_", "--allow-incomplete-ranks"])
details, version = read_dir(args)
bad = [each for each in build_db(details, args, version).collectives if not each.pass_check or each.missing_ranks]
print(json.dumps([[each.collective_seq_id, sorted(each.missing_ranks or ()), sorted(each.mismatch_collectives or ())]
                  for each in bad]))
"""


def diagnose_dumps(*words: str, cwd: Path) -> dict[str, Any]:
    out = io.StringIO()
    process = build_process(cwd, out)
    run_why(parse_arguments(["why", "--json", *words]), process)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


@pytest.mark.slow
def test_dumps_of_real_ranks_name_the_one_that_did_not_come(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(GLOO)
    ranks = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "task.py"), str(rank), str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        )
        for rank in range(3)
    ]
    for child in ranks:
        assert child.stdout is not None
        assert any(line == "left\n" for line in child.stdout)
    for child in ranks:
        child.communicate(timeout=60)
    found = diagnose_dumps(*(f"nccl_trace_rank_{rank}" for rank in range(3)), cwd=tmp_path)
    assert found["cause"]["rank"] == 1
    assert found["files"] == 3
    (text,) = found["evidence"]
    assert "ranks 0,2 wait in all_reduce #2 of the default group (task.py:8)" in text
    assert "rank 1 did not go beyond #1 (all_reduce, task.py:8)" in text


@pytest.mark.slow
def test_torchs_own_reader_agrees_on_such_dumps(tmp_path: Path) -> None:
    """The dumps are of a missing rank and of a rank in another collective, in the format of NCCL's ranks."""
    waits = [*build_finished(6), build_entry(7, state="started")]
    other = [*build_finished(6), build_entry(7, "broadcast", state="started")]
    write_dumps(
        tmp_path / "absent",
        {0: build_dump(waits), 1: build_dump(waits), 2: build_dump(waits), 3: build_dump(build_finished(6))},
    )
    write_dumps(
        tmp_path / "other", {0: build_dump(waits), 1: build_dump(other), 2: build_dump(waits), 3: build_dump(waits)}
    )
    for kind, rank in (("absent", 3), ("other", 1)):
        done_ = subprocess.run(
            [sys.executable, "-c", READER, str(tmp_path / kind)],
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        theirs = json.loads(done_.stdout.splitlines()[-1])
        assert theirs == [[7, [3], []]] if kind == "absent" else [7, [], [1]] in theirs
        assert diagnose_dumps(kind, cwd=tmp_path)["cause"]["rank"] == rank


def test_dumps_among_logs_are_read_as_dumps_and_a_broken_one_is_reported(tmp_path: Path) -> None:
    """The logs assign their ranks; under another name their first bytes identify them; a text with a number is a log."""
    waits = [*build_finished(6), build_entry(7, state="started")]
    write_dumps(tmp_path, {rank: build_dump(waits) for rank in (0, 1, 2)}, prefix="fr_")
    write_dumps(tmp_path, {3: build_dump(build_finished(6))}, prefix="fr_")
    (tmp_path / "nccl_trace_rank_4").write_bytes(b"\x80\x02}")
    (tmp_path / "job.gpu01.log").write_text("".join(f"{NCCL.format(rank=rank)}\n" for rank in (0, 1, 2, 3)))
    (tmp_path / "epoch_7").write_text("step 1\n")
    found = diagnose_dumps(".", cwd=tmp_path)
    assert (found["cause"]["rank"], found["cause"]["signature"], found["files"]) == (3, "missing", 7)
    assert any("not read: ./nccl_trace_rank_4: it is not a complete dump" in text for text in found["hosts"])


#: : Ranks that write a dump where train.sh configures it, report a timeout, and end with it.
RANK = """
import os, shutil, sys
rank, place = os.environ["RANK"], os.environ["TORCH_FR_DUMP_TEMP_FILE"]
os.makedirs(os.path.dirname(place), exist_ok=True)
shutil.copyfile("made/nccl_trace_rank_" + rank, place + rank)
print(open("made/line").read().replace("RANK", rank), flush=True)
"""
SCRIPT = """export TORCH_FR_DUMP_TEMP_FILE=dumps/of_rank_
for rank in 0 1 2; do RANK=$rank LOCAL_RANK=$rank {python} "$1" & done
wait
exit 1
"""


def test_a_run_reads_the_dumps_that_its_ranks_left(tmp_path: Path) -> None:
    """Only train.sh knows the name, and the ranks have exited; a dump of an earlier run does not count."""
    waits = [*build_finished(6), build_entry(7, state="started")]
    dumps = {
        0: build_dump(waits, world=3),
        1: build_dump(build_finished(6, line=41), world=3),
        2: build_dump(waits, world=3),
    }
    write_dumps(tmp_path / "made", dumps)
    (tmp_path / "made/line").write_text(NCCL.format(rank="RANK"))
    (old,) = write_dumps(tmp_path / "dumps", {3: build_dump(waits, world=3)}, prefix="of_rank_")
    os.utime(old, (1.0, 1.0))
    (tmp_path / "train.sh").write_text(SCRIPT.format(python=sys.executable))
    (tmp_path / "task.py").write_text(RANK)
    own = {"FANOUT_STATE": str(tmp_path / "state"), "XDG_STATE_HOME": str(tmp_path / "xdg")}
    words = ["--skip-check", "--nproc-per-node", "3", "--venv", "none", "--output", "plain", "--grace", "1", "--full"]
    ran = subprocess.run(
        [sys.executable, "-m", "fanout", "run", *words, "localhost", "task.py"],
        cwd=tmp_path,
        timeout=100,
        check=False,
        env=os.environ | own | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1, ran.stderr
    assert "first cause  rank 1 on localhost" in ran.stderr
    assert "did not reach all_reduce #7 of the default group, where the others wait" in ran.stderr
    assert "rank 1 did not go beyond #6 (all_reduce, train.py:41)" in ran.stderr
    assert "of_rank_0 and 2 more (torchfrtrace reads them)" in ran.stderr
