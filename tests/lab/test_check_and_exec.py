"""``fanout check`` and ``fanout exec`` over real sshd."""

from __future__ import annotations

import json
import re

import pytest

from tests.lab import ns
from tests.lab.drive import Project, same_as_golden
from tests.lab.lab import Lab

# --- check ---


def test_a_good_lab_passes_without_a_warning(project: Project) -> None:
    """Nothing to complain about means: no failure, no warning, exit 0, also for ``--strict``."""
    project.copy_real_tasks()
    done = project.run_fanout("check", "--strict", "hosts.txt", "tasks/hello.py")
    assert done.code == 0, done.all
    assert done.out.endswith("All checks passed.\nnext:  fanout run hosts.txt tasks/hello.py\n")
    assert "WARNINGS" not in done.out
    assert "[4 ok]" in done.out.splitlines()[0]


def test_json_of_a_check_is_one_object_for_programs(project: Project, lab4: Lab) -> None:
    """``--json``: what was found, by check, level and host; an unreachable host among them, and the same exit status."""
    lab4["h3"].stop_sshd()
    done = project.run_fanout("check", "--json", "hosts.txt")
    assert done.code == 255, done.all
    table = json.loads(done.out)
    assert (table["v"], table["ok"]) == (1, False)
    assert [host["host"] for host in table["hosts"]] == ["h1", "h2", "h3", "h4"]
    assert list(table["unreached"]) == ["h3"]
    (failure,) = [finding for finding in table["findings"] if finding["level"] == "fail"]
    assert (failure["check"], failure["hosts"]) == ("reached", ["h3"])
    assert "refused the connection" in failure["saw"]


def test_a_check_of_an_unreachable_host_goes_on_with_the_others(project: Project, lab4: Lab) -> None:
    """255, the host with its cause and what to type, and the other three fully looked at."""
    lab4["h3"].stop_sshd()
    done = project.run_fanout("check", "hosts.txt")
    text = " ".join(done.out.split())
    assert done.code == 255, done.all
    assert "h3 reached" in text
    assert "h3:22 refused the connection" in text
    assert "ssh h3" in text
    assert re.search(r"^✓  h4 ", done.out, re.MULTILINE)


# --- exec ---


def test_equal_output_is_shown_once(project: Project) -> None:
    """``exec`` prints one block for hosts with equal output; its exit status is that of the first host that failed."""
    done = project.run_fanout("exec", "hosts.txt", "--", "echo hi; [ $(uname -n) != h3 ] || { echo oops >&2; exit 4; }")
    assert done.code == 4, done.all
    same_as_golden("exec-folded", done.out)


def test_exec_runs_on_reachable_hosts_and_names_the_others(project: Project, lab4: Lab) -> None:
    """An unreachable host is named with what to type; the others' output is there; 255."""
    lab4["h2"].stop_sshd()
    done = project.run_fanout("exec", "hosts.txt", "--", "echo", "hi")
    assert done.code == 255, done.all
    assert "h[1,3-4] (3)" in done.out
    assert "fanout: h2: unreachable: h2:22 refused the connection" in done.err


def test_exec_brings_every_byte_and_live_lines(project: Project) -> None:
    """Binary safe, long lines, no newline at the end; ``--live`` with a prefix instead of folding."""
    size = 300_000
    done = project.run_fanout("exec", "-w", "h1", "hosts.txt", "--", f"head -c {size} /dev/zero | tr '\\0' a; printf ä")
    assert done.code == 0
    assert "a" * size + "ä" in done.out
    done = project.run_fanout("exec", "--live", "-w", "h[1-2]", "hosts.txt", "--", "uname", "-n")
    assert sorted(done.out.splitlines()) == ["h1 | h1", "h2 | h2"]


@pytest.mark.parametrize("command", ["exec cat", "sleep 1001 & sleep 1002", "while :; do sleep 0.1; done"])
def test_ctrl_c_ends_exec(project: Project, lab4: Lab, command: str) -> None:
    """130; the command has ended on every host, with what it started, before exec reports that."""
    run = project.start_command("exec", "--live", "hosts.txt", "--", f"echo here; {command}")
    run.wait_for_output(*(rf"^{name} \| here" for name in lab4.names))
    run.send_signal(2)
    done = run.wait_for_end(30)
    assert done.code == 130, done.all
    assert "interrupted: the command has ended on h[1-4]\n" in done.err, done.all


def test_exec_names_the_hosts_on_which_a_command_does_not_end(project: Project) -> None:
    """A command that ignores SIGTERM: the user learns where it still runs, and exec does not wait for it."""
    run = project.start_command(
        "exec",
        "--live",
        "-w",
        "h1",
        "hosts.txt",
        "--",
        "trap '' TERM; echo here; while [ ! -e end ]; do sleep 0.1; done",
    )
    run.wait_for_output(r"^h1 \| here")
    run.send_signal(2)
    done = run.wait_for_end(30)
    assert done.code == 130, done.all
    assert "interrupted: the command may still run on h1" in done.err, done.all
    project.lab["h1"].run_checked(["touch", "/home/lab/end"], user="lab")
    ns.wait_until(lambda: not project.lab["h1"].list_processes(), 10.0, "the command ends")
