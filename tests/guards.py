"""Every guard is taken out in turn, and a named test has to fail: a guard that no test misses is not tested.

    python -m tests.guards [PATTERN]

Works on a copy of the checkout in a temporary directory; prints a row for each guard. Needs root for those that only
the lab can miss.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PARTS = ("fanout", "tests", "tasks", "configs", "bench", "pyproject.toml", "train.sh", "README.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What protects, the text that does it, what is left without it, and the test that must notice."""

    name: str
    file: str
    text: str
    instead: str
    test: str


KEEPER, ENDS, PLACE = "tests/agent/test_keeper.py", "tests/agent/test_keeper_ends.py", "tests/agent/test_state_dir.py"
LINK, CUTS, WIRE = "tests/remote/test_connection.py", "tests/sweeps/test_cuts.py", "tests/remote/test_protocol.py"
SECURE, STUCK = "tests/agent/test_private.py", "tests/agent/test_stuck.py"

GUARDS = (
    Guard(
        name="subreaper: a forked-twice child stays below the keeper",
        file="agent/prepare.py",
        text="spawn.LIBC.prctl(spawn.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)",
        instead="pass",
        test=f"{ENDS}::test_processes_that_the_script_leaves_are_killed_and_counted[without our mark]",
    ),
    Guard(
        name="flock: one holder of a claim",
        file="agent/claim_files.py",
        text="        try:\n            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        instead="        try:\n            pass",
        test=f"{KEEPER}::test_another_run_is_refused_with_the_name_of_the_holder",
    ),
    Guard(
        name="offset check: no byte twice",
        file="remote/offsets.py",
        text="data = chunk.data[have - chunk.offset :]",
        instead="data = chunk.data",
        test=f"{LINK}::test_a_broken_link_goes_on_at_the_byte_where_it_was",
    ),
    Guard(
        name="offset check: no hole is skipped",
        file="remote/offsets.py",
        text="if chunk.offset > have:",
        instead="if False:",
        test=f"{LINK}::test_log_hole_is_reported",
    ),
    Guard(
        name="CRC-32 of the whole log",
        file="remote/offsets.py",
        text="crc in (None, self._crcs.get(stream, 0))",
        instead="True",
        test=f"{LINK}::test_log_with_a_wrong_checksum_is_not_complete",
    ),
    Guard(
        name="lease: without contact with a launcher the run ends",
        file="agent/keeper.py",
        text="elif self.main and expired and self.lease.seconds and not self.ending.kill_at:",
        instead="elif False:",
        test=f"{ENDS}::test_a_run_without_a_launcher_ends_with_its_lease",
    ),
    Guard(
        name="lease before Go: a host that is prepared and gets no Go rolls back",
        file="agent/keeper.py",
        text="if not self.main and not self.exited and expired:",
        instead="if False:",
        test=f"{ENDS}::test_a_prepared_host_that_never_receives_go_rolls_back",
    ),
    Guard(
        name="lease: an old heartbeat does not renew it",
        file="agent/keeper.py",
        text='self.lease.renew(min(lease.read_boottime(), float(message.get("at", lease.read_boottime()))))',
        instead="self.lease.renew(lease.read_boottime())",
        test="tests/agent/test_stopped_keeper.py::test_heartbeats_from_before_a_freeze_do_not_renew_the_lease",
    ),
    Guard(
        name="a process is alive until its last thread has exited",
        file="agent/processes.py",
        text="return len(list_threads(pid)) > 1",
        instead="return False",
        test=f"{STUCK}::test_a_process_whose_first_thread_has_exited_is_not_called_gone",
    ),
    Guard(
        name="the relay does not wait for the child of a question",
        file="agent/probe_runner.py",
        text="os.waitpid(child, os.WNOHANG)",
        instead="os.waitpid(child, 0)",
        test=f"{STUCK}::test_stuck_probe_child_blocks_no_other_question",
    ),
    Guard(
        name="no progress: a reconnect does not reset a deadline",
        file="model/policy.py",
        text="if _is_overdue(state, since, whole + patience):",
        instead="if False:",
        test="tests/model/test_progress.py::test_flapping_host_without_progress_is_abandoned_in_time",
    ),
    Guard(
        name="guardian: the launcher was killed",
        file="run/guardian.py",
        text='if order.endswith(BYE) or b"\\n" not in order:',
        instead="if True:",
        test="tests/lab/test_run_ends.py::test_a_killed_launcher_leaves_nothing_running",
    ),
    Guard(
        name="preallocated status: a full disk cannot prevent the record of the exit status",
        file="agent/run_files.py",
        text="os.posix_fallocate(self._file, 0, STATUS_BYTES)",
        instead="pass",
        test="tests/agent/test_run_files.py::test_the_status_has_its_blocks_before_the_run_starts",
    ),
    Guard(
        name="memory: bytes that the disk cannot take go directly to the connection",
        file="agent/log_spool.py",
        text="self._mark_stored(self.memory.store(self._pending, self.size, most))",
        instead="pass",
        test="tests/agent/test_overflow_buffer.py::test_bytes_that_the_disk_rejects_are_read_from_memory_at_their_offset",
    ),
    Guard(
        name="memory is bounded",
        file="agent/overflow_buffer.py",
        text="min(len(data), most - self.size)",
        instead="len(data)",
        test="tests/agent/test_overflow_buffer.py::test_memory_is_bounded_and_then_the_run_waits",
    ),
    Guard(
        name="a hole is reported, never read as zeros",
        file="agent/log_reader.py",
        text="if data and (not self.holes or find_data(place, cursor, size) == cursor):",
        instead="if data:",
        test="tests/agent/test_overflow_buffer.py::test_a_disk_with_free_space_again_stores_the_bytes_from_memory",
    ),
    Guard(
        name="a record that a launcher still fetches is no leftover",
        file="agent/prepare.py",
        text=" and not state_dir.is_record_read(directory)",
        instead="",
        test="tests/agent/test_runs.py::test_an_end_that_is_being_fetched_is_not_stale",
    ),
    Guard(
        name="nonce: only the agent can send READY",
        file="remote/protocol.py",
        text='f"@{nonce} READY "',
        instead='" READY "',
        test=f"{WIRE}::test_frames_need_the_nonce",
    ),
    Guard(
        name="grace of the whole tree: a checkpoint below a wrapper that died",
        file="agent/tree_stop.py",
        text="self.kill_at = lease.read_boottime() + LEFTOVER_SECONDS",
        instead="self.kill_at = lease.read_boottime()",
        test=f"{ENDS}::test_a_stop_leaves_time_to_save",
    ),
    Guard(
        name="PDEATHSIG: train.sh dies with its keeper",
        file="agent/spawn.py",
        text="LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)",
        instead="pass",
        test=f"{ENDS}::test_a_script_dies_with_its_killed_keeper_without_relay_and_launcher",
    ),
    Guard(
        name="mark: processes of a dead keeper are found by their environment",
        file="agent/relay.py",
        text="KillSweep(lambda: processes.find_marked(self.process_mark), UNKILLABLE_SECONDS)",
        instead="Sweep(lambda: [], UNKILLABLE_SECONDS)",
        test=f"{ENDS}::test_a_later_connection_gets_the_same_report",
    ),
    Guard(
        name="requests are sent again on a new connection",
        file="remote/outbox.py",
        text="deque([*map(QueuedFrame, again + self._orders), *waiting])",
        instead="deque([*map(QueuedFrame, again), *waiting])",
        test=f"{CUTS}::test_a_connection_cut_at_any_byte_costs_nothing[out]",
    ),
    Guard(
        name="two phases: no host starts before all are ready",
        file="model/policy.py",
        text="if all(host.phase is Phase.PREPARED for host in hosts):",
        instead="if any(host.phase is Phase.PREPARED for host in hosts):",
        test=f"{LINK}::test_a_refusal_starts_nothing_anywhere",
    ),
    Guard(
        name="a planted link is no state directory",
        file="agent/state_dir.py",
        text="if not stat.S_ISDIR(seen.st_mode):",
        instead="if False:",
        test=f"{PLACE}::test_a_planted_link_is_not_followed",
    ),
    Guard(
        name="a directory open to others is refused",
        file="agent/state_dir.py",
        text="if stat.S_IMODE(seen.st_mode) & 0o077:",
        instead="if False:",
        test=f"{PLACE}::test_a_directory_that_others_may_enter_is_refused_and_not_changed",
    ),
    Guard(
        name="a foreign owner is refused",
        file="agent/state_dir.py",
        text="if seen.st_uid != os.getuid():",
        instead="if False:",
        test=f"{PLACE}::test_a_directory_of_another_user_is_refused",
    ),
    Guard(
        name="the keeper's socket takes only our uid",
        file="agent/relay_clients.py",
        text="if uid not in (os.getuid(), 0):",
        instead="if False:",
        test=f"{SECURE}::test_another_user_cannot_send_to_the_keeper",
    ),
    Guard(
        name="a changed host key is refused",
        file="remote/transports/host_key_policy.py",
        text="if verdict is HostKeyStatus.KNOWN:",
        instead="if True:",
        test="tests/remote/test_ssh_errors.py::test_a_changed_key_is_never_taken",
    ),
    Guard(
        name="a host key that was accepted is the only one from then on",
        file="remote/transports/host_keys.py",
        text="first = self._accepted.setdefault(expected.name, line)",
        instead="first = line",
        test="tests/remote/test_known_hosts.py::test_a_key_is_remembered_where_it_cannot_be_written",
    ),
    Guard(
        name="control sequences are shown, not executed",
        file="text/sanitize.py",
        text='return "" if match["moves"] else escape_char(match["other"])',
        instead="return match[0]",
        test="tests/logs/test_line_splitter.py::test_no_control_sequence_survives",
    ),
    Guard(
        name="frames are bounded",
        file="agent/frames.py",
        text="if length > MAX_BODY:",
        instead="if False:",
        test=f"{WIRE}::test_protocol_violations_raise_one_error",
    ),
)


