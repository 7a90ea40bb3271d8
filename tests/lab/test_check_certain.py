"""The check finds certain failures, accepts what already runs, and its advice repairs the fault when typed as printed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.lab import REPOSITORY, Lab
from tests.lab.many import one_sshd

HOME = "/home/lab"
PROJECT = f"{HOME}/proj"
FILES = {"task.py": "import json\n", "cfg.yaml": "lr: 0.1\n", "train.sh": "echo hi\n"}
FAILS = (
    "PATH=/usr/bin:/bin\n"
    "command -v torchrun >/dev/null || { echo 'torchrun: not found; activate the environment that has PyTorch'; exit 1; }\n"
    'torchrun --nnodes=$NNODES --node-rank=$NODE_RANK --nproc-per-node=$NPROC_PER_NODE --master-addr=$MASTER_ADDR "$@"\n'
)
# Both hosts by names of another file than ~/.ssh/config, one of them on another port.
CONFIG = f"Include {HOME}/.ssh/config\nHost alpha\n  HostName h1\nHost beta\n  HostName h2\n"


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Open a lab of two hosts, each with its own copy of the project."""
    with Lab(2) as lab:
        for node in lab.nodes:
            for path, text in FILES.items():
                node.write_file(f"{PROJECT}/{path}", text, user="lab")
        yield lab


def run_fanout(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "fanout", *words]
    return lab.launcher.run_program(argv, user="lab", cwd=PROJECT, env={"PYTHONPATH": str(REPOSITORY)})


def read_findings(lab: Lab, *flags: str) -> list[dict[str, Any]]:
    done = run_fanout(lab, "check", "--json", *flags, f"{HOME}/hosts.txt", "task.py", "cfg.yaml")
    rows: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return [row for row in rows if row["level"] in ("fail", "warn", "info")]


def type_in(lab: Lab, advice: str) -> None:
    """Run the commands of an advice, one after the other, as the user would paste them."""
    commands = [unit for unit in re.split(r" {2,}", advice) if re.match(r"(ssh|tar|fanout) ", unit)]
    assert commands, advice
    for command in commands:
        line = command.replace("fanout ", f"{shlex.quote(sys.executable)} -m fanout ", 1)
        lab.launcher.run_program(
            ["sh", "-c", line], user="lab", cwd=PROJECT, env={"PYTHONPATH": str(REPOSITORY)}, check=True
        )


def test_a_torchrun_that_train_sh_does_not_find_fails_with_any_message(lab: Lab) -> None:
    """On both hosts, and `run` starts nothing."""
    for node in lab.nodes:
        node.write_file(f"{PROJECT}/train.sh", FAILS, user="lab")
    lab.write_hostfile("h1 slots=1\nh2 slots=1\n")
    rows = [row for row in read_findings(lab) if row["level"] == "fail"]
    assert {(row["check"], host) for row in rows for host in row["hosts"]} == {("torchrun", "h1"), ("torchrun", "h2")}
    done = run_fanout(lab, "run", f"{HOME}/hosts.txt", "task.py", "cfg.yaml")
    assert done.returncode == 125, done.stderr
    assert "train.sh calls torchrun, which is not on its PATH" in done.stderr


def test_run_prints_every_warning_of_its_check(lab: Lab) -> None:
    """One line each, attached and detached."""
    lab["h2"].write_file(f"{PROJECT}/newpkg/a.py", "x = 1\n", user="lab")
    lab["h1"].run_program(["chmod", "555", HOME], check=True)
    lab.write_hostfile("h1 slots=1\nh2 slots=1\n")
    for detach in ((), ("-d",)):
        done = run_fanout(lab, "run", *detach, f"{HOME}/hosts.txt", "task.py", "cfg.yaml")
        assert done.returncode == 0, done.stderr
        assert "warning: h2: code: code differs from h1: newpkg/a.py (only here)" in done.stderr
        assert f"warning: h1: home: cannot write in the home directory {HOME}" in done.stderr


