"""`fanout check` on real hosts: each fault makes exactly its check speak, and on healthy ones nothing does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.lab import REPOSITORY, Lab
from tests.lab.node import Node
from tests.lab.specs import HostSpec

PROJECT = "/home/lab/proj"
FILES = {"task.py": "import json\n", "cfg.yaml": "lr: 0.1\n", "train.sh": "echo hi\n"}
BUSY = ("login-time",)  # a login takes longer on a busy machine
HIGH = "32768:60999"


def run_check(lab: Lab, *arguments: str, hostfile: str = "") -> subprocess.CompletedProcess[str]:
    """Run the real command on the launcher, in a project that is the same everywhere."""
    argv = [
        sys.executable,
        "-m",
        "fanout",
        "check",
        *arguments,
        hostfile or lab.write_hostfile(),
        "task.py",
        "cfg.yaml",
    ]
    return lab.launcher.run_program(argv, user="lab", cwd=PROJECT, env={"PYTHONPATH": str(REPOSITORY)})


def copy_project(lab: Lab) -> None:
    """Copy the project to every machine."""
    for node in lab.nodes:
        for name, text in FILES.items():
            node.write_file(f"{PROJECT}/{name}", text, user="lab")


def read_findings(lab: Lab, hostfile: str = "") -> list[dict[str, Any]]:
    """Return what fails, warns or is noted."""
    done = run_check(lab, "--json", hostfile=hostfile)
    rows: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return [row for row in rows if row["level"] in ("fail", "warn", "info")]


@pytest.fixture
def lab(lab4: Lab) -> Lab:
    """Four hosts that have the project."""
    copy_project(lab4)
    return lab4


def test_healthy_hosts_have_no_finding(lab: Lab) -> None:
    """Not a failure, not a warning, not a note; and nothing is left on any of them (the fixture looks)."""
    done = run_check(lab)
    assert (done.returncode, done.stderr) == (0, "")
    judged, following = done.stdout.splitlines()[-2:]
    assert judged.startswith("No check failed; the start of torchrun by train.sh was not checked")  # it starts none
    assert following.startswith("next:  fanout run ")
    assert read_findings(lab) == []


def block_traffic(node: str, *rule: str) -> Callable[[Lab], None]:
    def add_rule(lab: Lab) -> None:
        lab[node].run_iptables("-A", *rule)

    return add_rule


def without_directory(lab: Lab) -> None:
    lab["h3"].run_program(["rm", "-r", PROJECT], check=True)


STORE = ("-p", "tcp", "--dport", "29500")
FAULTS: list[tuple[str, Callable[[Lab], None], str, str, list[str], str]] = [
    ("drop", block_traffic("h1", "INPUT", *STORE, "-j", "DROP"), "fail", "master-addr", ["h2", "h3", "h4"], "a firewall drops"),
    (
        "reject-as-firewalld", block_traffic("h1", "INPUT", *STORE, "-j", "REJECT", "--reject-with", "icmp-host-prohibited"),
        "fail", "master-addr", ["h2", "h3", "h4"], "a firewall rejects",
    ),
    (
        "reject-by-reset", block_traffic("h1", "INPUT", *STORE, "-j", "REJECT", "--reject-with", "tcp-reset"),
        "fail", "master-addr", ["h2", "h3", "h4"], "connection refused",
    ),
    ("drop-at-one-worker", block_traffic("h3", "OUTPUT", *STORE, "-j", "DROP"), "fail", "master-addr", ["h3"], "a firewall drops"),
    ("inward", block_traffic("h3", "INPUT", "-p", "tcp", "--syn", "--dport", HIGH, "-j", "DROP"), "fail", "mesh", ["h3"], "from h[1-2,4]: no answer"),
    ("outward", block_traffic("h3", "OUTPUT", "-p", "tcp", "--syn", "--dport", HIGH, "-j", "DROP"), "fail", "mesh", ["h3"], "to h[1-2,4]: no answer"),
    (
        "large-packets", block_traffic("h3", "INPUT", "-p", "tcp", "--dport", HIGH, "-m", "length", "--length", "1300:65535", "-j", "DROP"),
        "fail", "bulk", ["h3"], "bulk data stalls",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "level", "name", "hosts", "saw"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS]
)
def test_a_fault_on_a_real_host_fails_exactly_its_check(
    lab: Lab, fault: Callable[[Lab], None], level: str, name: str, hosts: list[str], saw: str
) -> None:
    """By name, level and host; what differs in the code may be noted beside a file that differs."""
    fault(lab)
    rows = [row for row in read_findings(lab) if row["check"] not in ("code", *BUSY)]
    assert {(row["check"], row["level"]) for row in rows} == {(name, level)}
    assert sorted({host for row in rows for host in row["hosts"]}) == hosts
    assert saw in rows[0]["saw"]
    assert rows[0]["advice"]


LARGE = ("-m", "length", "--length", "1400:65535", "-j", "DROP")


@pytest.mark.parametrize(
    ("chain", "saw", "advice"),
    [("INPUT", "full-size packets are lost on the way (MTU)", "ip link"), ("OUTPUT", "the connection broke", "(MTU)")],
)
def test_a_path_that_loses_full_size_packets_of_the_login_too_is_named(
    lab: Lab, chain: str, saw: str, advice: str
) -> None:
    """A login begins with small packets. What is large then never arrives, in the one or in the other direction."""
    for v6 in (False, True):
        lab["h3"].run_iptables("-A", chain, *LARGE, v6=v6)
    (row,) = [row for row in read_findings(lab) if row["check"] == "reached"]
    lab["h3"].reboot_machine()  # its agents wait for packets that never come
    assert (row["level"], row["hosts"]) == ("fail", ["h3"])
    assert saw in row["saw"]
    assert advice in row["advice"]


def test_the_advice_for_a_dropped_syn_opens_the_port_to_the_address_that_dials(lab: Lab) -> None:
    """The login goes over IPv6, the dial over IPv4."""
    lab["h1"].run_iptables("-A", "INPUT", "-p", "tcp", "--syn", *STORE[2:], "-j", "DROP")
    rows = [row for row in read_findings(lab) if row["check"] == "master-addr"]
    assert {host for row in rows for host in row["hosts"]} == {"h2", "h3", "h4"}
    assert all("ufw allow from 10.77.0." in row["advice"] for row in rows), rows


def test_the_check_names_the_owner_of_a_taken_port(lab: Lab) -> None:
    """The holder is another user's: his name is known, his process is not."""
    holder: Node = lab["h1"]
    code = "import socket,sys;s=socket.socket();s.bind(('',29500));s.listen();print('up',flush=True);sys.stdin.read()"
    child = holder.start_program([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    (row,) = read_findings(lab)
    child.communicate(timeout=20)
    assert (row["check"], row["level"], row["hosts"]) == ("master-port", "fail", ["h1"])
    assert row["saw"].startswith("port 29500 is held by a process of user root")


def test_a_missing_directory_is_one_failure_a_host_with_what_to_type(lab: Lab) -> None:
    """The files in it are missing too, and need no row of their own."""
    without_directory(lab)
    rows = read_findings(lab)
    assert {row["check"] for row in rows} == {"workdir"}
    assert {host for row in rows for host in row["hosts"]} == {"h3"}
    assert rows[0]["advice"].startswith(f"copy it there:  ssh h1 tar -C {PROJECT}")


def test_the_advice_repairs_the_fault_when_typed(lab: Lab) -> None:
    """Word for word, on the launcher: a directory that is missing, a file that is, and one that differs."""
    lab["h2"].run_program(["rm", f"{PROJECT}/task.py"], check=True)
    without_directory(lab)
    lab["h4"].write_file(f"{PROJECT}/cfg.yaml", "lr: 0.2\n", user="lab")
    rows = [
        row for row in read_findings(lab) if row["check"] in ("workdir", "task", "config") and row["level"] == "fail"
    ]
    typed = {row["advice"].split("  ")[1] for row in rows}
    assert len(typed) == 3, rows
    for line in sorted(typed, key=lambda line: "tar" not in line):
        lab.launcher.run_program(["sh", "-c", line], user="lab", cwd=PROJECT, check=True)
    assert read_findings(lab) == []


def second_network(node: Node) -> None:
    """Another cable, to nowhere that the others are."""
    node.run_ip(
        "link add eth1 type veth peer name eth1-peer",
        "addr add 192.168.50.7/24 dev eth1",
        "link set eth1 up",
        "link set eth1-peer up",
    )


def without_ipv4(node: Node) -> None:
    """Remove every address except the IPv6 one, and give the others only such addresses."""
    node.run_ip(
        f"addr flush dev {node.device} scope global",
        *(f"addr add {a.v6}/64 dev {node.device} nodad" for a in node.addresses),
    )
    table = node.read_file("/etc/hosts").splitlines()
    node.get_path("/etc/hosts").write_text("".join(f"{line}\n" for line in table if ":" in line or "localhost" in line))


def itself_on_loopback(node: Node) -> None:
    """Map the host's own name to 127.0.1.1 only, as Debian's installer does."""
    others = [line for line in node.read_file("/etc/hosts").splitlines() if line.split()[-1] != node.name]
    node.get_path("/etc/hosts").write_text("\n".join([f"127.0.1.1 {node.name}", *others, ""]))


def build_shell_specs(*names: str) -> list[HostSpec]:
    """Return a host for each of these login shells."""
    return [HostSpec(name=f"h{number}", shell=f"/usr/bin/{name}") for number, name in enumerate(names, 1)]


def change_nothing(node: Node) -> None:
    """Change nothing."""


SHAPES: dict[str, tuple[int | list[HostSpec], str, Callable[[Node], None]]] = {
    "one": (1, "10.77.0.0/24", change_nothing),
    "two-in-192": (2, "192.168.5.0/24", change_nothing),
    "three-in-172": (3, "172.20.0.0/16", change_nothing),
    "sixteen": (16, "10.77.0.0/24", change_nothing),
    "shells": (build_shell_specs("bash", "dash", "sh", "zsh", "fish"), "10.77.0.0/24", change_nothing),
    "debian-line": ([HostSpec(name="h1"), HostSpec(name="h2", etc_hosts=("127.0.1.1 h2",))], "10.77.0.0/24", change_nothing),
    "debian-everywhere": (3, "192.168.5.0/24", itself_on_loopback),
    "two-networks": (3, "10.77.0.0/24", second_network),
    "ipv6-only": (3, "10.77.0.0/24", without_ipv4),
    "other-names": ([HostSpec(name="alpha", etc_hosts=("10.77.0.1 node-a",)), HostSpec(name="beta")], "10.77.0.0/24", change_nothing),
    "another-port": ([HostSpec(name="h1", port=2222), HostSpec(name="h2")], "10.77.0.0/24", change_nothing),
}  # fmt: skip
_QUICK = ("two-in-192", "ipv6-only", "two-networks")
_NAMES = {"other-names": {"alpha": "gpu1", "beta": "gpu2"}, "another-port": {"h1": "h1"}}


@pytest.mark.parametrize("shape", [s if s in _QUICK else pytest.param(s, marks=pytest.mark.campaign) for s in SHAPES])
def test_no_healthy_lab_is_alarmed(shape: str) -> None:
    """Whatever its size, its network, its names and its shells: not a failure, not a warning."""
    hosts, subnet, change = SHAPES[shape]
    with Lab(hosts, subnet=subnet, ssh_config=write_named_config(shape)) as lab:
        copy_project(lab)
        for node in lab.nodes:
            change(node)
        names = [_NAMES.get(shape, {}).get(name, name) for name in lab.names]
        lab.write_hostfile("".join(f"{name} slots=1\n" for name in names))
        assert [row for row in read_findings(lab, hostfile="/home/lab/hosts.txt") if row["level"] != "info"] == []


def write_named_config(shape: str) -> str | None:
    """Write an ssh_config in which the hosts have the names of ``_NAMES``."""
    ports = {"h1": 2222} if shape == "another-port" else {}
    blocks = [
        f"Host {alias}\n  HostName {name}\n  Port {ports.get(name, 22)}\n"
        for name, alias in _NAMES.get(shape, {}).items()
    ]
    return "".join(blocks) or None


def test_a_host_under_two_names_is_named_with_both_lines() -> None:
    """An alias of h2 with its own address is still one machine, and no other finding appears."""
    with Lab([HostSpec(name="h1"), HostSpec(name="h2", aliases=("h2b",))]) as lab:
        copy_project(lab)
        (row,) = read_findings(lab)
    assert (row["check"], row["level"], row["hosts"]) == ("same-machine", "fail", ["h2b"])
    assert "h2 (/home/lab/hosts.txt:2), h2b (/home/lab/hosts.txt:3)" in row["saw"]


def test_run_gets_the_results_of_the_check() -> None:
    """The check finds an address that the worker reaches, the common interface (once), and the processes of each host."""
    with Lab(2) as lab:
        copy_project(lab)
        for node in lab.nodes:
            itself_on_loopback(node)
            node.write_file(f"{PROJECT}/train.sh", 'env | grep -E "MASTER_ADDR|IFNAME|NPROC|NODE_RANK"\n', user="lab")
        argv = [
            sys.executable,
            "-m",
            "fanout",
            "run",
            lab.write_hostfile("h1 slots=2\nh2 slots=2\n"),
            "task.py",
            "cfg.yaml",
        ]
        done = lab.launcher.run_program(argv, user="lab", cwd=PROJECT, env={"PYTHONPATH": str(REPOSITORY)})
        first = lab["h1"].address
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("exporting GLOO_SOCKET_IFNAME=eth0 on h[1-2]") == 1
    for line in (f"MASTER_ADDR={first}", "GLOO_SOCKET_IFNAME=eth0", "NPROC_PER_NODE=2"):
        assert done.stdout.count(line) >= 2, done.stdout