def _run_pytest(copy: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(argv, cwd=copy, env=env, capture_output=True, text=True, check=False)


def _run_without(copy: Path, guard: Guard) -> subprocess.CompletedProcess[str]:
    """Run the guard's test in a checkout that lacks the guard."""
    path = copy / "fanout" / guard.file
    text = path.read_text(encoding="utf-8")
    assert text.count(guard.text) == 1, f"{guard.file} has {text.count(guard.text)} times {guard.text!r}"
    path.write_text(text.replace(guard.text, guard.instead), encoding="utf-8")
    try:
        return _run_pytest(copy, guard.test)
    finally:
        path.write_text(text, encoding="utf-8")


def _copy_checkout(to: Path) -> Path:
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, to / part, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
        elif source.exists():
            shutil.copy(source, to / part)
    return to


def main(words: str = "") -> int:
    """Print the table; return 1 where a guard is not missed, or where a test fails with every guard in place."""
    chosen = [guard for guard in GUARDS if re.search(words, guard.name)]
    missing = 0
    with tempfile.TemporaryDirectory(prefix="guards-") as directory:
        Path(directory).chmod(0o755)  # the lab's user must be able to read it, or it finds another fanout
        copy = _copy_checkout(Path(directory))
        whole = _run_pytest(copy, *dict.fromkeys(guard.test for guard in chosen))
        if whole.returncode:
            print(whole.stdout[-3000:] + whole.stderr[-1000:])
            return 1
        for guard in chosen:
            began = time.monotonic()
            done = _run_without(copy, guard)
            seen = {0: "NOT MISSED", 1: "missed"}.get(done.returncode, f"pytest exited {done.returncode}")
            missing += done.returncode != 1
            print(
                f"{guard.name:66} | {guard.test.split('/')[-1]} | {seen} in {time.monotonic() - began:.0f} s",
                flush=True,
            )
    print(f"{len(chosen)} guards, {missing} that no test misses")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
