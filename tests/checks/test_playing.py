"""Rehearsal and shared-directory tokens on this machine: their results, and that they leave nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fanout.checks.rehearsal.launcher_command import parse_launcher_call
from fanout.checks.rehearsal.launchers import describe_launchers
from fanout.model.rpc import ProbeRequest
from tests.agent.agents import wait_for
from tests.checks.kit import ForkingAsker
from tests.skips import skip

pytestmark = pytest.mark.process

GIVEN = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "NPROC_PER_NODE": "4"}
PLAIN = 'torchrun --nnodes=$NNODES --node-rank=$NODE_RANK --nproc-per-node=$NPROC_PER_NODE "$@"'
PASSED = ["--nnodes=2", "--node-rank=1", "--nproc-per-node=4", "task.py", "cfg.yaml"]


@pytest.fixture
def asker() -> ForkingAsker:
    return ForkingAsker()


def run_rehearsal(asker: ForkingAsker, folder: Path, script: str, **more: Any) -> dict[str, Any]:
    """Rehearse ``train.sh`` with this text in ``folder``; skip the test if the kernel allows no sandbox."""
    (folder / "train.sh").write_text(script + "\n")
    (folder / "task.py").touch()
    argv = ["bash", "-o", "pipefail", "train.sh", "task.py", "cfg.yaml"]
    args = {
        "cwd": str(folder),
        "argv": argv,
        "task": "task.py",
        "env": GIVEN,
        "launchers": describe_launchers(),
        **more,
    }
    (answer,) = asker.ask([ProbeRequest(host="gpu01", what="rehearse", args=args, timeout=30)])
    if answer.reason == "no-sandbox":
        skip("namespaces", answer.error)
    assert answer.error == ""
    value: dict[str, Any] = answer.value
    return value


@pytest.mark.parametrize(
    ("script", "argv", "status"),
    [
        (PLAIN, PASSED, 86),
        (f"{PLAIN} 2>&1 | tee log.txt", PASSED, 86),
        (f"set -x\n{PLAIN} || true", PASSED, 0),
        (f"exec {PLAIN}", PASSED, 86),
        (f". env/bin/activate; export PYTHONPATH=$PWD; {PLAIN}", PASSED, 86),
        (f"export PATH=$PWD/env/bin:$PATH; {PLAIN}", PASSED, 86),
        (f"env/bin/{PLAIN}", PASSED, 86),
        ('python3 -m torch.distributed.run --nnodes=$NNODES "$@"', ["-m", "torch.distributed.run", "--nnodes=2", "task.py", "cfg.yaml"], 86),
        ('N=$(python3 -c "print(1 + 2)"); torchrun --nnodes=$N "$@"', ["--nnodes=3", "task.py", "cfg.yaml"], 86),
        ('bash -c \'torchrun "$0" "$@"\' "$@"', ["task.py", "cfg.yaml"], 86),
    ],
    ids=["plain", "tee", "or-true", "exec", "activate", "path", "absolute", "module", "python-before", "nested"],
)  # fmt: skip
def test_every_way_to_call_torchrun_is_recorded_and_never_starts_it(
    asker: ForkingAsker, tmp_path: Path, script: str, argv: list[str], status: int
) -> None:
    """The project's environment has a torchrun that would leave a file; nothing calls it."""
    folder = tmp_path / "env" / "bin"
    folder.mkdir(parents=True)
    (folder / "torchrun").write_text(f"#!/bin/sh\ntouch {tmp_path}/trained\nexit 3\n")
    (folder / "torchrun").chmod(0o755)
    (folder / "activate").write_text(f"PATH={folder}:$PATH\n")
    played = run_rehearsal(asker, tmp_path, script)
    assert played["count"] == 1, played
    (call,) = played["calls"]
    assert (call["program"], call["argv"], played["status"]) == ("torchrun", argv, status)
    assert call["env"].items() >= GIVEN.items()


