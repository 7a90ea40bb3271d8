"""A run without a terminal, and coming back to it: detach, ps, attach, logs, stop, from here and from elsewhere."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

from fanout.hostfile.node_sets import expand_ranges
from tests.lab.drive import Project, kill_processes, list_processes
from tests.lab.lab import Lab
from tests.lab.misfortunes import list_keepers
from tests.lab.oracle import assert_clean, wait_quiet

WAIT = 'echo "start $NODE_RANK"\nuntil [ -e go ]; do sleep 0.05; done\necho "end $NODE_RANK"\nexit $((NODE_RANK == 2 ? 7 : 0))\n'


def _start_detached(project: Project, *flags: str) -> str:
    """Start a detached run; return its id."""
    done = project.run_training("-d", *flags)
    assert done.code == 0, done.all
    run = project.list_records()[-1].name
    assert f"fanout attach {run}" in done.err, done.all
    return run


def test_a_detached_run_is_seen_attached_to_and_ends_with_its_true_code(project: Project, lab4: Lab) -> None:
    """-d returns once all have started; attach shows what comes, and gives code, cause and sweep of a failing run."""
    project.write_train_script(WAIT)
    run = _start_detached(project)
    listed = project.run_fanout("ps")
    assert run in listed.out
    assert "running" in listed.out
    assert "detached (pid" in listed.out
    seen = project.run_fanout("ps", "hosts.txt")
    assert seen.code == 0, seen.all
    for rank, name in enumerate(lab4.names):
        (line,) = [line for line in seen.out.splitlines() if line.startswith(f"{name} ")]
        assert line.split()[1:3] == [run, "running"]
        assert {"lab@launcher", "29500", str(rank), "detached"} <= set(line.split())
    attached = project.start_command("attach")
    attached.wait_for_output("start 3")
    project.write_file("go", "")
    done = attached.wait_for_end()
    assert done.code == 7, done.all
    assert "h3 ended by itself with exit 7" in done.err
    assert "nothing: verified on all 4 hosts" in done.err
    assert wait_quiet(lab4, 10)
    again = project.run_fanout("attach", run)
    assert again.code == 7, again.all
    assert "h3 ended by itself with exit 7" in again.err
    assert "no run" not in again.err
    assert "failed (7)" in project.run_fanout("ps").out


def test_a_detached_run_that_never_starts_fails_in_the_foreground(project: Project) -> None:
    """A run that does not start is never reported as detached."""
    project.write_train_script("exit 0\n")
    project.write_hostfile("h1 slots=1\nnohost slots=1\n")
    done = project.run_training("-d")
    assert done.code == 255, done.all
    assert "detached" not in done.err


def test_stop_signals_a_live_launcher(project: Project, lab4: Lab) -> None:
    """The launcher ends the run in order, so its record has the end; ``stop`` reports the result of every host."""
    project.write_train_script(WAIT)
    run = _start_detached(project, "--grace", "5")
    done = project.run_fanout("stop")
    assert done.code == 0, done.all
    assert "signalled its launcher" in done.err
    assert re.search(r"^fanout: h\[1-4\]: .*nothing is left", done.err, re.MULTILINE), done.all
    assert project.read_result()["exit_code"] == 128 + signal.SIGTERM
    attached = project.run_fanout("attach", run)
    assert attached.code == 128 + signal.SIGTERM
    assert "by lab@launcher with fanout stop; nothing is left: verified on all 4 hosts" in attached.err
    assert "by lab@launcher with fanout stop" in project.run_fanout("ps").out
    assert wait_quiet(lab4, 10)


def test_attach_left_with_ctrl_c_leaves_the_run_alone(project: Project, lab4: Lab) -> None:
    project.write_train_script(WAIT)
    _start_detached(project)
    attached = project.start_command("attach")
    attached.wait_for_output("start 0")
    attached.send_signal(signal.SIGINT)
    left = attached.wait_for_end()
    assert left.code == 130, left.all
    assert "the run goes on" in left.err
    project.write_file("go", "")
    assert project.run_fanout("attach", "latest").code == 7
    assert wait_quiet(lab4, 10)


def test_attach_takes_the_place_of_a_launcher_that_died(project: Project, lab4: Lab) -> None:
    """Launcher and guardian are killed, the hosts wait under their lease: attach goes on at the byte, and supervises."""
    project.write_train_script(WAIT)
    run = _start_detached(project, "--grace", "2")
    kill_processes(lab4.launcher, "fanout.run.guardian")
    kill_processes(lab4.launcher, "-m fanout run")
    assert "launcher lost" in project.run_fanout("ps").out
    attached = project.start_command("attach", run)
    attached.wait_for_output("starting a new one")
    project.write_file("go", "")
    done = attached.wait_for_end()
    assert done.code == 7, done.all
    assert "nothing: verified on all 4 hosts" in done.err
    assert project.read_log("h1") == b"start 0\nend 0\n"
    assert wait_quiet(lab4, 10)


def test_a_machine_without_a_record_asks_the_hosts(project: Project, lab4: Lab) -> None:
    """attach HOSTS shows the log from its first byte and the true end; the launcher's own record stays whole."""
    project.write_train_script(WAIT)
    run = _start_detached(project)
    elsewhere = {"XDG_STATE_HOME": "/tmp/elsewhere"}
    attached = project.start_command("attach", "hosts.txt", env=elsewhere)
    attached.wait_for_output(*(f"start {rank}" for rank in range(4)))
    project.write_file("go", "")
    done = attached.wait_for_end()
    assert done.code == 7, done.all
    assert project.run_fanout("attach", run).code == 7
    assert project.read_log("h2") == b"start 1\nend 1\n"
    assert wait_quiet(lab4, 10)


