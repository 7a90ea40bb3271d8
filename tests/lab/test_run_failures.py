"""A host that fails ends the run for all, and fanout reports the host, the cause and the exit status."""

from __future__ import annotations

import pytest

from tests.lab.drive import Project, kill_processes, lines_of, list_processes, same_as_golden
from tests.lab.lab import Lab

OTHERS = "h[1,3-4]"


def test_the_report_names_the_host_that_failed(project: Project) -> None:
    """``exit 3`` on host 2: fanout exits 3, names it with its last lines, and the others are gone within seconds."""
    project.write_train_script(
        'echo "start $NODE_RANK"\nif [ $NODE_RANK = 1 ]; then echo "no such key: lr"; exit 3; fi\nsleep 1001\n'
    )
    done = project.run_training("--last-words", "0.3", "--full")
    assert done.code == 3, done.all
    assert done.seconds < 60  # a host would train on for 1000 s
    assert not any(list_processes(host, "sleep") for host in project.lab.hosts)
    assert done.err.endswith(project.read_report())
    same_as_golden("run-failed", project.read_report())


FAILURES = [
    ("kill -KILL $$", 137, "killed by SIGKILL"),
    ("kill -SEGV $$", 139, "killed by SIGSEGV"),
    ("{ echo oops; exit 7; } | tee log.txt", 7, "exit 7"),
    ("no-such-command", 127, "exit 127"),
    ("exec ./task.py", 126, "exit 126"),
]


@pytest.mark.parametrize(("line", "code", "words"), FAILURES, ids=[str(code) for _, code, _ in FAILURES])
def test_the_exit_status_is_the_first_cause(project: Project, line: str, code: int, words: str) -> None:
    """Signals as 128 + n, a failing pipe ending in tee, and the shell's own 126 and 127, all as they are."""
    project.write_train_script(f"[ $NODE_RANK = 1 ] || exec sleep 1002\n{line}\n")
    done = project.run_training("--last-words", "0", "--full")
    assert done.code == code, done.all
    assert f"h2: {words}" in done.err
    assert f"{OTHERS}: stopped by fanout" in done.err


def test_a_rank_that_is_killed_from_outside_is_the_cause(project: Project, lab4: Lab) -> None:
    """After ``kill -9`` on one host, the others are victims, not causes."""
    project.write_train_script('echo "start $NODE_RANK"\npython3 -c "import time; time.sleep(1003)"\n')
    run = project.begin_training("--last-words", "0", "--full")
    run.wait_for_output("start 0", "start 1", "start 2", "start 3")
    kill_processes(lab4["h3"], "time.sleep(1003)")
    done = run.wait_for_end()
    assert done.code == 137, done.all
    assert "h3: exit 137" in done.err


def test_a_host_that_ignores_term_is_killed_after_the_grace(project: Project) -> None:
    """Neither a trap nor a child in a session of its own outlives the grace."""
    stubborn = (
        "trap '' TERM\nsetsid sh -c 'trap \"\" TERM; sleep 1004; sleep 1004' &\necho start\nsleep 1004\nsleep 1004\n"
    )
    project.write_train_script(f"if [ $NODE_RANK = 1 ]; then sleep 0.2; exit 5; fi\n{stubborn}")
    done = project.run_training("--last-words", "0", "--grace", "0.5")
    assert done.code == 5, done.all
    assert f"{OTHERS}: stopped by fanout at once (killed by SIGKILL)" in done.err
    assert "nothing: verified on all 4 hosts" in done.err


def test_early_finished_host_waits_for_the_others(project: Project) -> None:
    """Exit 0 is no failure while others still run; ``--on-early-exit stop`` makes it one for who wants that."""
    project.write_train_script("until [ $NODE_RANK = 1 -o -e go ]; do sleep 0.05; done\necho done\n")
    run = project.begin_training()
    run.wait_for_output("h2 ended: exit 0")
    assert run.child.poll() is None
    project.write_file("go", "")
    done = run.wait_for_end()
    assert done.code == 0, done.all
    assert [lines_of(done.out, name) for name in project.lab.names] == [["done"]] * 4


def test_early_exit_can_stop_the_run(project: Project) -> None:
    """With ``--on-early-exit stop`` no host waits for one that has exited."""
    project.write_train_script("[ $NODE_RANK = 1 ] || exec sleep 1005\n")
    done = project.run_training("--on-early-exit", "stop")
    assert done.code == 125, done.all
    assert "stopping all hosts: h2 ended early" in done.err
    assert f"{OTHERS}: stopped by fanout (killed by SIGTERM)" in done.err
    assert done.seconds < 60  # a host would train on for 1000 s


def test_a_time_limit_ends_the_run_with_124(project: Project) -> None:
    """As ``timeout`` does; the hosts did nothing wrong."""
    project.write_train_script("exec sleep 1006\n")
    done = project.run_training("--time-limit", "0.5")
    assert done.code == 124, done.all
    assert "time limit" in done.err


def test_a_host_that_never_joins_the_rendezvous_is_named(project: Project) -> None:
    """The others wait for it in silence, as torchrun does for ten minutes: it is named within --start-timeout."""
    listen = "s = socket.create_server(('', port)); c = [s.accept()[0] for _ in range(4)]"
    dial = "s = socket.create_connection((os.environ['MASTER_ADDR'], port)); s.recv(1)"
    code = "import os, socket\nport = int(os.environ['MASTER_PORT'])\n%s"
    project.write_file("join0.py", code % listen)
    project.write_file("join.py", "import time\n" + code % f"time.sleep(1)\n{dial}")
    project.write_train_script(
        'if [ "$NODE_RANK" = 2 ]; then sleep 1007; fi\n[ "$NODE_RANK" = 0 ] && exec python3 join0.py\nexec python3 join.py\n'
    )
    done = project.run_training("--start-timeout", "4", "--grace", "2", timeout=90)
    assert done.code == 125, done.all
    assert "h3 did not join the rendezvous on MASTER_PORT within 4 s of the others" in done.err
    assert "nothing: verified on all 4 hosts" in done.err