@pytest.mark.parametrize(
    ("script", "real"),
    [
        (PLAIN, ""),
        (f"command -v torchrun || {{ echo 'torchrun: not found; activate the environment'; exit 1; }}\n{PLAIN}", ""),
        (f". env/bin/activate\n{PLAIN}", "env/bin/torchrun"),
        (f"PATH=$PWD/env/bin:$PATH {PLAIN}", "env/bin/torchrun"),
        (f"env/bin/{PLAIN}", "env/bin/torchrun"),
        (f"for try in 1; do {PLAIN}; done", ""),
    ],
    ids=["bare", "own-message", "activated", "for-one-command", "by-its-path", "in-a-loop"],
)
def test_the_program_that_a_run_would_start_is_reported_beside_the_recorder(
    asker: ForkingAsker, tmp_path: Path, script: str, real: str
) -> None:
    """The effect of the script on PATH counts, not what it prints about it."""
    folder = tmp_path / "env" / "bin"
    folder.mkdir(parents=True)
    (folder / "torchrun").write_text(f"#!{sys.executable}\n")
    (folder / "torchrun").chmod(0o755)
    (folder / "activate").write_text(f"PATH={folder}:$PATH\n")
    (call,) = run_rehearsal(asker, tmp_path, script, env={**GIVEN, "PATH": "/usr/bin:/bin"})["calls"]
    assert call["real"] == (str(tmp_path / real) if real else "")
    assert call["python"] == (sys.executable if real else "")


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("set -e\nsource /opt/no-such-conda/etc/profile.d/conda.sh\n" + PLAIN, "line 2: /opt/no-such-conda/etc/profile.d/conda.sh: No such file"),
        ("no-such-program\nexit 3", "line 1: no-such-program: command not found"),
        ("set -u\necho $NO_SUCH_VARIABLE\n" + PLAIN, "line 2: NO_SUCH_VARIABLE: unbound variable"),
        ("if true\nthen fi", "syntax error near unexpected token"),
        ("rm old.log; false", ""),
        (". /run/site/env.sh; false", ""),
    ],
    ids=["source", "program", "unset", "syntax", "a-tool-s-words", "hidden-in-the-box"],
)  # fmt: skip
def test_error_lines_of_the_shell_about_the_script_are_kept(
    asker: ForkingAsker, tmp_path: Path, script: str, error: str
) -> None:
    """Only lines that name the file are kept, not errors of the sandbox or of other tools."""
    errors = run_rehearsal(asker, tmp_path, script)["errors"]
    assert len(errors) >= bool(error)
    assert error in " ".join(errors)
    assert bool(errors) is bool(error)


ACCELERATE = "--num_machines $NNODES --machine_rank $NODE_RANK"


@pytest.mark.parametrize(
    ("script", "program"),
    [
        (f'python3 -m accelerate.commands.launch {ACCELERATE} "$@"', "accelerate"),
        (f'accelerate env; accelerate launch {ACCELERATE} "$@"', "accelerate"),
        ('python3 -u -m deepspeed.launcher.runner --num_gpus 4 "$@"', "deepspeed"),
        ('FORCE_TORCHRUN=1 llamafactory-cli train "$@"', "llamafactory-cli"),
        ("until ray status; do sleep 1; done; ray start --block --address=$MASTER_ADDR:$MASTER_PORT", "ray"),
        ('mpirun -np 2 python3 "$@"', "mpirun"),
    ],
)
def test_each_launcher_is_recorded_under_its_own_name(
    asker: ForkingAsker, tmp_path: Path, script: str, program: str
) -> None:
    """Subcommands that start no ranks are not calls."""
    played = run_rehearsal(asker, tmp_path, script)
    assert [call["program"] for call in played["calls"]] == [program], played
    assert played["status"] == 86
    assert parse_launcher_call(played["calls"][0]) is not None


def test_values_of_the_launcher_s_file_are_read_and_no_others(asker: ForkingAsker, tmp_path: Path) -> None:
    """The script may write the file itself, and a DeepSpeed hostfile is counted."""
    script = "printf 'num_machines: 2\\nmachine_rank: %s\\nsecret: 1\\n' $NODE_RANK > a.yaml; accelerate launch --config_file=a.yaml task.py"
    (call,) = run_rehearsal(asker, tmp_path, script)["calls"]
    assert call["file"]["values"] == {"num_machines": "2", "machine_rank": "1"}
    (call,) = run_rehearsal(asker, tmp_path, "accelerate launch --config_file none.yaml task.py")["calls"]
    assert call["file"]["error"] == "it does not exist"
    (tmp_path / "hosts").write_text("# two\ngpu01 slots=8\ngpu02 slots=8\n")
    (call,) = run_rehearsal(asker, tmp_path, "deepspeed --hostfile hosts task.py")["calls"]
    assert call["file"]["lines"] == 2


