"""Runs of one host in a container of an image and one in a container of the user: real torchrun, and faults."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.lab import ns
from tests.lab.containers import IMAGE, NAME, Engine, list_arguments
from tests.lab.drive import Project, list_processes
from tests.lab.lab import Lab

HOSTFILE = f"h1 slots=1 user=root image={IMAGE} engine=podman\nh2 slots=1 user=root container={NAME} engine=podman\n"
STEPS = 'i=0; while [ ! -e stop ]; do i=$((i+1)); echo "line $i"; sleep 0.05; done\n'
TASK = """\
import os
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
total = torch.ones(1) * (dist.get_rank() + 1)
dist.all_reduce(total)
print("sum", int(total), "below", open("/proc/1/comm").read().strip(), flush=True)
dist.destroy_process_group()
"""
TRAIN = """\
exec torchrun --nnodes=$NNODES --node-rank=$NODE_RANK --nproc-per-node=1 --master-addr=$MASTER_ADDR \\
  --master-port=$MASTER_PORT "$@"
"""


@pytest.fixture
def project(machines: Lab, engines: list[Engine]) -> Iterator[Project]:
    engines[1].start_container()
    with contextlib.closing(Project(machines)) as project:
        project.write_hostfile(HOSTFILE)
        lines = ['connect-timeout = "60s"', f"container-arg = {json.dumps(list_arguments())}"]
        project.write_file("fanout.toml", "\n".join(lines) + "\n")
        yield project


def test_real_torchrun_trains_over_both_kinds_of_containers(project: Project, engines: list[Engine]) -> None:
    project.write_file("task.py", TASK)
    project.write_train_script(TRAIN)
    done = project.run_training("--venv", sys.prefix, "--show", "all", timeout=110.0)
    assert done.code == 0, done.all
    assert sorted(re.findall(r"sum \d below \w+", done.out)) == ["sum 3 below python3", "sum 3 below sleep"], done.all
    assert engines[1].is_idle()


@pytest.mark.parametrize("fault", [["rm", "-f", "-t", "0"], ["restart", "-t", "0"]], ids=["removed", "restarted"])
def test_a_container_of_an_image_that_is_removed_or_restarted_fails_the_run(
    project: Project, engines: list[Engine], fault: list[str]
) -> None:
    project.write_train_script(STEPS)
    run = project.begin_training("--grace", "2")
    run.wait_for_output("h1 .*line 3", "h2 .*line 3")
    engines[0].run_podman(*fault, *engines[0].list_created(), check=False)
    done = run.wait_for_end()
    assert done.code == 255, done.all
    # between the two halves of a restart, the launcher may find no container
    assert re.search("h1 (lost its container|had its container restarted) during the run", done.err), done.all
    assert "left behind  nothing: " in done.err, done.all
    assert engines[1].is_idle()


def test_an_engine_that_fails_during_a_run_is_named_until_it_works_again(
    project: Project, engines: list[Engine], machines: Lab
) -> None:
    project.write_train_script(STEPS)
    run = project.begin_training("--grace", "2")
    run.wait_for_output("h2 .*line 3")
    engines[1].break_configuration()
    for process in list_processes(machines["h2"], "podman", "exec"):
        ns.signal_all([process], signal.SIGKILL)
    run.wait_for_output(
        "h2: cannot reconnect: container work: podman cannot enter it .*toml", "h2: try: .*ssh root@h2 podman exec work"
    )
    engines[1].write_configuration()
    run.wait_for_output("h2: reconnected")
    project.write_file("stop", "")
    done = run.wait_for_end()
    assert done.code == 0, done.all
    numbers = [int(number) for number in re.findall(rb"^line (\d+)$", project.read_log("h2"), re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
