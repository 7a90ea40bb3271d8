"""``--on-hang restart``: begun again as a run of its own, a few times, and never where that would be wrong."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fanout.model import outcome
from fanout.model.actions import StopReason
from fanout.model.errors import UsageError
from fanout.model.events import Interrupted, Leftover
from fanout.model.settings import Settings
from fanout.run import restart
from fanout.run.detach import ParentPipe
from fanout.run.process_context import ProcessContext
from tests.histories import History

PROCESS = ProcessContext(
    environ={},
    cwd="/",
    stdout=io.StringIO(),
    stderr=io.StringIO(),
    stdin=lambda _: b"",
    user="me",
    machine="pc",
    prefix="",
    columns=100,
)


class Tries:
    """Runs of which so many hang; ``pipes`` has the parent pipe of each."""

    def __init__(self, hangs: int, *, left: bool = False) -> None:
        self.hangs, self.left, self.hung = hangs, left, False
        self.pipes: list[ParentPipe | None] = []

    @property
    def run_id(self) -> str:
        return f"run{len(self.pipes)}"

    def run(self, parent_pipe: ParentPipe | None = None) -> int:
        self.pipes.append(parent_pipe)
        self.hung = len(self.pipes) <= self.hangs
        return 125 if self.hung else 0

    def build_next_run(self) -> Tries:
        return self


@pytest.mark.parametrize(("hangs", "begun", "code"), [(0, 1, 0), (1, 2, 0), (3, 4, 0), (9, 4, 125)])
def test_it_is_begun_again_until_it_does_not_hang_or_three_times(hangs: int, begun: int, code: int) -> None:
    tries = Tries(hangs)
    assert restart.run_with_restarts(tries, PROCESS) == code
    assert len(tries.pipes) == begun


def test_a_detached_run_restarts_without_a_parent_pipe() -> None:
    """The command that was typed has returned: it cannot do so twice."""
    read, write = os.pipe()
    parent_pipe = ParentPipe(write)
    for left, wanted in ((True, [parent_pipe, None]), (False, [parent_pipe, parent_pipe])):
        tries = Tries(1, left=left)
        restart.run_with_restarts(tries, PROCESS, parent_pipe)
        assert tries.pipes == wanted
    os.close(read)
    os.close(write)


def build_ended(reason: StopReason, *, interrupted: bool = False, left: tuple[Leftover, ...] = ()) -> bool:
    run = History("gpu01", "gpu02").link().start().stop("why", "gpu01", "gpu02", reason=reason)
    if interrupted:
        run.add(Interrupted(at=run.at, signal=2))
    state = run.end("gpu01", "gpu02", code=None, signal=15).tidy("gpu01").tidy("gpu02", left=left).play()
    return restart.may_restart(state, outcome.outcome_of(state))


def test_only_a_run_that_was_ended_for_a_hang_and_left_nothing_is_begun_again() -> None:
    assert build_ended("hang")
    assert not build_ended("host-failed")
    assert not build_ended("hang", interrupted=True)
    assert not build_ended("hang", left=(Leftover(pid=7, state="D", wchan="nfs4_wait", command="python3"),))


@pytest.mark.parametrize("word", ["stop", "restart"])
def test_on_hang_without_hang_detection_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match=f"--on-hang {word} needs --hang-timeout"):
        restart.check_restart_settings(Settings(on_hang=word))
    restart.check_restart_settings(Settings(on_hang=word, hang_timeout="auto"))
    restart.check_restart_settings(Settings())


#: The first time rank 1 sleeps; from then on all is well.
TASK = """import os, sys, time
print("rank", os.environ["RANK"], flush=True)
if os.environ["RANK"] == "1" and not os.path.exists("been"):
    open("been", "w").close()
    time.sleep(1000)
"""


@pytest.mark.process
def test_a_run_that_hung_once_ends_well_and_both_have_a_record(tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text(
        f"for rank in 0 1; do RANK=$rank LOCAL_RANK=$rank {sys.executable} $1 & done; wait -n; wait"
    )
    (tmp_path / "task.py").write_text(TASK)
    own = {"FANOUT_STATE": str(tmp_path / "state"), "XDG_STATE_HOME": str(tmp_path / "xdg")}
    words = ["--skip-check", "--nproc-per-node", "2", "--venv", "none", "--output", "plain", "--grace", "1"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "fanout",
            "run",
            *words,
            "--hang-timeout",
            "1",
            "--on-hang",
            "restart",
            "localhost",
            "task.py",
        ],
        cwd=tmp_path,
        timeout=100,
        check=False,
        env=os.environ | own | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, second = sorted(path.name for path in (tmp_path / "xdg/fanout/runs").iterdir())
    assert f"run {first} hung: restarting it as run {second} (restart 1 of at most 3)" in done.stderr
    assert "STOPPED after" in done.stderr
    assert f"runs/{second}" in done.stderr.splitlines()[-1]
