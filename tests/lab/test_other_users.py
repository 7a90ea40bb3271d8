"""Two users on the same hosts: each sees the other's runs, and neither starts on what the other holds."""

from __future__ import annotations

import json
import sys

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
        checked = project.run_fanout("check", "hosts.txt", "task.py")
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
