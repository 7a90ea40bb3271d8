"""Two users on the same hosts: each sees the other's runs, and neither starts on what the other holds."""

from __future__ import annotations

import json
import re
import signal
import sys

from tests.lab import ns
from tests.lab.drive import Project, Running
from tests.lab.lab import REPOSITORY, Lab
from tests.lab.node import Node

OTHER = "/tmp/project-of-root"
WAIT = 'echo "start $NODE_RANK at $MASTER_PORT"\nuntil [ -e /tmp/stop ]; do sleep 0.05; done\n'


def start_run_of_root(host: Node, *flags: str) -> Running:
    """Start a run of root on the host itself, and wait until its train.sh runs."""
    host.write_file(f"{OTHER}/train.sh", WAIT)
    host.write_file(f"{OTHER}/task.py", "")
    argv = [sys.executable, "-m", "fanout", "run", "--skip-check", "--nproc-per-node", "1", *flags]
    env = {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", "HOME": OTHER}
    child = host.start_program([*argv, "localhost", "task.py"], user="root", cwd=OTHER, env=env, stdout=-1, stderr=-1)
    run = Running(child)
    run.wait_for_output("start 0 at")
    return run


def end_run_of_root(host: Node, run: Running) -> None:
    host.write_file("/tmp/stop", "")
    done = run.wait_for_end()
    assert done.code == 0, done.all


def test_run_of_another_user_is_named_listed_and_respected(project: Project, lab4: Lab) -> None:
    project.write_train_script("echo ran\n")
    other = start_run_of_root(lab4["h2"])
    try:
        refused = project.run_training()
        checked = project.run_fanout("check", "--master-port", "29500", "hosts.txt", "task.py")
        free = project.run_fanout("check", "hosts.txt", "task.py")
        listed = project.run_fanout("ps", "hosts.txt")
        objects = json.loads(project.run_fanout("ps", "--json", "hosts.txt").out)
        beside = project.run_training("--master-port", "29600")
    finally:
        end_run_of_root(lab4["h2"], other)
    assert refused.code == 125, refused.all
    assert "h2: busy: port-29500 is held by run " in refused.err
    assert "of root (uid 0) since " in refused.err
    assert "ask root (uid 0) to stop it" in refused.err
    assert checked.code == 1, checked.all
    assert "port 29500 is held by run " in " ".join(checked.out.split())
    assert free.code == 0, free.all
    assert "holds the default port; a run uses MASTER_PORT 29501" in " ".join(free.out.split())
    (row,) = [line.split() for line in listed.out.splitlines() if line.startswith("h2 ")]
    assert row[1:4] == ["root", "(uid", "0)"]
    assert row[8:] == ["29500", "-"], row
    (found,) = [each for each in objects if each["state"] == "other user"]
    assert found["hosts"] == ["h2"]
    assert found["run"] == row[4]
    assert found["details"]["user"] == "root (uid 0)"
    assert beside.code == 0, beside.all
    after = project.run_training()
    assert after.code == 0, after.all


def test_run_of_another_user_cannot_free_or_take_over_a_claim(project: Project, lab4: Lab) -> None:
    """A launcher of another user is refused as well, and the first run is not disturbed."""
    project.write_train_script('echo "start $NODE_RANK at"\nuntil [ -e stop ]; do sleep 0.05; done\n')
    run = project.begin_training()
    run.wait_for_output(*(f"start {rank} at" for rank in range(4)))
    host = lab4["h3"]
    host.write_file(f"{OTHER}/train.sh", WAIT)
    host.write_file(f"{OTHER}/task.py", "")
    argv = [sys.executable, "-m", "fanout", "run", "--skip-check", "--nproc-per-node", "1", "localhost", "task.py"]
    env = {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", "HOME": OTHER}
    refused = Running(host.start_program(argv, user="root", cwd=OTHER, env=env, stdout=-1, stderr=-1)).wait_for_end()
    assert refused.code == 125, refused.all
    assert "port-29500 is held by run " in refused.err
    assert "of lab (uid " in refused.err
    project.write_file("stop", "")
    done = run.wait_for_end()
    assert done.code == 0, done.all


def test_free_hosts_are_picked_in_file_order_and_the_others_are_explained(project: Project, lab4: Lab) -> None:
    project.write_train_script('echo "rank $NODE_RANK of $NNODES"\n')
    other = start_run_of_root(lab4["h2"])
    lab4["h3"].drop_packets()
    try:
        picked = project.run_fanout("run", "-t", "5", "--nnodes", "2", "--pick", "free", "hosts.txt", "task.py")
        checked = project.run_fanout("check", "-t", "5", "--nnodes", "2", "--pick", "free", "hosts.txt", "task.py")
        refused = project.run_fanout("run", "-t", "5", "--nnodes", "3", "--pick", "free", "hosts.txt", "task.py")
    finally:
        lab4["h3"].stop_dropping()
        end_run_of_root(lab4["h2"], other)
    assert picked.code == 0, picked.all
    assert re.search(r"skipped h2: port 29500: root, \S+, [\d.]+ s$", picked.err, re.MULTILINE), picked.all
    assert "skipped h3: " in picked.err
    assert "picked h[1,4]" in picked.err, picked.all
    assert "rank 1 of 2" in picked.out
    assert checked.code == 0, checked.all
    assert "2 hosts" in checked.out
    assert refused.code == 125, refused.all
    assert "not launched: 2 of 3 hosts are free" in refused.err
    assert "h2 is not free: port 29500: root, " in refused.err


def test_host_on_which_a_check_fails_is_not_picked(project: Project, lab4: Lab) -> None:
    project.write_train_script('echo "rank $NODE_RANK of $NNODES"\n')
    project.write_hostfile("h1 slots=1\nh2 slots=1 workdir=/nowhere\nh3 slots=1\n")
    picked = project.run_fanout("run", "--nnodes", "2", "--pick", "free", "hosts.txt", "task.py")
    assert picked.code == 0, picked.all
    assert "skipped h2: check workdir: " in picked.err
    assert "picked h[1,3]" in picked.err
    refused = project.run_fanout("run", "--nnodes", "3", "--pick", "free", "--wait", "hosts.txt", "task.py")
    assert refused.code == 125, refused.all
    assert "waiting does not change that" in refused.err


def test_run_waits_for_another_user_and_starts_by_itself(project: Project, lab4: Lab) -> None:
    project.write_train_script('echo "rank $NODE_RANK of $NNODES"\n')
    other = start_run_of_root(lab4["h2"])
    late = project.run_fanout("run", "--skip-check", "--wait", "1s", "hosts.txt", "task.py")
    assert late.code == 125, late.all
    assert re.search(r"^fanout: h2 is not free: port 29500: root, ", late.err, re.MULTILINE), late.all
    assert "not launched: 3 of 4 hosts are free: not free within --wait 1s" in late.err
    waiting = project.start_command("run", "--skip-check", "--wait", "hosts.txt", "task.py")
    waiting.wait_for_output(r"waiting for h2 \(port 29500: root, .*\) · 3 of 4 free · ")
    assert not project.list_records()
    end_run_of_root(lab4["h2"], other)
    done = waiting.wait_for_end()
    assert done.code == 0, done.all
    assert "rank 3 of 4" in done.out
    assert len(project.list_records()) == 1


def test_interrupted_wait_starts_nothing(project: Project, lab4: Lab) -> None:
    other = start_run_of_root(lab4["h1"])
    waiting = project.start_command("run", "--skip-check", "--wait", "8h", "hosts.txt", "task.py")
    waiting.wait_for_output(r"waiting for h1 ")
    waiting.send_signal(signal.SIGINT)
    done = waiting.wait_for_end()
    end_run_of_root(lab4["h1"], other)
    assert done.code == 130, done.all
    assert "interrupted: nothing was started" in done.err


def test_background_wait_is_listed_and_stopped_and_another_one_starts(project: Project, lab4: Lab) -> None:
    """The command returns when the wait begins. A stopped wait starts nothing; the other run starts by itself."""
    project.write_train_script('echo "rank $NODE_RANK of $NNODES"\n')
    flags = ("run", "-d", "--skip-check", "--wait", "--name")
    other = start_run_of_root(lab4["h1"])
    for name in ("first", "second"):
        begun = project.run_fanout(*flags, name, "hosts.txt", "task.py")
        assert begun.code == 0, begun.all
        assert "in the background, waiting for h1 (port 29500: root, " in begun.err
    listed = project.run_fanout("ps")
    assert len(re.findall(r"waiting for hosts .* 3 of 4 free", listed.out)) == 2, listed.all
    stopped = project.run_fanout("stop", "first")
    assert stopped.code == 0, stopped.all
    assert "was waiting for hosts; the wait has ended" in stopped.err
    assert "first" not in project.run_fanout("ps", "--all").out
    end_run_of_root(lab4["h1"], other)
    ns.wait_until(lambda: bool(project.list_records()), 60.0, "a record of a run")
    followed = project.run_fanout("attach", "second", timeout=90)
    assert followed.code == 0, followed.all
    assert "rank 3 of 4" in project.run_fanout("logs", "second").out


def test_two_waiting_runs_start_one_after_the_other(project: Project, lab4: Lab) -> None:
    """Both see the hosts become free. One of them is refused, waits again, and starts when the first has ended."""
    overlap = (
        'mkdir busy.$NODE_RANK || echo OVERLAP\nsleep 1\nrmdir busy.$NODE_RANK\necho "rank $NODE_RANK of $NNODES"\n'
    )
    project.write_train_script(overlap)
    other = start_run_of_root(lab4["h4"])
    runs = [project.start_command("run", "--skip-check", "--wait", "hosts.txt", "task.py") for _ in range(2)]
    for run in runs:
        run.wait_for_output(r"waiting for h4 ")
    end_run_of_root(lab4["h4"], other)
    for run in runs:
        done = run.wait_for_end(120)
        assert done.code == 0, done.all
        assert "rank 3 of 4" in done.out
        assert "OVERLAP" not in done.out
