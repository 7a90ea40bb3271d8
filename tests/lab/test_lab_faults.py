"""Each fault of the lab has the effect that its name describes, and so has its undoing."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.lab.lab import Lab
from tests.lab.logins import end_session, open_session, run_ssh, ssh_status
from tests.lab.node import Node

BOOT_ID = "/proc/sys/kernel/random/boot_id"


@pytest.mark.parametrize("victim", ["host", "launcher"])
def test_blackhole_is_silence_until_healed(lab4: Lab, victim: str) -> None:
    node: Node = lab4["h1"] if victim == "host" else lab4.launcher
    node.drop_packets()
    assert "timed out" in ssh_status(lab4, "h1").stderr
    assert lab4["h3"].run_checked(["bash", "-c", f"exec 3<>/dev/tcp/{lab4['h2'].address}/22"]).returncode == 0
    node.stop_dropping()
    assert run_ssh(lab4, "h1", "echo back") == "back"


def test_a_frozen_host_answers_once_thawed(lab4: Lab) -> None:
    child = open_session(lab4, "h1", "read line; echo $line")
    lab4["h1"].freeze_processes()
    assert {process.state for process in lab4["h1"].list_processes()} == {"T"}
    assert child.stdin is not None
    child.stdin.write(b"hello\n")
    child.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.3)
    lab4["h1"].thaw_processes()
    assert child.stdout is not None
    assert child.stdout.read() == b"hello\n"
    assert child.wait(10) == 0
    child.stdout.close()


def test_thaw_leaves_stopped_what_was_stopped_before(lab4: Lab) -> None:
    host = lab4["h1"]
    child = host.start_program(["sleep", "1003"])
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    host.freeze_processes()
    host.thaw_processes()
    assert [process.state for process in host.list_processes()] == ["T"]
    end_session(child)


def test_power_off_closes_no_connection_and_power_on_is_a_fresh_boot(lab4: Lab) -> None:
    host = lab4["h1"]
    before = host.read_file(BOOT_ID)
    host.write_file("/tmp/mark", "x")
    child = open_session(lab4, "h1", "exec sleep 1004")
    host.power_off()
    assert not host.is_on
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.3)
    assert ssh_status(lab4, "h1").returncode == 255
    end_session(child)
    host.power_on()
    assert run_ssh(lab4, "h1", f"ls /tmp/mark 2>&1; cat {BOOT_ID}").splitlines()[-1] != before.strip()
    assert not host.get_path("/tmp/mark").exists()


def test_a_pulled_cable_takes_the_carrier_away(lab4: Lab) -> None:
    host, carrier = lab4["h1"], ["cat", "/sys/class/net/eth0/carrier"]
    host.link_down()
    assert host.run_checked(carrier).stdout == "0\n"
    host.link_up()
    assert host.run_checked(carrier).stdout == "1\n"
    assert run_ssh(lab4, "h1", "echo back") == "back"


def test_without_sshd_logins_are_refused_and_open_sessions_live_on(lab4: Lab) -> None:
    child = open_session(lab4, "h1", "read line; echo $line")
    lab4["h1"].stop_sshd()
    assert "Connection refused" in ssh_status(lab4, "h1").stderr
    lab4["h1"].start_sshd()
    assert run_ssh(lab4, "h1", "echo back") == "back"
    out, _ = child.communicate(b"alive\n", 10)
    assert out == b"alive\n"


def test_packet_filters_can_cut_and_reset_clears_them(lab4: Lab) -> None:
    for v6 in (False, True):
        reset = ("-j", "REJECT", "--reject-with", "tcp-reset")
        lab4["h1"].run_iptables("-I", "INPUT", "-p", "tcp", "--dport", "22", *reset, v6=v6)
    assert "Connection refused" in ssh_status(lab4, "h1").stderr
    lab4["h1"].reset_machine()
    assert run_ssh(lab4, "h1", "echo back") == "back"
