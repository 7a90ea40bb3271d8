"""A lab leaves nothing behind: not at its end, not when it is killed, and not in another lab."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.lab import ns
from tests.lab.lab import REPOSITORY, Lab, remove_leftovers
from tests.lab.logins import end_session, open_session, run_ssh

_KINDS = ("pid", "net", "mnt", "uts", "ipc")


def _state_of_this_machine() -> set[str]:
    """Links, named namespaces, mounts and children: everything that a lab could leave here."""
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.splitlines()
    named = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout.splitlines()
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    fds = [
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    ]
    temporary = [str(path) for path in Path(tempfile.gettempdir()).glob(f"fanout-lab-{os.getpid()}-*")]
    return {*links, *named, *mounts, *children, *fds, *temporary}


def test_a_lab_leaves_nothing_behind() -> None:
    before = _state_of_this_machine()
    with Lab(2, shared="/home/lab/shared") as lab:
        child = open_session(lab, "h1", "exec sleep 1006")
        lab["h2"].power_off()
        with ns.hold_namespaces([lab["h1"].pid, lab.launcher.pid], _KINDS) as namespaces:
            assert len(ns.list_inhabitants(namespaces)) > 4
            lab.close()
            assert ns.list_inhabitants(namespaces, _KINDS) == []
    end_session(child)
    assert _state_of_this_machine() <= before


def test_a_lab_that_cannot_end_cleanly_raises_an_error() -> None:
    lab = Lab(1)
    with lab:
        stray = subprocess.Popen(["nsenter", f"--target={lab['h1'].pid}", "--net", "sleep", "1007"])
        home = ns.read_namespace(os.getpid(), "net")
        ns.wait_until(lambda: ns.read_namespace(stray.pid, "net") != home, 5.0, "the stray inside")
        with pytest.raises(ns.LabError, match=r"left processes behind:\n.*sleep 1007"):
            lab.close()
        end_session(stray)


def test_two_labs_do_not_see_each_other() -> None:
    with Lab(1) as one, Lab(1) as two:
        one["h1"].write_file("/tmp/whose", "one")
        two["h1"].write_file("/tmp/whose", "two")
        assert [run_ssh(lab, "h1", "cat /tmp/whose") for lab in (one, two)] == ["one", "two"]
        one["h1"].power_off()
        assert run_ssh(two, "h1", "echo there") == "there"


def test_machines_die_with_a_killed_owner_and_their_directory_is_swept() -> None:
    code = (
        "import signal\nfrom tests.lab.lab import Lab\n"
        "with Lab(2) as lab:\n"
        "    lab['h1'].start_program(['sleep', '1008'])\n"
        "    print(*[node.pid for node in lab.nodes], flush=True)\n"
        "    signal.pause()\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    try:
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        remove_leftovers()
        (directory,) = Path(tempfile.gettempdir()).glob(f"fanout-lab-{owner.pid}-*")  # not swept: its owner lives
        with ns.hold_namespaces(pids, _KINDS) as namespaces:
            owner.kill()
            assert ns.wait_gone([process.pid for process in ns.list_inhabitants(namespaces, _KINDS)], 10.0)
            assert ns.list_inhabitants(namespaces, _KINDS) == []
    finally:
        end_session(owner)
    remove_leftovers()
    assert not directory.exists()


@pytest.mark.parametrize(("ci", "status", "word"), [("false", 0, "skipped"), ("true", 1, "failed|error")])
def test_without_root_the_tests_skip_but_in_ci_they_fail(lab4: Lab, ci: str, status: int, word: str) -> None:
    argv = [
        sys.executable,
        "-B",
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-q",
        "-k",
        "orphans",
        "tests/lab/test_lab.py",
    ]
    done = lab4.launcher.run_program(argv, user="lab", cwd=str(REPOSITORY), env={"CI": ci})
    assert done.returncode == status, done.stdout
    assert "the lab needs root" in done.stdout
    assert re.search(f"1 ({word})", done.stdout)