def test_stop_from_a_machine_without_a_record(project: Project, lab4: Lab) -> None:
    """The launcher and a second terminal elsewhere name the user, not only the signal that ended the ranks."""
    project.write_train_script(WAIT)
    _start_detached(project)
    attached = project.start_command("attach", "hosts.txt", env={"XDG_STATE_HOME": "/tmp/third"})
    attached.wait_for_output(*(f"start {rank}" for rank in range(4)))
    done = project.run_fanout("stop", "--grace", "5", "", "hosts.txt", env={"XDG_STATE_HOME": "/tmp/elsewhere"})
    assert done.code == 0, done.all
    ends = re.findall(r"^fanout: (h\S+): .*nothing (?:of the run )?is left", done.err, re.MULTILINE)
    assert sorted(host for names in ends for host in expand_ranges(names)) == ["h1", "h2", "h3", "h4"], done.all
    seen = attached.wait_for_end()
    assert seen.code == 128 + signal.SIGTERM, seen.all
    for shown in (seen, project.run_fanout("attach", "latest")):
        assert "by lab@launcher with fanout stop; nothing is left: verified on all 4 hosts" in shown.err, shown.all
    assert project.read_result()["origin"] == "user"
    assert wait_quiet(lab4, 20)


def test_a_closed_terminal_detaches_with_on_hangup_keep(project: Project, lab4: Lab) -> None:
    """--on-hangup keep: SIGHUP is no end; the record goes on, and attach comes back to it."""
    project.write_train_script(WAIT)
    run = project.begin_training("--on-hangup", "keep")
    run.wait_for_output(*(f"start {rank}" for rank in range(4)))
    run.send_signal(signal.SIGHUP)
    attached = project.start_command("attach")
    attached.wait_for_output("start 0")
    project.write_file("go", "")
    assert attached.wait_for_end().code == 7
    assert run.wait_for_end().code == 7
    assert "the terminal closed" in (project.list_records()[-1] / "events.jsonl").read_text()
    assert "detached" in project.run_fanout("ps", "--all", "--json").out or wait_quiet(lab4, 10)


def test_logs_follow_filter_and_end_with_the_run(project: Project, lab4: Lab) -> None:
    """-f ends with the run; --host, --grep, --since and -n choose."""
    project.write_train_script(WAIT)
    _start_detached(project)
    follow = project.start_command("logs", "-f", "--host", "h1,h2", "--grep", "start|end")
    follow.wait_for_output("start 0", "start 1")
    project.write_file("go", "")
    done = follow.wait_for_end()
    assert done.code == 0, done.all
    assert "end 1" in done.out
    assert "start 2" not in done.out
    assert project.run_fanout("logs", "--since", "1h", "--grep", "end 3").out.strip() == "h4 | end 3"
    assert project.run_fanout("logs", "--since", "2099-01-01").out == ""
    assert project.run_fanout("logs", "-n", "1", "--host", "h1").out.strip() == "h1 | end 0"
    assert project.run_fanout("logs", "--since", "yesterday-ish").code == 2
    assert wait_quiet(lab4, 10)


