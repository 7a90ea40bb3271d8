"""Hosts behind another host: ProxyJump and ProxyCommand of ssh_config, over real sshd."""

from __future__ import annotations

import pytest

from tests.lab.drive import Project
from tests.lab.lab import Lab

JUMP = "Host h2 h3\n  ProxyJump h1\n"
COMMAND = "Host h2 h3\n  ProxyCommand ssh -W %h:%p h1\n"


@pytest.mark.parametrize("config", [JUMP, COMMAND], ids=["ProxyJump", "ProxyCommand"])
def test_hosts_behind_a_jump_host_run_like_any_other(project: Project, lab4: Lab, config: str) -> None:
    """The launcher cannot reach them itself; the exit status and every line still come home."""
    for name in ("h2", "h3"):
        for v6, source in ((False, lab4.launcher.address), (True, lab4.launcher.address6)):
            lab4[name].run_iptables("-I", "INPUT", "-s", source, "-p", "tcp", "--dport", "22", "-j", "DROP", v6=v6)
    lab4.launcher.write_file("/home/lab/.ssh/config", config, user="lab", mode=0o600)
    project.write_hostfile("h2 slots=1\nh3 slots=1\n")
    project.write_train_script(
        'echo "rank $NODE_RANK of $NNODES via ${SSH_CONNECTION:-nobody}"; exit $((NODE_RANK * 5))\n'
    )
    done = project.run_training("--master-addr", lab4["h2"].address)
    assert done.code == 5, done.all
    assert "h2 | rank 0 of 2 via nobody" in done.out
    assert "h3 | rank 1 of 2 via nobody" in done.out


def test_an_unknown_key_of_the_jump_host_is_refused_as_well(project: Project, lab4: Lab) -> None:
    """A jump host is checked like any other: fabric by itself would take any key of it."""
    lab4.launcher.write_file("/home/lab/.ssh/config", f"UserKnownHostsFile /dev/null\n{JUMP}", user="lab", mode=0o600)
    project.write_hostfile("h2 slots=1\n")
    project.write_train_script("echo never\n")
    done = project.run_training()
    assert done.code == 255, done.all
    assert "jump host h1: its host key is not in " in done.err
    assert "never" not in done.out
