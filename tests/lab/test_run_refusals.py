"""Hosts that cannot take part: each is named with its cause and what to type, and nothing is started on any other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.lab.drive import Done, Project
from tests.lab.lab import Lab
from tests.lab.oracle import assert_clean
from tests.lab.specs import HostSpec

SPECS = [
    HostSpec(name="good"),
    HostSpec(name="refused"),
    HostSpec(name="unknown"),
    HostSpec(name="changed"),
    HostSpec(name="denied"),
    HostSpec(name="silent"),
    HostSpec(name="nopython", without=("python*",)),
    HostSpec(name="forced", sshd=("ForceCommand echo This account is for backups only",)),
    HostSpec(name="nologin", shell="/usr/sbin/nologin"),
    HostSpec(name="waits", dotfiles={".bashrc": "cat > /dev/null\n"}),
    HostSpec(name="full", tmp_mb=1),
]
RAN = "touch /home/lab/ran; sleep 1011\n"
KNOWN = "/home/lab/.ssh/known_hosts"


@pytest.fixture(scope="module")
def machines() -> Iterator[Lab]:
    with Lab(SPECS) as lab:
        yield lab


@pytest.fixture
def lab(machines: Lab) -> Iterator[Lab]:
    """Open a lab in which every host has its own copy; fail if anything ran or is left on one."""
    machines.reset_machines()
    yield machines
    assert [host.name for host in machines.hosts if host.get_path("/home/lab/ran").exists()] == []
    assert_clean(machines)


@pytest.fixture
def apart(lab: Lab) -> Iterator[Project]:
    """Return a project whose directory is not shared."""
    with closing(Project(lab, shared=False)) as project:
        project.write_train_script(RAN)
        yield project


def _assert_host_message(done: Done, host: str, *words: str) -> None:
    """Assert that the lines of fanout about a host have all these words."""
    lines = [line for line in done.err.splitlines() if line.startswith(f"fanout: {host}: ")]
    assert len(lines) == 2, f"{host}: {lines}\n{done.all}"  # one sentence, and what to type
    for word in words:
        assert any(word in line for line in lines), f"{host}: no {word!r} in {lines}"
    assert lines[1].startswith(f"fanout: {host}: try: ")


def _join_lines(done: Done) -> str:
    """Return the text without the line breaks of a table."""
    return " ".join(done.err.split())


def _spoil_known_hosts(lab: Lab) -> None:
    """Make one host unknown to known_hosts, and give another a wrong key there."""
    lines = lab.launcher.read_file(KNOWN).splitlines()
    key = next(line.split(" ", 1)[1] for line in lines if line.startswith("good,"))
    kept = [f"{line.split()[0]} {key}" if line.startswith("changed,") else line for line in lines]
    text = "".join(f"{line}\n" for line in kept if not line.startswith("unknown,"))
    lab.launcher.write_file(KNOWN, text, user="lab", mode=0o600)


def test_hosts_that_cannot_be_logged_in_to(apart: Project, lab: Lab) -> None:
    """Ten failed logins in one report: 255, no longer than the timeout, and the good host is left alone."""
    _spoil_known_hosts(lab)
    lab["refused"].stop_sshd()
    lab["silent"].drop_packets()
    lab["denied"].write_file("/home/lab/.ssh/authorized_keys", "", user="lab")
    bad = "refused unknown changed denied silent nopython forced nologin waits nowhere".split()
    apart.write_hostfile("".join(f"{name} slots=1\n" for name in ["good", *bad]))
    done = apart.run_fanout("run", "--connect-timeout", "4", "hosts.txt", "task.py")
    assert done.code == 255, done.all
    assert apart.read_result()["seconds"] < 4 + 5, done.all
    _assert_host_message(done, "refused", "refused:22 refused the connection", "ssh refused")
    _assert_host_message(
        done, "unknown", f"its host key is not in {KNOWN}: ssh-ed25519 SHA256:", "--accept-new-host-keys"
    )
    _assert_host_message(
        done, "changed", "its host key has CHANGED", f", {KNOWN} has another", "ssh-keygen -R 'changed'"
    )
    _assert_host_message(
        done, "denied", "permission denied for lab@denied:22", "no agent is running", "ssh-copy-id denied"
    )
    _assert_host_message(done, "silent", "no answer from silent:22 within 4 s", "firewall")
    _assert_host_message(done, "nopython", "no python3 there", "python=/path/to/python3")
    _assert_host_message(
        done, "forced", "it printed 'This account is for backups only'", "ended before the agent started"
    )
    _assert_host_message(
        done, "nologin", "it printed 'This account is currently not available.'", "ended before the agent started"
    )
    _assert_host_message(done, "waits", "the login shell did not start the agent within 4 s", "rc file on waits")
    _assert_host_message(done, "nowhere", "the name nowhere does not resolve", "check the spelling")
    assert "nothing: train.sh was not started on any host" in done.err
    lab["silent"].stop_dropping()
    lab["refused"].start_sshd()


def test_a_new_host_key_is_taken_where_that_was_asked_for_and_a_changed_one_never(apart: Project, lab: Lab) -> None:
    """``--accept-new-host-keys`` appends to known_hosts; the next run needs no flag."""
    _spoil_known_hosts(lab)
    apart.write_hostfile("unknown slots=1\nchanged slots=1\n")
    done = apart.run_fanout("exec", "--accept-new-host-keys", "hosts.txt", "--", "echo", "in")
    assert done.code == 255, done.all
    _assert_host_message(done, "changed", "has CHANGED")
    assert apart.run_fanout("exec", "-w", "unknown", "hosts.txt", "--", "echo", "in").out.endswith("in\n")


def test_an_unreachable_host_is_the_cause_also_where_gpus_were_to_be_counted(apart: Project, lab: Lab) -> None:
    """A hostfile without slots= and a host that is down: fanout names the host, and no number of processes."""
    lab["refused"].stop_sshd()
    apart.write_hostfile("good\nrefused\n")
    done = apart.run_fanout("run", "hosts.txt", "task.py")
    assert done.code == 255, done.all
    _assert_host_message(done, "refused", "refused:22 refused the connection")
    assert "slots=" not in done.err
    lab["refused"].start_sshd()


def _break_hosts(apart: Project, lab: Lab) -> None:
    """Take from each host something different that the run needs."""
    shutil.rmtree(apart.get_path(on=lab["refused"]))
    apart.get_path("train.sh", on=lab["unknown"]).unlink()
    apart.get_path("task.py", on=lab["changed"]).unlink()
    for place in ("/tmp", "/var/tmp", "/dev/shm"):
        lab["full"].run_program(["sh", "-c", f"cat /dev/zero > {place}/fill"], user="lab")
    apart.write_hostfile("".join(f"{name} slots=1\n" for name in ("good", "refused", "unknown", "changed", "full")))


def test_hosts_that_lack_what_the_run_needs(apart: Project, lab: Lab) -> None:
    """No directory, no train.sh, no task, no room: 125 before anything starts anywhere, check or no check."""
    _break_hosts(apart, lab)
    done = apart.run_training()
    assert done.code == 125, done.all
    _assert_host_message(done, "refused", f"no directory {apart.here} on this host", "--chdir or workdir=")
    _assert_host_message(done, "unknown", f"no file train.sh in {apart.here}", "share the directory")
    _assert_host_message(done, "changed", f"no file task.py in {apart.here}", "share the directory")
    _assert_host_message(
        done, "full", "/var/tmp/fanout-47001", "No space left on device", "df -h /var/tmp/fanout-47001"
    )
    assert "nothing: train.sh was not started on any host" in done.err


def test_the_check_names_what_is_missing_or_differs_and_where(apart: Project, lab: Lab) -> None:
    """The same hosts and one with another task: each is listed with the command that repairs it."""
    _break_hosts(apart, lab)
    lab["denied"].write_file(f"{apart.here}/task.py", "different\n", user="lab")
    apart.write_hostfile(
        "".join(f"{name} slots=1\n" for name in ("good", "silent", "refused", "unknown", "changed", "denied"))
    )
    done = apart.run_fanout("run", "hosts.txt", "task.py")
    text = _join_lines(done)
    assert done.code == 125, done.all
    assert f"refused workdir no directory {apart.here}" in text
    assert f"unknown script no file {apart.here}/train.sh" in text
    assert f"changed task no file {apart.here}/task.py" in text
    assert f"denied task {apart.here}/task.py differs: 10 bytes" in text
    assert f"ssh good tar -C {apart.here} -c task.py | ssh denied" in text
    assert "not launched: the check failed" in text


def test_one_machine_under_two_names(apart: Project, lab: Lab) -> None:
    """With the check: which two lines; without it: refused by the machine itself. Never two ranks on one GPU."""
    apart.write_hostfile(f"good slots=1\nsilent slots=1\n{lab['silent'].address} slots=1\n")
    done = apart.run_fanout("run", "hosts.txt", "task.py")
    assert done.code == 125, done.all
    assert f"is the same machine as silent: silent (hosts.txt:2), {lab['silent'].address} (hosts.txt:3)" in _join_lines(
        done
    )
    done = apart.run_training()
    assert done.code == 125, done.all
    assert "this machine already has node" in done.err
    assert "leave one of the two out of the hostfile" in done.err


# --- before any host is dialled ---

MISTAKES = [
    (("hosts.txt", "nosuch.py"), "no task nosuch.py in"),
    (("nosuch.txt", "task.py"), "nosuch.txt"),
    (("empty.txt", "task.py"), "empty.txt"),
    (("bad.txt", "task.py"), "bad.txt:2"),
    (("--no-such-flag", "hosts.txt", "task.py"), "--no-such-flag"),
    (("hosts.txt", "task.py", "bad.yaml"), "bad.yaml:2"),
    (("--skip-check", "here.txt", "task.py"), "here.txt:1"),
    (("--skip-check", "uncounted.txt", "task.py"), "uncounted.txt:2"),
    (("-w", "nobody", "hosts.txt", "task.py"), "nobody"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_a_mistake_is_reported_before_any_connection(
    apart: Project, lab: Lab, words: tuple[str, ...], message: str
) -> None:
    """Exit 2 with the place of the mistake, no traceback, no login, no record."""
    apart.write_file("empty.txt", "# nobody\n")
    apart.write_file("bad.txt", "good slots=1\nsilent slots=many\n")
    apart.write_file("here.txt", "localhost slots=1\ngood slots=1\n")
    apart.write_file("uncounted.txt", "good slots=1\nsilent\n")
    apart.write_file("bad.yaml", "a: 1\n\tb: 2\n")
    before = [host.sshd_log() for host in lab.hosts]
    done = apart.run_fanout("run", *words)
    assert (done.code, done.out) == (2, ""), done.all
    assert message in done.err
    assert "Traceback" not in done.err
    assert apart.list_records() == []
    assert [host.sshd_log() for host in lab.hosts] == before
