"""The user, a closed pipe or a crash of the launcher itself ends a run: the hosts are empty afterwards, and fanout reports it."""

from __future__ import annotations

import re
import signal

import pytest

from tests.lab.drive import Project
from tests.lab.lab import Lab
from tests.lab.oracle import assert_clean, wait_quiet

WAIT = 'echo "start $NODE_RANK"\nsleep 1007\n'
ALL_STARTED = ("start 0", "start 1", "start 2", "start 3")

STOPPERS = {
    signal.SIGINT: "by you",
    signal.SIGTERM: "by SIGTERM from an unknown sender",
    signal.SIGHUP: "because the terminal was closed (SIGHUP)",
}


@pytest.mark.parametrize("number", STOPPERS)
def test_a_signal_stops_all_hosts(project: Project, number: signal.Signals) -> None:
    """Ctrl-C, kill, and a closed terminal: all stop, nothing is left, 128 + n."""
    project.write_train_script(WAIT)
    run = project.begin_training()
    run.wait_for_output(*ALL_STARTED)
    run.send_signal(number)
    done = run.wait_for_end()
    assert done.code == 128 + number, done.all
    assert re.search(rf"━━━ STOPPED after .*: {re.escape(STOPPERS[number])}", done.err), done.all
    assert "h[1-4]: stopped by fanout (killed by SIGTERM)" in done.err
    assert done.err.splitlines()[-1].endswith("; nothing is left: verified on all 4 hosts")


def test_a_second_ctrl_c_does_not_wait_for_the_grace(project: Project) -> None:
    """The first one is polite, the second one kills; both look over what is left."""
    project.write_train_script("trap '' TERM\n" + WAIT + "sleep 1007\n")
    run = project.begin_training()
    run.wait_for_output(*ALL_STARTED)
    run.send_signal(signal.SIGINT)
    run.wait_for_output("stopping all hosts")
    run.send_signal(signal.SIGINT)
    done = run.wait_for_end(15)
    assert done.code == 130, done.all
    assert "h[1-4]: stopped by fanout (killed by SIGKILL)" in done.err


def test_ctrl_c_while_hosts_are_dialled_starts_nothing(project: Project, lab4: Lab) -> None:
    """One host does not answer: the user need not wait for its timeout to leave."""
    project.write_train_script("touch ran\n")
    lab4["h4"].drop_packets()
    run = project.begin_training("--connect-timeout", "25")
    run.wait_for_output(r"^fanout: run ")
    run.send_signal(signal.SIGINT)
    done = run.wait_for_end(10)
    assert done.code == 130, done.all
    assert not project.get_path("ran").exists()
    lab4["h4"].stop_dropping()


def test_head_closes_the_pipe_and_ends_the_run(project: Project) -> None:
    """``fanout run … | head -3``: it ends as any program with a closed pipe does, and no host goes on training."""
    project.write_train_script('while :; do echo "line"; sleep 0.01; done\n')
    done = project.start_shell(
        "fanout run --skip-check hosts.txt task.py | head -n 3; echo ${PIPESTATUS[0]} >&2"
    ).wait_for_end()
    assert done.out.count("line") == 3
    assert done.err.endswith("\n141\n"), done.all


# --- the launcher dies ---


def test_a_killed_launcher_leaves_nothing_running(project: Project, lab4: Lab) -> None:
    """SIGKILL cannot be caught: its guardian stops the hosts and brings the rest of the logs home."""
    project.write_train_script("trap 'echo bye; exit 0' TERM\n" + WAIT.replace("sleep 1007", "sleep 1007 & wait"))
    run = project.begin_training("--grace", "2")
    run.wait_for_output(*ALL_STARTED)
    run.send_signal(signal.SIGKILL)
    assert run.wait_for_end().code == -signal.SIGKILL
    assert wait_quiet(lab4, 20)
    assert_clean(lab4)
    assert {project.read_log(name) for name in lab4.names} == {f"start {rank}\nbye\n".encode() for rank in range(4)}


def test_third_ctrl_c_exits_and_names_hosts_with_possible_leftovers(project: Project, lab4: Lab) -> None:
    """One host cannot be reached for the stop: the user need not wait for it, and it is not reported as empty."""
    project.write_train_script("trap '' TERM\n" + WAIT + "sleep 1007\n")
    run = project.begin_training("--grace", "1", "--lease", "5")
    run.wait_for_output(*ALL_STARTED)
    lab4["h4"].drop_packets()
    run.send_signal(signal.SIGINT)
    run.wait_for_output("stopping all hosts")
    run.send_signal(signal.SIGINT)
    run.wait_for_output("killing the remaining processes", r"h\[1-3\] ended")
    run.send_signal(signal.SIGINT)
    done = run.wait_for_end(20)
    assert done.code == 130, done.all
    assert "unknown: could not verify h4" in done.err
    assert "when h4 is reachable" in done.err
    lab4["h4"].stop_dropping()
    again = project.run_fanout("stop", "latest")
    assert again.code == 0, again.all
    assert re.search(r"^fanout: (h4|h\[1-4\]): stopped.*nothing is left", again.err, re.MULTILINE), again.all
    assert wait_quiet(lab4, 60)


def test_a_full_launcher_disk_ends_no_run_and_is_reported_in_bytes(project: Project, lab4: Lab) -> None:
    """The hosts go on to their end; report and exit status say that the record has holes, and where."""
    place = "/tmp/small"
    lab4.launcher.run_program(["mkdir", place], check=True)
    lab4.launcher.run_program(["mount", "-t", "tmpfs", "-o", "size=256k,mode=777", "none", place], check=True)
    project.write_train_script('head -c 400000 /dev/zero | tr "\\\\0" x\necho\ntouch "ran.$NODE_RANK"\n')
    done = project.run_training("--log-dir", f"{place}/runs")
    lab4.launcher.run_program(["umount", place], check=True)
    assert done.code == 125, done.all
    assert [project.get_path(f"ran.{rank}").exists() for rank in range(4)] == [True] * 4
    assert "but its log on this machine has" in done.err
    assert "exit status  125 (part of the log could not be written to the launcher's disk)" in done.err
    assert "not recorded" in done.err
    assert "are missing: No space left on device" in done.err
