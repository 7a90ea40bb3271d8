"""Runs that meet on the same hosts, ports that are taken, and links that break in the middle."""

from __future__ import annotations

import re
import subprocess
from signal import SIGKILL

import pytest

from tests.lab.drive import Project, Running, kill_processes
from tests.lab.lab import Lab
from tests.lab.logins import end_session
from tests.lab.node import Node
from tests.lab.ns import wait_gone
from tests.lab.oracle import wait_quiet

WAIT = 'echo "start $NODE_RANK at $MASTER_PORT"\nuntil [ -e "stop.$MASTER_PORT" ]; do sleep 0.05; done\n'
SQUATTER = "import socket; s = socket.create_server(('', 29500)); print('here', flush=True); s.accept()"


def _take_port(node: Node, user: str) -> subprocess.Popen[bytes]:
    """Another user's program on the default MASTER_PORT."""
    child = node.start_program(["python3", "-c", SQUATTER], user=user, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"here\n"
    return child


def _start_run(project: Project, *flags: str) -> Running:
    run = project.begin_training(*flags)
    run.wait_for_output(*(f"start {rank} at" for rank in range(4)))
    return run


# --- the port ---


@pytest.mark.parametrize(("user", "holder"), [("lab", "pid {pid} python3 -c import socket"), ("root", "user root")])
def test_the_owner_of_a_taken_master_port_is_named(project: Project, lab4: Lab, user: str, holder: str) -> None:
    """Ours with pid and command, another user's with the owner; 125, and not one host has started."""
    project.write_train_script("touch ran\n")
    squatter = _take_port(lab4["h1"], user)
    (process,) = [p for p in lab4["h1"].list_processes() if p.pid == squatter.pid]
    done = project.run_fanout("run", "hosts.txt", "task.py")
    text = " ".join(done.err.split())
    assert done.code == 125, done.all
    assert "h1 master-port port 29500 is held by" in text
    assert holder.format(pid=process.inner) in text
    assert "--master-port " in text
    assert not project.get_path("ran").exists()
    end_session(squatter)


# --- two runs ---


def test_a_second_run_is_refused_by_name_and_the_first_goes_on(project: Project) -> None:
    """One port, one run: the second is refused with the first one's id and owner. Another port is another run."""
    project.write_train_script(WAIT)
    first = _start_run(project)
    name = project.list_records()[-1].name
    second = project.run_training()
    assert second.code == 125, second.all
    assert f"busy: port-29500 is held by run {name} of lab@launcher since " in second.err
    assert second.err.count("is held by run") <= 4, second.all  # narrated once; the headline twice, and who else
    assert "use another --master-port" in second.err
    assert "start" not in second.out
    checked = project.run_fanout("run", "--master-port", "29500", "hosts.txt", "task.py")
    assert checked.code == 125, checked.all
    assert f"h[1-4]  master-port  port 29500 is held by your run {name}, which is still running" in checked.err
    assert f"fanout stop {name}" in checked.err
    assert "start" not in checked.out
    beside = _start_run(project, "--master-port", "29600")
    free = project.start_command("run", "hosts.txt", "task.py")
    free.wait_for_output(f"your run {name} holds the default port 29500: MASTER_PORT is 29501", "start 3 at")
    for port in (29501, 29600):
        project.write_file(f"stop.{port}", "")
    assert beside.wait_for_end().code == 0
    chosen = free.wait_for_end()
    assert chosen.code == 0, chosen.all
    assert first.child.poll() is None
    project.write_file("stop.29500", "")
    done = first.wait_for_end()
    assert done.code == 0, done.all
    assert "nothing is left on them" in done.err


# --- links ---

COUNT = """
i=0
until [ -e stop ]; do i=$((i + 1)); echo "$NODE_RANK line $i"; sleep 0.02; done | tee "wrote.$NODE_RANK"
"""


def test_a_link_that_breaks_costs_neither_the_run_nor_a_byte(project: Project, lab4: Lab) -> None:
    """A login session is killed, another host is silent for seconds, sshd restarts: the run goes on, the log is whole."""
    project.write_train_script(COUNT)
    run = project.begin_training()
    run.wait_for_output(*(f"{rank} line 5" for rank in range(4)))
    lab4["h3"].drop_packets()
    lab4["h4"].restart_sshd()
    kill_processes(lab4["h4"], "sshd", "notty")
    kill_processes(lab4["h2"], "sshd", "notty")
    run.wait_for_output("^fanout: h2: reconnected", "^fanout: h4: reconnected")
    lab4["h3"].stop_dropping()
    run.wait_for_output(*(f"{rank} line {(len(run.texts['out']) // 50) + 20}$" for rank in range(4)))
    project.write_file("stop", "")
    done = run.wait_for_end()
    assert done.code == 0, done.all
    for rank, name in enumerate(lab4.names):
        wrote = project.get_path(f"wrote.{rank}").read_bytes()
        assert project.read_log(name) == wrote
        assert wrote.count(b"\n") > 20


@pytest.mark.slow
def test_run_survives_a_host_silent_longer_than_its_link(project: Project, lab4: Lab) -> None:
    """The link is given up, dialled again, and the log is whole."""
    project.write_train_script(COUNT)
    run = project.begin_training()
    run.wait_for_output(*(f"{rank} line 5" for rank in range(4)))
    lab4["h3"].drop_packets()
    run.wait_for_output("^fanout: h3: link lost", timeout=40)
    lab4["h3"].stop_dropping()
    run.wait_for_output("^fanout: h3: reconnected", timeout=40)
    project.write_file("stop", "")
    done = run.wait_for_end()
    assert done.code == 0, done.all
    assert project.read_log("h3") == project.get_path("wrote.2").read_bytes()
    assert wait_quiet(lab4, 20)


def test_hosts_without_a_launcher_stop_when_the_lease_expires(project: Project, lab4: Lab) -> None:
    """Launcher and guardian are killed: the shortest lease and the grace later nothing runs any more. The next
    launcher reports that the launcher was away, and blames no host."""
    project.write_train_script(WAIT)
    run = _start_run(project, "--lease", "5", "--grace", "1")
    kill_processes(lab4.launcher, "fanout.run.guardian")
    run.send_signal(SIGKILL)
    run.wait_for_end()
    assert not wait_quiet(lab4, 2)
    assert wait_quiet(lab4, 5 + 1 + 10)
    done = project.run_fanout("attach")  # the hosts keep the record of how it ended
    assert done.code != 0
    full = project.run_fanout("report", "--full")
    assert re.search(
        r"first cause +the launcher\n +was away for [\d.]+ s \(stopped, killed, or its machine slept\)", full.all
    ), full.all


@pytest.mark.slow
def test_hosts_end_the_run_after_the_launcher_machine_vanishes(project: Project, lab4: Lab) -> None:
    """No packet closes the connection and sshd waits a quarter of an hour: all our processes end within the lease."""
    project.write_train_script(WAIT)
    run = _start_run(project, "--lease", "5", "--grace", "1")
    lab4.launcher.drop_packets()
    kill_processes(lab4.launcher, "fanout.run.guardian")
    run.send_signal(SIGKILL)
    run.wait_for_end()
    ours = [p.pid for host in lab4.hosts for p in host.list_processes() if not p.is_sshd]
    assert len(ours) > 4
    assert wait_gone(
        ours, 30 + 5 + 1 + 10
    )  # an agent that receives nothing exits after 30 s, the keeper with the lease
    lab4.reset_machines()
