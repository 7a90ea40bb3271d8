"""A wall clock may jump: its time is only recorded or compared with a record, never used for waiting."""

from __future__ import annotations

from tests.test_architecture import calls, ours

#: Who reads it, and what for. Whoever waits, or ends something, asks the monotonic clock.
WALL = {
    "agent/hello.py": "the check of the clocks",
    "agent/neighbours.py": "since when a run holds a host, for people of other users",
    "agent/prepare.py": "since when a run holds a host, for people",
    "agent/probes.py": "the check of the clocks themselves",
    "agent/probes_aftermath.py": "when the host was asked, for people",
    "agent/probes_facts.py": "the check of the clocks",
    "agent/probes_files.py": "ages of files",
    "agent/probes_flights.py": "ages of files",
    "agent/probes_share.py": "ages of files",
    "agent/probes_stacks.py": "when the stacks were seen, for people",
    "agent/record.py": "ages of files",
    "fan.py": "once: from then on the monotonic clock runs",
    "guardian.py": "since when it holds the record, for people",
    "transports/hostkeys.py": "whether a certificate of a host is valid",
    "verbs/attach.py": "since when it holds the record, for people",
    "verbs/follow.py": "how old things are in a run whose clock runs in another process",
    "verbs/logs.py": "--since",
    "verbs/launching.py": "since when it holds the record, for people",
    "verbs/run.py": "ages of records",
}


READINGS = ("time.time", "datetime.now", "datetime.datetime.now", "datetime.utcnow")


def test_nothing_waits_by_the_wall_clock() -> None:
    """Each module that reads it is listed with a reason; the keeper, the lease, the link and the policy are not."""
    found = {module.path.removeprefix("fanout/") for module in ours() if list(calls(module, *READINGS))}
    assert found == set(WALL)
