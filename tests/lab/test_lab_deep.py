"""`fanout check --deep` on real hosts with real torch: who is slow, cut off or without torch is named, nothing is left."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import ns
from tests.lab.drive import Done, Project, list_processes
from tests.lab.lab import Lab
from tests.lab.oracle import assert_clean

HIGH = "32768:60999"
PATIENCE = 110.0


@pytest.fixture
def three(lab4: Lab) -> Iterator[Project]:
    """Open a lab of three hosts: importing torch takes time on each host."""
    project = Project(lab4)
    project.write_hostfile("h1 slots=1\nh2 slots=1\nh3 slots=1\n")
    yield project
    project.close()


def run_deep_check(project: Project, *flags: str) -> tuple[Done, dict[str, Any]]:
    done = project.run_fanout("check", "--json", *flags, "hosts.txt", "task.py", timeout=PATIENCE)
    assert done.out, done.all
    return done, json.loads(done.out)


def list_findings(table: dict[str, Any], *levels: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(row["check"], tuple(row["hosts"])) for row in table["findings"] if row["level"] in levels]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_healthy_hosts_add_up_and_one_with_a_slow_link_is_named(three: Project, lab4: Lab) -> None:
    """First nothing warns and there are figures; then h3 sends at 20 Mbit/s, and it is h3 that is named."""
    done, table = run_deep_check(three, "--deep")
    assert (done.code, list_findings(table, "fail", "warn")) == (0, []), done.all
    found = table["deep"]
    assert (found["backend"], found["ranks"], found["blamed"]) == ("gloo", ["h1", "h2", "h3"], [])
    assert found["sizes"][0]["bytes"] == 4
    assert all(row["bus"] == pytest.approx(row["bytes"] / row["seconds"] * 4 / 3) for row in found["sizes"])
    assert sorted(row["hosts"] for row in found["pairs"]) == [["h1", "h2"], ["h1", "h3"], ["h2", "h3"]]
    assert_clean(lab4)

    shape = ["tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "20mbit", "burst", "64kb", "latency", "200ms"]
    lab4["h3"].run_checked(shape)
    try:
        done, table = run_deep_check(three, "--only", "deep")
    finally:
        lab4["h3"].run_checked(["tc", "qdisc", "del", "dev", "eth0", "root"])
    assert list_findings(table, "fail", "warn") == [("deep-bandwidth", ("h3",))], done.all
    (row,) = [row for row in table["findings"] if row["level"] == "warn"]
    assert "with h[1-2]" in row["saw"]
    assert "ethtool" in row["advice"]
    assert done.code == 0


@pytest.mark.slow
def test_blocked_ports_between_two_workers_are_reported_as_their_link(three: Project, lab4: Lab) -> None:
    """MASTER_PORT is open to all; h2 and h3 cannot reach each other's free ports: no host is blamed, the two are."""
    for way, flag in (("INPUT", "-s"), ("OUTPUT", "-d")):
        other = lab4.plan.addresses["h2"]
        for address in (other.v4, other.v6):
            rule = ("-A", way, "-p", "tcp", "--syn", flag, address, "--dport", HIGH, "-j", "DROP")
            lab4["h3"].run_iptables(*rule, v6=":" in address)
    done, table = run_deep_check(three, "--only", "deep")
    assert list_findings(table, "fail") == [("deep-rendezvous", ("h2", "h3"))], done.all
    (row,) = [row for row in table["findings"] if row["level"] == "fail"]
    assert row["saw"].startswith(
        "h2 and h3 form no group with each other, but each forms groups with others; at group: "
    )
    assert "32768-60999" in row["advice"]
    assert done.code == 1


def test_a_host_without_torch_is_named_and_the_others_go_on(three: Project, lab4: Lab) -> None:
    """The environment of --venv is on all three, on h3 there is no torch in it: h1 and h2 meet all the same."""
    for name in ("h1", "h2"):
        lab4[name].run_checked(["ln", "-s", sys.prefix, "/home/lab/env"], user="lab")
    bare = str(Path(sys.executable).resolve())
    lab4["h3"].run_checked(
        ["bash", "-c", f"mkdir -p /home/lab/env/bin; ln -s {bare} /home/lab/env/bin/python3"], user="lab"
    )
    done, table = run_deep_check(three, "--only", "deep", "--venv", "/home/lab/env")
    assert list_findings(table, "fail", "warn") == [("deep-torch", ("h3",))], done.all
    (row,) = [row for row in table["findings"] if row["level"] == "fail"]
    assert "No module named 'torch'" in row["saw"]
    assert "ssh h3 /home/lab/env/bin/pip install torch" in row["advice"]
    assert table["deep"]["ranks"] == ["h1", "h2"]


def test_a_launcher_that_is_killed_leaves_no_process_of_torch(three: Project, lab4: Lab) -> None:
    """KILL while torch is imported everywhere: the processes end with the connections."""
    run = three.start_command("check", "--deep", "hosts.txt", "task.py")
    hosts = lab4.hosts[:3]
    ns.wait_until(
        lambda: all(list_processes(host, "torch_worker.py") for host in hosts), PATIENCE, "torch on three hosts"
    )
    run.send_signal(signal.SIGKILL)
    ns.wait_until(
        lambda: not any(list_processes(host, "torch_worker.py") for host in hosts), 20.0, "the end of the processes"
    )
    assert run.wait_for_end().code == -signal.SIGKILL
