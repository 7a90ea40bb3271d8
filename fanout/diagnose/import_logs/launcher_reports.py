"""Lines of launchers about hosts: mpirun, mpiexec, srun, Ray, colossalai and docker compose name the host that they report on.

No I/O. A report may be wrapped over several lines, or continue in the lines below. A launcher also stops the other
processes after one has failed; what it reports about those is no evidence.
"""

from __future__ import annotations

import re

from fanout.text.parse_ranges import parse_ranges

_HOST = re.compile(
    r"noticed that process rank \d{1,9} with PID \d{1,9} {1,3}on node (?P<node>\S{1,253}) {1,3}exited"
    r"|PID \d{1,9} RUNNING AT (?P<at>\S{1,253})"
    r"|A worker died or was killed .{0,600}Worker IP address: (?P<ip>\S{1,64})"
    r"|^Memory on the node \(IP: (?P<memory>[^,\s]{1,64}), ID: .{0,600}Ray killed this worker"
    r"|killed due to memory pressure \(OOM\).{0,300}IP: (?P<raylet>[^)\s]{1,64})\)"
    r"|node id: \S{1,80} and address: (?P<dead>\S{1,64}) .{0,300}has been marked dead"
    r"|Remote daemon: \[\S{1,200}\] on node (?P<daemon>\S{1,253})"
    r"|^(?P<service>[A-Za-z0-9][\w.-]{0,252}) exited with code \d{1,3}\b"
    r"|\*\*\* (?:JOB|STEP) \S{1,64} ON (?P<on>\S{1,253}) CANCELLED"
    r"|^srun: error: (?:Node failure on )?(?P<task>[\w.-]{1,253})(?:: tasks? |$)"
    r"|^slurmstepd-(?P<stepd>[\w.-]{1,253}): error: "
    r"|^Error: failed to run .{1,1200} on (?P<colossalai>\S{1,253}), is localhost: "
    r"|^(?:pdsh|clush)@\S{1,253}: (?P<ssh>[\w.-]{1,253}): (?:ssh )?exited with exit code"
)
_WORDS = (
    "noticed that", "RUNNING AT ", "A worker died", "Remote daemon: [", "exited with", " CANCELLED", "srun: error: ",
    "slurmstepd-", "Ray killed this worker", "memory pressure (OOM)", " marked dead ",
    ", is localhost: ",
)  # fmt: skip
_HYDRA = re.compile(r"=?\s{1,8}(?:KILLED BY SIGNAL|EXIT CODE|EXIT STRING|CLEANING UP)|YOUR APPLICATION TERMINATED")
_TASKS = re.compile(r"srun: error: (?P<host>[\w.-]{1,253}): tasks? (?P<tasks>[\d,-]{1,200}): (?P<end>\w{1,30})")
_STOPS = re.compile(
    r"srun: (?:launch/slurm: \S{1,40} )?(?:Job step aborted|Terminating (?:StepId|job step)|forcing job termination)"
    r"|.{0,80}error: \*\*\* (?:JOB|STEP) \S{1,64} ON \S{1,253} CANCELLED"
)
_MOST_TASKS = 4096


class LauncherReports:
    """Reader of the reports in one file: use one instance for each pass over its lines."""

    def __init__(self, *, is_labelled: bool = False) -> None:
        self._is_labelled = is_labelled  # docker compose names services only in a file that has them as labels
        self._wrapped = ""  # beginning of a report whose rest is in the next line
        self._host = ""  # of the report of mpiexec, which has several lines
        self._stopped = False  # srun has begun to stop the tasks of the step

    def join_wrapped(self, text: str) -> str:
        """Return the whole report of mpirun instead of its last line, "" for its first lines; other lines unchanged."""
        if self._wrapped:
            text, self._wrapped = f"{self._wrapped} {text.strip()}", ""
        place = text.find("noticed that process rank")
        if place >= 0 and " signal " not in text[place:] and text.count(" ") < 40:
            self._wrapped = text.rstrip()
            return ""
        return text

    def find_host(self, text: str) -> str:
        """Return the host that the line reports on; "" for any other line."""
        if self._host and _HYDRA.match(text):
            return self._host
        if not any(word in text for word in _WORDS):
            return ""
        found = _HOST.search(text)
        if found is not None and found["service"] and not self._is_labelled:
            return ""
        host = next((value for value in found.groups() if value), "") if found else ""
        self._host = host if found is not None and found["at"] else ""
        return host

    def is_consequence(self, text: str) -> bool:
        """Return whether srun reports the end of a task that it has stopped itself."""
        if self._stopped and _TASKS.match(text):
            return True
        self._stopped = self._stopped or bool(_STOPS.match(text))
        return False


def list_srun_tasks(text: str) -> dict[str, str]:
    """Return label of a task -> host, as srun names them in its line about tasks that ended."""
    found = _TASKS.match(text)
    ranges = parse_ranges(found["tasks"]) if found else None
    return {f"task{task}": found["host"] for tasks in ranges or () for task in tasks[:_MOST_TASKS]} if found else {}


def is_unnamed_step(text: str) -> bool:
    """Return whether Slurm's step daemon wrote the line, without the name of its host."""
    return text.startswith("slurmstepd: error: ")
