"""train.sh returns before its torchrun: the run waits, ends it or keeps it, and the report claims only what was verified."""

from __future__ import annotations

import re
import signal
import sys

import pytest

from tests.lab.drive import Project, list_processes
from tests.lab.lab import Lab
from tests.lab.oracle import wait_quiet

#: A program named torchrun that ends with the status in the file ``go``, or with 5 after SIGTERM.
TORCHRUN = """#!/bin/bash
trap 'exit 5' TERM
echo "torchrun $NODE_RANK"
until [ -s go ]; do sleep 0.05; done
exit $(cat go)
"""
NOHUP = 'nohup ./torchrun "$@" &\necho returned\n'


@pytest.fixture
def two_hosts(project: Project) -> Project:
    """Return a project on h1 and h2 whose train.sh leaves a torchrun behind."""
    project.write_hostfile("h1 slots=1\nh2 slots=1\n")
    project.write_file("torchrun", TORCHRUN)
    project.get_path("torchrun").chmod(0o755)
    project.write_train_script(NOHUP)
    return project


@pytest.mark.parametrize(
    ("form", "status"),
    [("nohup ./torchrun &", 0), ("setsid ./torchrun &", 7), ("( ./torchrun ) & disown", 3), ("./torchrun & exit 0", 4)],
)
def test_status_of_torchrun_decides_the_run(two_hosts: Project, form: str, status: int) -> None:
    two_hosts.write_train_script(f"{form}\n")
    run = two_hosts.begin_training()
    run.wait_for_output(r"h\[1-2\]: train.sh returned, and its background process still runs: waiting for torchrun")
    two_hosts.write_file("go", str(status))
    done = run.wait_for_end()
    assert done.code == status, done.all
    assert ("both hosts succeeded" in done.err) is (status == 0)
    assert "the run waited for" in done.err
    assert status == 0 or "from the launcher that train.sh left running" in done.err, done.all


@pytest.mark.timeout(120)
def test_rank_that_fails_under_nohup_is_the_cause(two_hosts: Project) -> None:
    """A real torchrun prints to a file that fanout does not read; the ranks' own streams have the error."""
    two_hosts.write_file(
        "task.py", "import os\nif os.environ['RANK'] == '1':\n    raise ValueError('held-out failure')\n"
    )
    torchrun = f"{sys.prefix}/bin/torchrun"
    where = "--nnodes=$NNODES --node-rank=$NODE_RANK --nproc-per-node=$NPROC_PER_NODE --master-addr=$MASTER_ADDR"
    two_hosts.write_train_script(f'nohup {torchrun} {where} --master-port=$MASTER_PORT "$@" > out.$NODE_RANK 2>&1 &\n')
    done = two_hosts.run_training("--grace", "2", timeout=90)
    assert done.code == 1, done.all
    assert "rank 1 on h2 ended with ValueError: held-out failure" in done.err.splitlines()[-1], done.all
    assert "nothing: verified on both hosts" in done.err


def test_ctrl_c_while_the_run_waits_stops_torchrun(two_hosts: Project) -> None:
    run = two_hosts.begin_training()
    run.wait_for_output(r"waiting for torchrun", "torchrun 0", "torchrun 1")
    run.send_signal(signal.SIGINT)
    done = run.wait_for_end(30)
    assert done.code == 130, done.all
    assert "nothing: verified on both hosts" in done.err


def test_detached_run_waits_for_torchrun_too(two_hosts: Project, lab4: Lab) -> None:
    started = two_hosts.run_training("-d")
    assert started.code == 0, started.all
    attached = two_hosts.start_command("attach")
    attached.wait_for_output(r"waiting for torchrun")
    two_hosts.write_file("go", "6")
    done = attached.wait_for_end()
    assert done.code == 6, done.all
    assert wait_quiet(lab4, 10)


def test_end_stops_torchrun_and_the_run_has_failed(two_hosts: Project) -> None:
    two_hosts.write_train_script("nohup ./torchrun & sleep 0.5\n")
    done = two_hosts.run_training("--background", "end")
    assert done.code == 125, done.all
    assert re.search(
        r"h[12]: .*exit 0: train.sh returned while torchrun \(pid \d+\) ran; the keeper ended it", done.err
    ), done.all
    assert "nothing: verified on both hosts" in done.err
    assert "had a train.sh that returned while its launcher ran" in done.err
    assert "find out what sent the signal" not in done.err


def test_keep_leaves_torchrun_with_the_command_that_stops_it(two_hosts: Project, lab4: Lab) -> None:
    done = two_hosts.run_training("--background", "keep")
    assert done.code == 0, done.all
    assert "nothing" not in done.err
    assert "succeeded" not in done.err
    assert set(re.findall(r"(h[12]): pid \d+ .*torchrun", done.err)) == {"h1", "h2"}, done.all
    for host, pid in re.findall(r"to stop them on (h\d), type there: kill (\d+)", done.err):
        assert list_processes(lab4[host], "torchrun")
        lab4[host].run_program(["kill", pid], user="lab", check=True)
    assert wait_quiet(lab4, 10)


def test_daemon_is_ended_with_a_message_while_the_run_goes_on(two_hosts: Project) -> None:
    """As ray start without --block does: the user reads which process was ended, and how to keep it."""
    two_hosts.write_train_script(
        "if [ $NODE_RANK = 0 ]; then until [ -s go ]; do sleep 0.05; done; else setsid nohup sleep 98765 & fi\n"
    )
    run = two_hosts.begin_training()
    run.wait_for_output(r"h2: the keeper ended 1 process that train.sh left running: sleep .*ray start --block")
    two_hosts.write_file("go", "0")
    done = run.wait_for_end()
    assert done.code == 0, done.all


def test_nothing_is_left_is_not_claimed_after_ssh(two_hosts: Project) -> None:
    """The call ends at once, so only the text of train.sh shows it."""
    two_hosts.write_train_script('[ $NODE_RANK = 1 ] || ssh -o BatchMode=yes h2 "nohup sleep 1 &" || true\n')
    done = two_hosts.run_training()
    assert done.code == 0, done.all
    assert "train.sh calls ssh to h2: what that starts is not verified" in " ".join(done.err.split())
    assert "nothing" not in done.err
