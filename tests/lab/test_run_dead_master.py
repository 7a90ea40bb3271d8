"""The master host loses its power: the run ends when all others have ended, and reports what is unknown about the master."""

from __future__ import annotations

from tests.lab import ns
from tests.lab.drive import Project, list_processes
from tests.lab.lab import Lab

TRAIN = """
echo "start $NODE_RANK"
[ $NODE_RANK = 0 ] && exec sleep 1005
while timeout 2 bash -c "</dev/tcp/$MASTER_ADDR/22" 2>/dev/null; do sleep 0.2; done
echo "connection to $MASTER_ADDR lost"
exit 1
"""


def test_a_dead_master_is_the_cause_and_its_lease_is_not_waited_for(project: Project, lab4: Lab) -> None:
    """The others fail because of it: exit code 255, the master named, and no wait of 300 seconds."""
    project.write_train_script(TRAIN)
    project.write_hostfile("h1 slots=1\nh2 slots=1\n")
    run = project.begin_training("--last-words", "1", "--grace", "3")
    run.wait_for_output("start 0", "start 1")
    lab4["h1"].power_off()
    run.wait_for_output("connection to .* lost", timeout=60.0)
    run.wait_for_output(r"waiting for h1: no connection for \d+ s; giving up in at most \d+ s", timeout=60.0)
    done = run.wait_for_end(timeout=90.0)
    assert done.code == 255, done.all
    assert (
        "h1 was lost (no connection for 30 s (silent for 15 s): unknown, it may still run until its lease expires at "
        in done.err
    )
    assert project.read_result()["first"] == "h1"
    lab4["h1"].power_on()  # the guardian looks for it, and removes what the run left there
    ns.wait_until(lambda: not list_processes(lab4.launcher, "fanout.run.guardian"), 90.0, "the guardian is done")
