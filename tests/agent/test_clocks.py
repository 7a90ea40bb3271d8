"""A wall clock may jump: its time is only recorded or compared with a record, never used for waiting."""

from __future__ import annotations

from tests.sources import all_of_fanout, find_uses

#: Module: why it reads the wall clock. Code that waits or ends something uses the monotonic clock.
WALL = {
    "agent/hello.py": "the check of the clocks",
    "agent/shared_claims.py": "since when a run holds a host, for people of other users",
    "agent/run_claims.py": "since when a run holds a claim, for people",
    "agent/prepare.py": "since when a run holds a host, for people",
    "agent/probes/registry.py": "the check of the clocks themselves",
    "agent/probes/postmortem.py": "when the host was asked, for people",
    "agent/probes/facts.py": "the check of the clocks",
    "agent/probes/files.py": "ages of files",
    "agent/probes/sync_state.py": "ages of files",
    "agent/probes/spawn_errors.py": "ages of files",
    "agent/probes/flight_files.py": "ages of files",
    "agent/probes/shared_dir.py": "ages of files",
    "agent/probes/stacks.py": "when the stacks were seen, for people",
    "agent/run_files.py": "ages of files",
    "remote/pool.py": "once: from then on the monotonic clock runs",
    "run/guardian.py": "since when it holds the record, for people",
    "remote/transports/host_keys.py": "whether a certificate of a host is valid",
    "commands/attach.py": "since when it holds the record, for people",
    "record/follow.py": "how old things are in a run whose clock runs in another process",
    "commands/logs.py": "--since",
    "run/launch.py": "since when it holds the record, for people",
    "run/run_preparation.py": "ages of records",
    "run/waiting_run.py": "times in the file of a waiting run",
    "run/page_attempt.py": "how long a run of another process has lasted",
    "run/page_writer.py": "when the page was written, for people",
    "agent/probes/xid_watch.py": "when the driver reported an error, for people",
    "commands/ps.py": "ages of runs",
    "commands/stop.py": "which recorded events follow its request",
    "record/run_summary.py": "when the next attempt of a run starts, for people",
}


READINGS = ("time.time", "datetime.now", "datetime.datetime.now", "datetime.utcnow")


def test_waits_do_not_depend_on_the_wall_clock() -> None:
    """Each module that reads it is listed with a reason; the keeper, the lease, the link and the policy are not."""
    found = {module.path.removeprefix("fanout/") for module in all_of_fanout() if list(find_uses(module, *READINGS))}
    assert found == set(WALL)
