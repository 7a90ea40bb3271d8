"""A host is lost or reboots in the middle of a run: every end is bounded, and the report and `fanout ps` are true."""

from __future__ import annotations

import re
import signal

from tests.lab import ns
from tests.lab.drive import Project, list_processes
from tests.lab.lab import Lab

TRAIN = 'echo "start $NODE_RANK"\nexec sleep 1007\n'


def test_ctrl_c_while_a_host_is_lost_ends_within_its_limit_and_ps_names_the_guardian(
    project: Project, lab4: Lab
) -> None:
    """The reachable host is stopped at once. The guardian, which waits for the other one, is no launcher of a live run."""
    project.write_train_script(TRAIN)
    project.write_hostfile("h1 slots=1\nh2 slots=1\n")
    run = project.begin_training("--grace", "3")
    run.wait_for_output("start 0", "start 1")
    lab4["h2"].power_off()
    run.wait_for_output("^fanout: h2: link lost")
    run.send_signal(signal.SIGINT)
    run.wait_for_output(
        r"^fanout: waiting for h2: no connection for \d+ s; giving up in at most \d+ s",
        "^fanout: h1 ended: killed by SIGTERM",
    )
    done = run.wait_for_end(timeout=90.0)
    assert done.code == 255, done.all
    unknown = "no connection for 30 s (silent for 15 s): unknown, it may still run until its lease expires at "
    assert unknown in done.err, done.all
    assert "left behind  unknown: could not verify h2" in done.err
    listed = project.run_fanout("ps")
    assert "failed (255)" in listed.out, listed.all
    assert "running" not in listed.out, listed.all
    lab4["h2"].power_on()
    ns.wait_until(lambda: not list_processes(lab4.launcher, "fanout.run.guardian"), 90.0, "the guardian is done")


def test_a_reboot_is_the_cause_and_leaves_nothing_to_look_for(project: Project, lab4: Lab) -> None:
    """Another boot id is proof: no process of the run outlived it, and nothing is left to type."""
    project.write_train_script(TRAIN)
    project.write_hostfile("h1 slots=1\nh2 slots=1\n")
    run = project.begin_training("--grace", "3")
    run.wait_for_output("start 0", "start 1")
    lab4["h2"].reboot_machine()
    done = run.wait_for_end(timeout=90.0)
    assert done.code == 255, done.all
    assert re.search(r"━━━ FAILED after .*: h2 .*rebooted", done.err), done.all
    assert "left behind  nothing: h2 rebooted; verified on the others" in done.err, done.all
    assert "fanout stop" not in done.err
    ns.wait_until(lambda: not list_processes(lab4.launcher, "fanout.run.guardian"), 30.0, "the guardian is done")