def test_the_advice_repairs_the_fault_with_a_separate_ssh_config(lab: Lab) -> None:
    """`-F`, names that only that file knows, a package that git ignores, a file that is missing, another commit."""
    lab.launcher.write_file(f"{HOME}/cfg", CONFIG, user="lab")
    lab.write_hostfile("alpha slots=1\nbeta slots=1\n")
    commit = "git init -q; git add -A; git -c user.name=t -c user.email=t@t commit -qm one --date=2020-01-01T00:00:00Z"
    env = {"GIT_COMMITTER_DATE": "2020-01-01T00:00:00Z"}
    for host in lab.hosts:
        host.run_program(["sh", "-ec", commit], user="lab", cwd=PROJECT, env=env, check=True)
    more = "echo 'x = 2' > lib.py; git add -A; git -c user.name=t -c user.email=t@t commit -qm two"
    lab["h1"].run_program(["sh", "-ec", more], user="lab", cwd=PROJECT, check=True)
    (row,) = [row for row in read_findings(lab, "-F", f"{HOME}/cfg") if row["level"] != "info"]
    assert (row["check"], row["level"], row["hosts"]) == ("code", "fail", ["beta"])
    type_in(lab, row["advice"])
    assert read_findings(lab, "-F", f"{HOME}/cfg") == []
    lab["h2"].run_program(["rm", f"{PROJECT}/cfg.yaml", f"{PROJECT}/lib.py"], check=True)
    lab["h1"].write_file(f"{PROJECT}/VeOmni/veomni/core.py", "x = 1\n", user="lab")
    rows = [row for row in read_findings(lab, "-F", f"{HOME}/cfg") if row["level"] != "info"]
    assert {(row["check"], row["level"]) for row in rows} == {("config", "fail"), ("code", "warn")}
    for row in rows:
        type_in(lab, row["advice"])
    assert read_findings(lab, "-F", f"{HOME}/cfg") == []


def test_a_run_of_ones_own_that_goes_on_is_named_with_how_to_end_it(lab: Lab) -> None:
    """On another port it is a note; on the same port the failure names the run and a command that ends it."""
    for node in lab.nodes:
        node.write_file(f"{PROJECT}/train.sh", "sleep 600\n", user="lab")
    lab.write_hostfile("h1 slots=1\nh2 slots=1\n")
    done = run_fanout(lab, "run", "-d", f"{HOME}/hosts.txt", "task.py", "cfg.yaml")
    assert done.returncode == 0, done.stderr
    (note,) = read_findings(lab, "--master-port", "29600")
    assert (note["check"], note["level"], note["hosts"]) == ("leftovers", "info", ["h1", "h2"])
    levels = {row["check"]: row["level"] for row in read_findings(lab)}
    assert levels == {"master-port": "info", "leftovers": "info"}, "without --master-port, fanout takes a free port"
    (row,) = read_findings(lab, "--master-port", "29500")
    assert (row["check"], row["level"], row["hosts"]) == ("master-port", "fail", ["h1", "h2"])
    assert "--master-port 295" in row["advice"]
    type_in(lab, row["advice"])
    assert read_findings(lab) == []


def test_an_empty_mount_at_the_work_directory_is_one_failure(lab: Lab) -> None:
    """The check names the mount, and reports no consequence of it besides."""
    lab["h2"].run_program(["mount", "-t", "tmpfs", "-o", "ro", "none", PROJECT], check=True)
    lab.write_hostfile("h1 slots=1\nh2 slots=1\n")
    (row,) = read_findings(lab)
    assert (row["check"], row["level"], row["hosts"]) == ("workdir", "fail", ["h2"])
    assert "is empty (tmpfs of none is mounted there, read-only)" in row["saw"]


def test_a_relative_path_of_the_config_is_looked_for(lab: Lab) -> None:
    """Without ./ before it."""
    for node in lab.nodes:
        node.write_file(f"{PROJECT}/cfg.yaml", "train_path: data/x.jsonl\n", user="lab")
    lab["h1"].write_file(f"{PROJECT}/data/x.jsonl", "{}\n", user="lab")
    lab.write_hostfile("h1 slots=1\nh2 slots=1\n")
    (row,) = read_findings(lab)
    assert (row["check"], row["level"], row["hosts"]) == ("data", "fail", ["h2"])
    type_in(lab, row["advice"])
    assert read_findings(lab) == []


@pytest.mark.campaign
def test_many_names_behind_one_machine_are_slow_and_none_fails_for_it() -> None:
    """As many logins as a big cluster has, answered by the processors of one machine."""
    with one_sshd(160) as lab:
        for path, text in FILES.items():
            lab.launcher.write_file(f"{PROJECT}/{path}", text, user="lab")
            lab.hosts[0].write_file(f"{PROJECT}/{path}", text, user="lab")
        lab.write_hostfile("".join(f"{name} slots=1\n" for name in lab.names))
        failed = {row["check"] for row in read_findings(lab) if row["level"] == "fail"}
    assert failed == {"same-machine"}
