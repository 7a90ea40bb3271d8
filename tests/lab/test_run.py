"""``fanout run`` over real sshd, as a user sees it: the stream, the exit status, the record, and hosts left empty."""

from __future__ import annotations

import json
import re
import sys

import pytest

from tests.lab.drive import Project, lines_of, list_processes, same_as_golden
from tests.lab.lab import Lab
from tests.lab.oracle import assert_clean

TRAIN = "tasks/train_llada2_bd.py"
CONFIG = "configs/sft/llada2_mini_bd_sft.yaml"
NAMES = ("h1", "h2", "h3", "h4")


def _list_losses(out: str) -> dict[int, float]:
    return {int(step): float(loss) for step, loss in re.findall(r"step (\d+)/\d+ loss ([\d.]+)", out)}


@pytest.mark.timeout(200)
def test_four_hosts_train_a_real_model_together(project: Project) -> None:
    """One command: checked, started with the right exports, loss falls on all four, every byte of log recorded."""
    project.copy_real_tasks()
    project.get_path("train.sh").rename(project.get_path("torch.sh"))
    project.write_train_script(
        'bash torch.sh "$@" 2>&1 | tee "wrote.$NODE_RANK"\n'
    )  # a pipe as in dFactory's own train.sh
    flags = ("--train.max_steps", "20", "--train.save_steps", "0", "--data.val_examples", "32")
    done = project.run_fanout("run", "--show", "all", "hosts.txt", TRAIN, CONFIG, *flags, timeout=180)
    assert done.code == 0, done.all
    for rank, name in enumerate(NAMES):
        assert any(f"rank: {rank}, world size: 4, host: {name}" in line for line in lines_of(done.out, name)), done.all
        assert project.read_log(name) == project.get_path(f"wrote.{rank}").read_bytes()
    losses = _list_losses(done.out)
    assert losses[1] == pytest.approx(5.55, abs=0.05)
    assert losses[20] < losses[10] < losses[1] - 1
    assert "all 4 hosts succeeded" in done.err
    assert "nothing is left on them" in done.err
    kinds = [event["type"] for event in project.read_events()]
    assert kinds[0] == "run"
    assert kinds.count("exited") == kinds.count("cleaned_up") == 4
    plan = json.loads((project.list_records()[-1] / "plan.json").read_text())
    assert (plan["master_addr"], plan["master_port"], plan["world_size"]) == ("10.77.0.1", 29500, 4)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_hosts_learn_more_than_the_frequency_of_letters(project: Project) -> None:
    """The configuration that we ship ends well below what counting bytes would reach."""
    project.copy_real_tasks()
    done = project.run_fanout("run", "-w", "h[1-2]", "hosts.txt", TRAIN, CONFIG, timeout=380)
    assert done.code == 0, done.all
    (found,) = re.findall(r"val_nll ([\d.]+) unigram_nll ([\d.]+)", done.out)[-1:]
    assert float(found[0]) < 0.85 * float(found[1])


def test_a_project_without_train_sh_gets_torchrun_from_the_environment_that_was_named(
    project: Project,
) -> None:
    """No script and no torchrun on the login's PATH: ``--venv`` finds it, and the ranks really exchange data."""
    project.copy_real_tasks()
    project.get_path("train.sh").unlink()
    project.write_hostfile("h1 slots=1\nh2 slots=1\n")
    done = project.run_fanout("run", "--venv", sys.prefix, "hosts.txt", "tasks/hello.py", timeout=90)
    assert done.code == 0, done.all
    assert "all-reduce of [rank, 1] gave [1, 2], expected [1, 2]: right" in done.out


SHOW = """
echo "NNODES=$NNODES NODE_RANK=$NODE_RANK NPROC_PER_NODE=$NPROC_PER_NODE MASTER=$MASTER_ADDR:$MASTER_PORT"
echo "PYTHONPATH=$PYTHONPATH"
echo "args=$*" "pwd=$(pwd)"
"""


def test_each_host_gets_its_exports_and_the_task_its_own_words(project: Project) -> None:
    """The documented contract of train.sh, with hosts filtered, and words that a shell would break."""
    project.write_train_script(SHOW)
    project.write_hostfile("h1 slots=8\nh2 slots=4\nh3 slots=8\nh4 slots=2\n")
    words = ["a b", "$HOME", "it's", 'say "ü"', "--lr", "1e-4"]
    flags = ("--stacks", "off", "-x", "h1", "--nnodes", "2", "--master-port", "29777")
    done = project.run_fanout("run", *flags, "hosts.txt", "task.py", *words)
    assert done.code == 0, done.all
    here = project.here
    for rank, (name, slots) in enumerate((("h2", 4), ("h3", 8))):
        assert lines_of(done.out, name) == [
            f"NNODES=2 NODE_RANK={rank} NPROC_PER_NODE={slots} MASTER=10.77.0.2:29777",
            f"PYTHONPATH={here}/VeOmni:{here}",
            f"args=task.py {' '.join(words)} pwd={here}",
        ], done.all


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        (["-w", "h[2-3]"], ["h2", "h3"]),
        (["-x", "h1,h4"], ["h2", "h3"]),
        (["-i", "h2@h4"], ["h2", "h4"]),
        (["-e", "h1"], ["h2", "h3", "h4"]),
        (["--nnodes", "3"], ["h1", "h2", "h3"]),
    ],
)
def test_filters_choose_hosts_and_ranks_follow(project: Project, flags: list[str], chosen: list[str]) -> None:
    """``--dry-run`` prints what would run where, and connects to no host."""
    project.write_train_script("exit 1\n")
    before = [host.sshd_log() for host in project.lab.hosts]
    done = project.run_fanout("run", "--dry-run", *flags, "hosts.txt", "task.py")
    assert re.findall(r"^# (\S+)  \(node rank (\d+)\)$", done.out, re.MULTILINE) == [
        (name, str(rank)) for rank, name in enumerate(chosen)
    ], done.all
    assert [host.sshd_log() for host in project.lab.hosts] == before


