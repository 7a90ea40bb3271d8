"""The machines of a lab are separate from each other and from this one, and match their specification."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import ns
from tests.lab.lab import REPOSITORY, Lab
from tests.lab.logins import end_session, open_session, run_ssh
from tests.lab.many import one_sshd
from tests.lab.ns import LabError
from tests.lab.oracle import assert_clean, wait_quiet
from tests.lab.specs import Bind, HostSpec

BOOT_ID = "/proc/sys/kernel/random/boot_id"


# --- what a machine is ---


@pytest.mark.parametrize("user", ["root", "lab"])
def test_the_key_opens_every_host_by_name(lab4: Lab, user: str) -> None:
    assert [run_ssh(lab4, name, "hostname; id -un", user=user).split() for name in lab4.names] == [
        [name, user] for name in ("h1", "h2", "h3", "h4")
    ]


@pytest.mark.parametrize("kind", ["address", "address6"])
def test_hosts_reach_each_other_and_the_launcher(lab4: Lab, kind: str) -> None:
    for one in lab4.hosts:
        for other in lab4.hosts:
            banner = f"exec 3<>/dev/tcp/{getattr(other, kind)}/22; head -c 4 <&3"
            assert one.run_checked(["bash", "-c", banner]).stdout == "SSH-"
        knock = f"exec 3<>/dev/tcp/{getattr(lab4.launcher, kind)}/22"
        assert (
            "Connection refused" in one.run_program(["bash", "-c", knock]).stderr
        )  # an answer, although nothing listens


def test_lab_has_no_route_to_the_outside(lab4: Lab) -> None:
    for node in lab4.nodes:
        ports = {"br0", *(host.port_name for host in lab4.hosts)} if node is lab4.launcher else {"eth0"}
        assert set(node.run_program(["ls", "/sys/class/net"]).stdout.split()) - {"bonding_masters"} == {"lo", *ports}
        for outside in ("192.0.2.1", "2001:db8::1"):
            assert "unreachable" in node.run_program(["ip", "route", "get", outside]).stderr


def test_each_machine_has_an_identity_of_its_own(lab4: Lab) -> None:
    for file in (BOOT_ID, "/etc/machine-id", "/etc/hostname"):
        assert len({node.run_checked(["cat", file]).stdout for node in lab4.hosts}) == 4


def test_temporary_files_and_homes_are_private(lab4: Lab) -> None:
    for place in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/root", "/home/lab", "/etc"):
        lab4["h1"].write_file(f"{place}/mark", "x")
        assert lab4["h1"].run_checked(["cat", f"{place}/mark"]).stdout == "x"
        assert not Path(place, "mark").exists()
        assert not any(node.get_path(f"{place}/mark").exists() for node in lab4.nodes if node is not lab4["h1"])


def test_the_shared_directory_is_one(lab4: Lab) -> None:
    lab4.launcher.run_program(["sh", "-c", "echo seen > shared/file"], user="lab", check=True)
    assert [run_ssh(lab4, name, "cat shared/file") for name in lab4.names] == ["seen"] * 4


def test_processes_are_private_and_seen_from_outside(lab4: Lab) -> None:
    child = open_session(lab4, "h1", "exec sleep 1001")
    ns.wait_until(lambda: any(p.argv == ("sleep", "1001") for p in lab4["h1"].list_processes()), 5.0, "sleep runs")
    (sleeper,) = [p for p in lab4["h1"].list_processes() if p.argv == ("sleep", "1001")]
    assert (sleeper.argv, sleeper.uid, sleeper.is_sshd) == (("sleep", "1001"), 47001, False)
    assert lab4["h2"].list_processes() == []
    assert "1001" not in lab4["h2"].run_checked(["ps", "ax"]).stdout
    assert lab4["h1"].run_checked(["ps", "-o", "args=", "-p", str(sleeper.inner)]).stdout.strip() == "sleep 1001"
    os.kill(sleeper.pid, signal.SIGKILL)
    end_session(child)


def test_the_rest_of_this_machine_cannot_be_changed_from_inside(lab4: Lab) -> None:
    for place in ("/usr", "/var/lib", str(REPOSITORY)):
        done = lab4["h1"].run_program(["touch", f"{place}/mark"])
        assert "Read-only file system" in done.stderr


def test_orphans_are_reaped(lab4: Lab) -> None:
    lab4["h1"].run_checked(["sh", "-c", "true & true & exit"])
    assert wait_quiet(lab4, 5.0)
    assert "defunct" not in lab4["h1"].run_checked(["ps", "ax"]).stdout


def test_the_python_of_the_tests_runs_inside(lab4: Lab) -> None:
    for node in (lab4.launcher, lab4["h1"]):
        for user in ("root", "lab"):
            code = "import pytest, sys; print(sys.executable)"
            assert node.run_program([sys.executable, "-c", code], user=user).stdout.strip() == sys.executable


# --- programs on the launcher ---


def test_a_signal_reaches_the_program_itself(lab4: Lab) -> None:
    code = "import signal\nsignal.signal(2, lambda *_: exit(42))\nprint(flush=True)\nwhile True: signal.pause()"
    child = lab4.launcher.start_program([sys.executable, "-c", code], user="lab", stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    assert child.wait(10) == 42
    child.stdout.close()


def test_exit_codes_signals_input_and_environment_are_exact(lab4: Lab) -> None:
    run = lab4.launcher.run_program
    assert run(["sh", "-c", "exit 7"]).returncode == 7
    assert run(["sh", "-c", "kill -9 $$"]).returncode == -9
    assert run(["cat"], stdin="ä\n").stdout == "ä\n"
    assert run(["sh", "-c", "echo $A; pwd"], env={"A": "1 2"}, cwd="/tmp", user="lab").stdout == "1 2\n/tmp\n"


def test_a_program_that_is_too_slow_is_ended(lab4: Lab) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        lab4.launcher.run_program(["sleep", "1002"], timeout=0.1)
    assert lab4.launcher.list_processes() == []


def test_the_hostfile_names_every_host(lab4: Lab) -> None:
    path = lab4.write_hostfile()
    assert lab4.launcher.read_file(path) == "".join(f"h{n} slots=1\n" for n in (1, 2, 3, 4))
    assert lab4.launcher.read_file(lab4.write_hostfile("h2\n")) == "h2\n"


# --- the oracle ---


def test_the_oracle_sees_a_process_left_on_a_host(lab4: Lab) -> None:
    run_ssh(lab4, "h2", "setsid sleep 1005 >/dev/null 2>&1 </dev/null &")
    with pytest.raises(AssertionError, match=r"h2: process left: pid \d+ uid 47001 .*sleep 1005"):
        assert_clean(lab4)
    lab4.reset_machines()


def test_the_oracle_sees_a_directory_left_on_the_launcher(lab4: Lab) -> None:
    lab4.launcher.run_program(["mkdir", "/dev/shm/fanout-x"], user="lab", check=True)
    with pytest.raises(AssertionError, match="launcher: directory left: /dev/shm/fanout-x"):
        assert_clean(lab4)
    assert_clean(lab4, allow=["fanout-x"])
    lab4.reset_machines()


# --- kinds of hosts ---


def test_hosts_differ_as_specified() -> None:
    specs = [
        HostSpec(name="fishy", shell="/usr/bin/fish", dotfiles={".config/fish/config.fish": "set -gx RC fish"}),
        HostSpec(name="bare", without=("python3*", "nvidia-smi"), dotfiles={".bashrc": "echo noise; export RC=bash\n"}),
        HostSpec(name="odd", port=2222, sshd=("PermitUserEnvironment yes",), dotfiles={".ssh/environment": "A=1\n"}),
        HostSpec(name="debian", etc_hosts=("127.0.1.1 debian",), shell="/bin/dash", client=True),
    ]
    config = "Host odd\n  Port 2222\n"
    with Lab(specs, subnet="192.168.7.0/28", ssh_config=config) as lab:
        assert run_ssh(lab, "fishy", "echo $RC (echo $FISH_VERSION | wc -l)") == "fish 1"
        assert run_ssh(lab, "bare", "echo $RC; command -v python3 || command -v perl") == "noise\nbash\n/usr/bin/perl"
        assert run_ssh(lab, "odd", "echo $A $SSH_CONNECTION").split()[::4] == ["1", "2222"]
        assert run_ssh(lab, "192.168.7.2", "hostname") == "noise\nbare"
        assert run_ssh(lab, "debian", "getent ahostsv4 debian").split()[0] == "127.0.1.1"
        assert (
            lab["debian"].run_checked(["ssh", "-o", "BatchMode=yes", "bare", "hostname"], user="lab").stdout
            == "noise\nbare\n"
        )


def test_bound_path_is_visible_at_its_mount_point(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    binds = [Bind(source=str(tmp_path)), Bind(source=str(tmp_path), target="/home/lab/work", writable=True)]
    with Lab(1, binds=binds) as lab:
        assert lab["h1"].run_checked(["cat", f"{tmp_path}/file"]).stdout == "here"
        assert lab["h1"].run_program(["touch", f"{tmp_path}/new"]).returncode == 1
        lab["h1"].run_checked(["touch", "/home/lab/work/new"])
    assert (tmp_path / "new").exists()


def test_many_names_behind_one_sshd() -> None:
    with one_sshd(64) as lab:
        assert len(lab.names) == 64
        assert run_ssh(lab, "h1", f"cat {BOOT_ID}") == run_ssh(lab, "h64", f"cat {BOOT_ID}")
        assert run_ssh(lab, "10.77.0.64", "echo $SSH_CONNECTION").split()[2] == "10.77.0.64"


def test_a_machine_that_cannot_start_reports_the_reason() -> None:
    lab = Lab([HostSpec(name="wrong", sshd=("NoSuchOption yes",))])
    with pytest.raises(LabError, match=r"wrong: error: sshd did not start: .*NoSuchOption"):
        lab.__enter__()
    assert not any(node.is_on for node in lab.nodes)