@pytest.mark.parametrize(
    ("script", "left", "detached"),
    [
        (f"nohup {PLAIN} > out.log 2>&1 &\necho started", True, ["nohup"]),
        (f"{PLAIN} & disown\necho started", True, ["disown"]),
        (f"setsid {PLAIN}", False, ["setsid"]),
        (f"ssh gpu02 true || true\n{PLAIN}", False, ["ssh"]),
        (f"/usr/bin/ssh gpu02 true || true\n{PLAIN}", False, ["ssh"]),
        (f"/usr/bin/nohup {PLAIN} > out.log 2>&1 &\necho started", True, ["nohup"]),
        (f"/usr/bin/setsid {PLAIN}", False, ["setsid"]),
        (f"tmux new -d 'torchrun task.py'\n{PLAIN}", False, ["tmux"]),
        (f"{PLAIN} &\nwait $!", False, []),
        (f"(sleep 0.1; true) &\n{PLAIN}", False, []),
        (f"{PLAIN} | tee log.txt", False, []),
    ],
    ids=[
        "nohup",
        "disown",
        "setsid",
        "ssh",
        "path-of-ssh",
        "path-of-nohup",
        "path-of-setsid",
        "tmux",
        "wait",
        "helper",
        "tee",
    ],
)
def test_ranks_that_leave_the_foreground_of_the_script_are_seen(
    asker: ForkingAsker, tmp_path: Path, script: str, left: bool, detached: list[str]
) -> None:
    """A script that waits for its launcher, or has a helper in the background, is correct."""
    played = run_rehearsal(asker, tmp_path, script)
    assert played["calls"], played
    assert (bool(played["left"]), [row["program"] for row in played["detached"]]) == (left, detached)


def test_import_errors_of_a_helper_are_kept(asker: ForkingAsker, tmp_path: Path) -> None:
    """The error is a finding although no line of the shell names it."""
    played = run_rehearsal(asker, tmp_path, f"set -e\npython3 -c 'import no_such_module'\n{PLAIN}")
    assert played["errors"] == ["ModuleNotFoundError: No module named 'no_such_module'"]


def test_other_effects_of_the_script_stay_in_the_sandbox(asker: ForkingAsker, tmp_path: Path) -> None:
    """The script deletes, writes, empties the log of the last run, uses the network and kills: only in the sandbox."""
    victim = tmp_path / "checkpoint"
    victim.write_text("weeks of work")
    (tmp_path / "log.txt").write_text("last run")
    lines = (
        "rm -r checkpoint",
        f"[ ! -e {victim} ] && echo gone in here",
        "touch /usr/made /etc/made",
        "echo > /tmp/made-by-a-rehearsal",
        "exec 3<>/dev/tcp/127.0.0.1/22 && echo connected",
        f"{PLAIN} | tee log.txt",
    )
    played = run_rehearsal(asker, tmp_path, "\n".join(lines))
    assert played["count"] == 1
    assert "gone in here" in played["words"]
    assert "connected" not in played["words"]
    assert victim.read_text() == "weeks of work"
    assert (tmp_path / "log.txt").read_text() == "last run"
    assert not any(
        Path(path).exists() for path in ("/usr/made", "/etc/made", "/tmp/made-by-a-rehearsal", "/dev/shm/fanout-box")
    )


#: Mounts a tmpfs below the work directory and below the home directory, then rehearses train.sh.
MOUNTED = """
mount -t tmpfs none data && mount -t tmpfs none home/scratch && echo deep > data/in && mkdir home/scratch/kept || exit 77
exec "$0" -c "import json, sys
from fanout.agent.probes import rehearsal
print(json.dumps(rehearsal.ask_rehearse(json.loads(sys.argv[1]))))" "$1"
"""


