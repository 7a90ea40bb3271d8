"""``fanout top`` over real sshd: a looping nvidia-smi, runs of other users, lost hosts, and nothing that stays behind."""

from __future__ import annotations

import json
import os
import sys

from tests.lab import ns
from tests.lab.drive import Project, list_processes
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.test_other_users import end_run_of_root, start_run_of_root

#: nvidia-smi with -l: it prints all lines, then sleeps, until it is killed. The process on GPU 1 is that of the file.
SMI = f"""#!{sys.executable} -IS
import sys, time
assert sys.argv[-2] == "-l", sys.argv
card = "NVIDIA H100 80GB HBM3, 00000000:{{0}}8:00.0, 97, {{1}}, 81559, 64, 651.32, 700.00, {{0}}, Not Active, Not Active, Not Active, Not Active"
while True:
    if "compute-apps" in sys.argv[1]:
        print("GPU-1, %s, 61190" % open("/tmp/pid").read().strip())
    else:
        for at, used in enumerate((4, 61204)):
            print("%d, GPU-%d, %s" % (at, at, card.format(at, used)))
    time.sleep(float(sys.argv[-1]))
"""


def install_smi(host: Node, pid: int) -> None:
    """Put the tool on the PATH of the lab's user, and say which process is on GPU 1."""
    host.write_file("/home/lab/bin/nvidia-smi", SMI, user="lab", mode=0o755)
    host.write_file("/home/lab/.bashrc", "export PATH=/home/lab/bin:$PATH\n", user="lab")
    host.write_file("/tmp/pid", f"{pid}\n")


def wait_for_processes(host: Node, count: int, *words: str) -> None:
    """Wait until so many processes with these words run on the host."""
    ns.wait_until(lambda: len(list_processes(host, *words)) == count, 60.0, f"{host.name}: {count} processes {words}")


def test_gpus_processes_and_the_run_of_another_user_are_shown_once(project: Project, lab4: Lab) -> None:
    other = start_run_of_root(lab4["h2"])
    try:
        (train,) = list_processes(lab4["h2"], "bash", "train.sh")[:1]
        install_smi(lab4["h2"], train.inner)
        lab4["h4"].drop_packets()
        listed = project.run_fanout("top", "--json", "-t", "5", "hosts.txt")
        text = project.run_fanout("top", "--once", "-t", "2", "--user", "root", "hosts.txt")
    finally:
        lab4["h4"].stop_dropping()
        end_run_of_root(lab4["h2"], other)
    assert listed.code == 0, listed.all
    hosts = {host["host"]: host for host in json.loads(listed.out)}
    assert list(hosts) == ["h1", "h2", "h3", "h4"]
    assert [gpu["index"] for gpu in hosts["h2"]["gpus"]] == ["0", "1"]
    assert hosts["h2"]["free_gpus"] == ["0"]
    (process,) = hosts["h2"]["processes"]
    assert (process["gpu"], process["user"], process["pid"]) == ("1", "root", train.inner)
    assert process["run"] == hosts["h2"]["runs"][0]["run"] != ""
    assert process["memory"] == 61190
    assert hosts["h1"]["gpus"] == []
    assert hosts["h1"]["is_free"]
    assert hosts["h4"]["reach"] == "unreachable"
    assert hosts["h4"]["trouble"]
    assert text.code == 0, text.all
    assert "GPU 1: 1 uncorrected ECC error" in text.out
    assert "h1" not in text.out
    wait_for_processes(lab4["h2"], 0, "nvidia-smi")


def test_nothing_stays_on_a_host_after_the_launcher_was_killed_or_the_link_was_lost(
    project: Project, lab4: Lab
) -> None:
    """The relay of the silent host ends after 30 s without a heartbeat, and its tools with it."""
    killed, silent = lab4["h1"], lab4["h2"]
    install_smi(killed, 1)
    install_smi(silent, 1)
    outer, inner = os.openpty()
    project.write_hostfile("h1\nh2\n")
    view = project.start_command("top", "hosts.txt", env={"TERM": "xterm"}, stdout=inner)
    os.close(inner)
    wait_for_processes(killed, 2, "nvidia-smi")
    wait_for_processes(silent, 2, "nvidia-smi")
    silent.drop_packets()
    view.child.kill()
    for host in (killed, silent):
        wait_for_processes(host, 0, "nvidia-smi")
        wait_for_processes(host, 0, "READY")
    silent.stop_dropping()
    wait_for_processes(silent, 0, "sshd: lab@")
    os.close(outer)
