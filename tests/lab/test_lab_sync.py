"""``fanout sync`` over real sshd: a shared directory, own directories, a full disk, a read-only target, a cut link."""

from __future__ import annotations

import os

from tests.lab import ns
from tests.lab.drive import HERE, Project, list_processes
from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.specs import USER
from tests.sync.projects import read_files

OWN = f"/home/{USER}/own"  # each machine has its own
FULL = f"/home/{USER}/full"


def write_hosts(project: Project, **workdirs: str) -> None:
    project.write_hostfile("".join(f"{name} slots=1 workdir={path}\n" for name, path in workdirs.items()))


def list_own_files(node: Node, path: str = OWN) -> dict[str, bytes | str]:
    return read_files(node.get_path(path))


def test_own_directories_get_the_code_and_the_shared_one_that_is_sent_gets_nothing(project: Project, lab4: Lab) -> None:
    project.write_file("lib.py", "a = 1\n")
    write_hosts(project, h1=HERE, h2=OWN, h3=OWN, h4="/home/fanout-sync")
    done = project.run_fanout("sync", "hosts.txt")
    assert done.code == 1, done.all
    sent = list_own_files(lab4.launcher, HERE)
    assert done.out.splitlines() == [f"h1: this is the directory that is sent: {HERE}", f"h[2-3]: {len(sent)} new"]
    assert "fanout: h4: cannot write in /home/fanout-sync: Permission denied" in done.err
    assert "h[1-3]: the code is equal" in done.err
    assert list_own_files(lab4["h2"]) == list_own_files(lab4["h3"]) == sent
    assert not (lab4.launcher.get_path(HERE) / ".fanout-sync").exists()


def test_a_full_disk_leaves_the_old_files_and_the_other_host_gets_the_code(project: Project, lab4: Lab) -> None:
    write_hosts(project, h1=f"{FULL}/p", h2=OWN)
    mount = f"mkdir -p {FULL} && mount -t tmpfs -o size=600k,mode=777 none {FULL}"
    lab4["h1"].run_program(["sh", "-c", mount], user="root")
    try:
        project.write_file("a.py", "old\n")
        assert project.run_fanout("sync", "hosts.txt").code == 0
        before = list_own_files(lab4["h1"], f"{FULL}/p")
        project.write_file("a.py", "new\n")
        (project.get_path("big.bin")).write_bytes(os.urandom(800_000))
        os.chown(project.get_path("big.bin"), project.get_path().stat().st_uid, -1)
        done = project.run_fanout("sync", "hosts.txt")
        after = list_own_files(lab4["h1"], f"{FULL}/p")
    finally:
        lab4["h1"].run_program(["umount", FULL], user="root")
    assert done.code == 1, done.all
    assert f"h1: cannot write in {FULL}/p: No space left on device" in done.err
    assert after == before
    assert list_own_files(lab4["h2"])["a.py"] == b"new\n"


def test_a_link_that_is_cut_leaves_whole_old_files_and_the_next_sync_completes(project: Project, lab4: Lab) -> None:
    """The host deletes what has arrived, as soon as its relay has received nothing for 30 s."""
    write_hosts(project, h1=OWN, h2=OWN)
    project.write_file("a.py", "old\n")
    assert project.run_fanout("sync", "hosts.txt").code == 0
    before = list_own_files(lab4["h2"])
    project.write_file("a.py", "new\n")
    project.get_path("big.bin").write_bytes(os.urandom(95_000_000))
    os.chown(project.get_path("big.bin"), project.get_path().stat().st_uid, -1)
    top = lab4["h2"].get_path(OWN)
    running = project.start_command("sync", "hosts.txt")
    ns.wait_until(lambda: bool(list(top.glob(".fanout-sync-*-*"))), 60.0, "a temporary file on h2")
    lab4["h2"].drop_packets()
    try:
        done = running.wait_for_end(100.0)
        assert done.code == 255, done.all
        assert "fanout: h2: connection lost" in done.err
        assert "h1: the code is equal" in done.err
        ns.wait_until(lambda: not list(top.glob(".fanout-sync-*")), 60.0, "the end of the temporary files on h2")
        assert list_own_files(lab4["h2"]) == before
    finally:
        lab4["h2"].stop_dropping()
    again = project.run_fanout("sync", "hosts.txt")
    assert again.code == 0, again.all
    assert list_own_files(lab4["h2"]) == list_own_files(lab4["h1"])
    # TCP waits longer after each try: the end of the launcher's side reaches the cut login late
    ns.wait_until(lambda: not list_processes(lab4["h2"], "sshd: lab@"), 90.0, "the end of the login that was cut")


def test_a_directory_with_a_live_run_is_refused(project: Project, lab4: Lab) -> None:
    write_hosts(project, h1=OWN, h2=OWN)
    project.write_train_script("echo begins; sleep 100\n")
    assert project.run_fanout("sync", "hosts.txt").code == 0
    run = project.begin_training()
    run.wait_for_output("begins")
    project.write_file("a.py", "new\n")
    done = project.run_fanout("sync", "hosts.txt")
    run.send_signal(2)
    run.wait_for_end()
    assert done.code == 1, done.all
    assert f"is alive in {OWN}: wait for its end, or stop it: fanout stop 2" in done.err
    assert "a.py" not in list_own_files(lab4["h1"])