def test_a_secret_reaches_the_script_and_nothing_else(project: Project, lab4: Lab) -> None:
    """``--env``, ``--env-file``, ``--setup`` and ``--chdir``; the secret is in no command line and not in the record."""
    secret = "s3cr3t-8f2a61"
    project.write_file("keys.env", "# comment\nexport WANDB_API_KEY='k-77 41'\nMODE=file\n")
    project.write_file("env.sh", "export FROM_SETUP=yes\n")
    project.write_file(
        "sub/train.sh", 'echo "$MODE $FROM_SETUP $(pwd) ${#HF_TOKEN} ${#WANDB_API_KEY}"\nread line < go\n'
    )
    project.write_file("sub/task.py", "")
    lab4.launcher.run_program(["mkfifo", f"{project.here}/sub/go"], user="lab", check=True)
    flags = ["--env", "HF_TOKEN", "--env-file", "keys.env", "--env", "MODE=flag", "--setup", "../env.sh", "-C", "sub"]
    run = project.start_command("run", *flags, "-w", "h1", "hosts.txt", "task.py", env={"HF_TOKEN": secret})
    run.wait_for_output(f"flag yes {project.here}/sub {len(secret)} 7")
    assert list_processes(lab4["h1"], "train.sh")
    for node in lab4.nodes:
        assert list_processes(node, secret) == list_processes(node, "k-77") == []
    lab4["h1"].run_program(["sh", "-c", f"echo > {project.here}/sub/go"], check=True)
    done = run.wait_for_end()
    assert done.code == 0, done.all
    recorded = b"".join(path.read_bytes() for path in project.list_records()[-1].rglob("*") if path.is_file())
    assert b"HF_TOKEN" in recorded
    assert secret.encode() not in recorded
    assert b"k-77" not in recorded


@pytest.mark.parametrize("entry", ["localhost", "launcher", "10.77.0.254"])
def test_the_launcher_is_host_0_without_an_ssh_server(project: Project, lab4: Lab, entry: str) -> None:
    """People launch from the first host: its entry needs no login, and the others get an address that they reach."""
    project.write_train_script('echo "at $MASTER_ADDR on $(uname -n)"\n')
    project.write_hostfile(f"{entry} slots=1\nh1 slots=1\n")
    done = project.run_fanout("run", "hosts.txt", "task.py")
    assert done.code == 0, done.all
    assert lines_of(done.out, entry) == [f"at {lab4.launcher.address} on launcher"]
    assert lines_of(done.out, "h1") == [f"at {lab4.launcher.address} on h1"]


def test_localhost_beside_others_is_refused_without_a_given_address(project: Project) -> None:
    """Without a check nothing can know it, and 127.0.0.1 would mean "myself" on every host: exit 2, and what to write."""
    project.write_train_script("touch ran\n")
    project.write_hostfile("localhost slots=1\nh1 slots=1\n")
    done = project.run_training()
    assert done.code == 2, done.all
    assert "hosts.txt:1" in done.err
    assert "--master-addr" in done.err
    assert not project.get_path("ran").exists()


def test_root_runs_as_root(lab4: Lab) -> None:
    """The user is who starts it, as with ssh; a plain user's state is not in the way."""
    project = Project(lab4, user="root")
    project.write_train_script('echo "$(id -un) in $HOME"\n')
    done = project.run_training("-w", "h[1-2]")
    assert done.code == 0, done.all
    assert sorted(done.out.splitlines()) == ["h1 | root in /root", "h2 | root in /root"]


def test_the_last_host_prints_soon_after_the_start(
    project: Project, lab4: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command to the last host's first line, with a check and without; a number for the reader of the log."""
    project.write_train_script("echo first\n")
    lines = [rf"^{name} \| first" for name in NAMES]
    took = []
    for flags in (["--skip-check"], []):
        run = project.start_command("run", *flags, "hosts.txt", "task.py")
        took.append(run.wait_for_output(*lines))
        assert run.wait_for_end().code == 0
        assert_clean(lab4)
    with capsys.disabled():
        print(f"\n4 hosts, command to the last host's first line: {took[0]:.2f} s, with the check {took[1]:.2f} s")


def test_the_plain_stream_of_a_good_run(project: Project) -> None:
    """What stands on stderr beside the hosts' lines, word for word."""
    project.write_train_script("echo done\n")
    done = project.run_training()
    assert sorted(done.out.splitlines()) == [f"{name} | done" for name in NAMES]
    same_as_golden("run-good", done.err)


@pytest.mark.timeout(120)
def test_module_runs_without_train_sh_and_a_missing_one_is_a_finding(project: Project) -> None:
    project.write_file(
        "pkg/hello.py", "import os, sys\nprint(__name__, __package__, os.environ['WORLD_SIZE'], *sys.argv[1:])\n"
    )
    project.write_hostfile("h1 slots=1\nh2 slots=1\n")
    done = project.run_fanout("run", "--venv", sys.prefix, "hosts.txt", "-m", "pkg.hello", "--lr", "1", timeout=90)
    assert done.code == 0, done.all
    assert "__main__ pkg 2 --lr 1" in done.out
    missing = project.run_fanout("check", "--venv", sys.prefix, "hosts.txt", "-m", "no_such_package.train")
    assert missing.code == 1, missing.all
    assert "-m no_such_package.train:" in " ".join(missing.out.split())
    assert "-m pip install no_such_package" in " ".join(missing.out.split())