def test_mounts_below_the_work_and_home_directory_do_not_hinder_a_rehearsal(tmp_path: Path) -> None:
    """The kernel refuses an overlay of a directory with mounts below it in a user namespace."""
    for place in ("data", "home/scratch", "home/.cache", "sub"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "large").write_bytes(bytes(2 << 20))
    (tmp_path / "link").symlink_to("sub")
    lines = (
        "set -e",
        "grep deep data/in; echo a > data/a; echo b > sub/b; echo c > link/c; echo d >> train.sh",
        "mkdir -p ~/.cache/x ~/new; echo e > ~/scratch/e; [ -d ~/scratch/kept ]; [ $(stat -c %s large) = 2097152 ]",
        PLAIN,
    )
    (tmp_path / "train.sh").write_text("\n".join(lines) + "\n")
    argv = ["bash", "-o", "pipefail", "train.sh", "task.py", "cfg.yaml"]
    args = {"cwd": str(tmp_path), "argv": argv, "task": "task.py", "env": GIVEN, "launchers": describe_launchers()}
    command = ["unshare", "-Urm", "bash", "-c", MOUNTED, sys.executable, json.dumps(args)]
    env = {**os.environ, "HOME": str(tmp_path / "home")}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=60)
    if "unshare" in done.stderr or done.returncode == 77:
        skip("namespaces", done.stderr)
    played = json.loads(done.stdout)
    assert (played["status"], played["errors"], played["count"]) == (86, [], 1), played
    assert sorted(path.name for path in tmp_path.rglob("?")) == []
    assert (tmp_path / "train.sh").read_text().endswith(f"{PLAIN}\n")


def test_a_slow_script_is_killed_with_all_its_processes(asker: ForkingAsker, tmp_path: Path) -> None:
    """Processes that left its session are killed too. There is no exit status, because it did not exit itself."""
    word = f"sleep 1000.{tmp_path.stat().st_ino}"
    played = run_rehearsal(asker, tmp_path, f"setsid {word} & sleep 1000", seconds=0.5)
    assert (played["status"], played["count"]) == (None, 0)
    commands = [
        path.read_bytes().replace(b"\0", b" ") for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()
    ]
    assert not any(word.encode() in command for command in commands)


def test_a_python_helper_of_the_script_runs_as_usual(asker: ForkingAsker, tmp_path: Path) -> None:
    """Only a program that starts a training is held back; the python that runs it is reported."""
    (tmp_path / "count.py").write_text("import sys; print(len(sys.argv))\n")
    script = f"export PATH={Path(sys.executable).parent}:$PATH; torchrun --nnodes=$(python3 count.py a task.py) task.py"
    played = run_rehearsal(asker, tmp_path, script)
    assert played["calls"][0]["argv"] == ["--nnodes=3", "task.py"]
    assert played["calls"][0]["python"].startswith(str(Path(sys.executable).parent))


def test_a_task_without_torchrun_is_held_back_too(asker: ForkingAsker, tmp_path: Path) -> None:
    """`python task.py` would train."""
    played = run_rehearsal(asker, tmp_path, 'python3 -u "$@"')
    assert [call["program"] for call in played["calls"]] == ["task"]


def test_tokens_distinguish_one_directory_from_copies_and_are_removed(asker: ForkingAsker, tmp_path: Path) -> None:
    """Two hosts share a directory and a third has its own; afterwards all are as empty as before."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
    asks = [
        ProbeRequest(
            host=f"gpu0{number}",
            what="share",
            args={"workdir": str(folder), "nonce": "abc", "index": number, "count": 3},
        )
        for number, folder in enumerate((ours, ours, theirs))
    ]
    left = asker.ask(asks)
    seen = asker.ask([ProbeRequest(host=ask.host, what="shared", args=ask.args) for ask in asks])
    assert [answer.value["seen"] for answer in seen] == [[0, 1], [0, 1], [2]]
    for ask, answer in zip(asks, left, strict=True):
        asker.cancel(ask.host, answer.handle)
    wait_for(lambda: not [*ours.iterdir(), *theirs.iterdir()], "the tokens are gone")