# --- what is left ---


def _abandon_run(project: Project, lab: Lab) -> str:
    """Return the id of a run whose launcher, guardian and keepers were killed, with a process outside its tree."""
    project.write_train_script("setsid sleep 1007 &\n" + WAIT)
    run = _start_detached(project)
    kill_processes(lab.launcher, "fanout.run.guardian")
    kill_processes(lab.launcher, "-m fanout run")
    for host in lab.hosts:
        kill_processes(host, "-I", "-S")
    return run


def test_clean_lists_and_ends_what_an_ended_run_left(project: Project, lab4: Lab) -> None:
    """Strays and records of a run without a keeper are listed, then removed; a second look proves it; live runs stay."""
    run = _abandon_run(project, lab4)
    project.write_train_script(WAIT)
    beside = _start_detached(project, "--master-port", "29600")
    seen = project.run_fanout("ps", "hosts.txt")
    assert seen.out.count("left behind: pid") >= 4, seen.all
    assert "fanout clean hosts.txt" in seen.err
    asked = project.run_fanout("clean", "hosts.txt")
    assert asked.code == 2, asked.all
    assert "--yes" in asked.err
    assert run in asked.out
    done = project.run_fanout("clean", "--yes", "hosts.txt")
    assert done.code == 0, done.all
    assert "h[1-4]: checked again: nothing is left of ended runs" in done.err
    assert f"kept run {beside}: it is active" in done.out
    assert not any(list_processes(host, "sleep", "1007") for host in lab4.hosts)
    project.write_file("go", "")
    assert project.run_fanout("attach", beside).code == 7
    assert wait_quiet(lab4, 10)
    assert_clean(lab4)
    assert json.loads(project.run_fanout("ps", "--json", "hosts.txt").out) == []


def test_a_keeper_that_is_stopped_is_named_and_left_alone(project: Project, lab4: Lab) -> None:
    """ps reports that it does not answer, and clean names a remedy; once the keeper continues, so does everything else."""
    project.write_train_script(WAIT)
    run = _start_detached(project)
    host = lab4["h2"]
    (keeper,) = list_keepers(host)
    os.kill(keeper.pid, signal.SIGSTOP)
    seen = project.run_fanout("ps", "hosts.txt")
    assert re.search(rf"^h2 +{run} +stuck ", seen.out, re.MULTILINE), seen.all
    assert len(re.findall(r" running ", seen.out)) == 3, seen.all
    done = project.run_fanout("clean", "--yes", "hosts.txt")
    message = f"h2: kept run {run}: its keeper (pid {keeper.inner}, state T) does not answer; on that host: kill -CONT"
    assert message in done.out, done.all
    os.kill(keeper.pid, signal.SIGCONT)
    project.write_file("go", "")
    assert project.run_fanout("attach", run).code == 7


@pytest.mark.slow
def test_the_next_run_reports_an_expired_run_once(project: Project, lab4: Lab) -> None:
    """No launcher fetched the result: the next run on these hosts names the run and the command that removes it."""
    project.write_train_script(WAIT)
    lost = _start_detached(project, "--lease", "5", "--grace", "1")
    kill_processes(lab4.launcher, "fanout.run.guardian")
    kill_processes(lab4.launcher, "-m fanout run")
    assert wait_quiet(lab4, 5 + 1 + 10)
    project.write_train_script("true\n")
    soon = project.run_training()
    assert "was never fetched" not in soon.err  # its launcher may be just dialling again
    for host in lab4.hosts:
        host.run_program(["sh", "-c", "touch -d '1 minute ago' /var/tmp/fanout-*/*/status"], check=True)
    done = project.run_training()
    assert done.code == 0, done.all
    assert done.err.count(f"h[1-4]: the result of run {lost} was never fetched") == 1
    assert "fanout clean hosts.txt" in done.err
    assert project.run_fanout("clean", "--yes", "hosts.txt").code == 0
