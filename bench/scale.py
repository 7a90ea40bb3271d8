"""Benchmark of large fleets: what 8 to 512 host names behind four sshd cost the launcher, for each kind of command.

Wall times include the work of all hosts, which share the processors with the launcher. The launcher's CPU time, memory,
threads and open files are its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.common import Contender, Table, read_cpu_seconds, read_some
from bench.stage import build_fanout, build_many_hosts, build_start, start_machines
from tests.lab import ns
from tests.lab.lab import Lab

SIZES = (8, 64, 256, 512)
MACHINES = 4
LIMIT_SECONDS = 900.0
IDLE_SECONDS = float(os.environ.get("BENCH_IDLE_SECONDS", "600"))
FLOOD_MB = 256  # from all hosts together

#: All scenes of train.sh: print a line and end, stay until a signal, or print a share of the flood.
SCRIPT = f"""\
case $SCENE in
hold)
  trap 'echo $EPOCHREALTIME >> "$BENCH_STATE/stopped"; exit 0' INT TERM
  rm -f "$BENCH_STATE/stopped"; echo $$ > "$BENCH_STATE/pid"; echo "bench-line-$$"
  sleep 3600 & wait ;;
flood)
  seq -f "step %.0f of $NODE_RANK loss 2.31{"0" * 40}" $(({FLOOD_MB} * 1000000 / 70 / NNODES)) ;;
*)
  echo "bench-line-$$" ;;
esac
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the launcher used: seconds of wall time and CPU, peak memory in MB, most threads and open files."""

    wall: float
    cpu: float
    memory: float
    threads: int
    files: int
    status: int


class Watched:
    """A running fanout. Its output is read and dropped, and its memory, threads and files are sampled."""

    def __init__(self, lab: Lab, contender: Contender) -> None:
        self.began = time.monotonic()
        self.child = build_start(lab)(contender)
        self.lines = 0
        self.memory, self.threads, self.files = 0.0, 0, 0
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def wait_for_end(self) -> Usage:
        """Wait for the end. Raises TimeoutError after LIMIT_SECONDS."""
        self._reader.join(LIMIT_SECONDS)
        if self._reader.is_alive():
            self.child.kill()
            raise TimeoutError(f"fanout took over {LIMIT_SECONDS:g} s")
        _, status, usage = os.wait4(self.child.pid, 0)
        self.child.returncode = os.waitstatus_to_exitcode(status)
        return Usage(
            wall=time.monotonic() - self.began,
            cpu=usage.ru_utime + usage.ru_stime,
            memory=max(self.memory, usage.ru_maxrss / 1024),
            threads=self.threads,
            files=self.files,
            status=self.child.returncode,
        )

    def get_cpu(self) -> float:
        """Return the CPU seconds of the launcher until now."""
        return read_cpu_seconds(self.child.pid)

    def _read_output(self) -> None:
        assert self.child.stdout is not None
        while data := read_some(self.child.stdout.fileno()):
            self.lines += data.count(b"bench-line-")

    def _sample(self) -> None:
        process = Path(f"/proc/{self.child.pid}")
        while self._reader.is_alive():
            with contextlib.suppress(OSError):
                self.threads = max(self.threads, len(os.listdir(process / "task")))
                self.files = max(self.files, len(os.listdir(process / "fd")))
            self._reader.join(0.2)


def measure(repeat: int = 1, sizes: Sequence[int] = SIZES) -> Table:
    """Measure each kind of command at each size, ``repeat`` times, and return the row of the least CPU time."""
    rows: list[tuple[str, ...]] = []
    for size in sizes:
        with start_fleet(size) as lab:
            for name, scene in SCENES.items():
                found = min((scene(lab, size) for _ in range(repeat)), key=lambda one: one[0].cpu)
                rows.append(_build_row(name, size, *found))
                print("|", " | ".join(rows[-1]), "|", flush=True)
    return Table(
        title=f"Names behind {MACHINES} sshd on one machine, {os.cpu_count()} processors for all",
        columns=("command", "hosts", "wall, s", "CPU, s", "ms per host", "MB", "threads", "files", "result"),
        rows=tuple(rows),
    )


def _build_row(name: str, size: int, usage: Usage, result: str) -> tuple[str, ...]:
    figures = (f"{usage.wall:.1f}", f"{usage.cpu:.2f}", f"{1000 * usage.cpu / size:.1f}", f"{usage.memory:.0f}")
    return (name, str(size), *figures, str(usage.threads), str(usage.files), result)


@contextlib.contextmanager
def start_fleet(size: int) -> Iterator[Lab]:
    """Start four machines that answer to ``size`` names together."""
    share = size // MACHINES
    hosts = [build_many_hosts(share, first=1 + at * share) for at in range(MACHINES)]
    with start_machines(hosts, script=SCRIPT, subnet="10.77.0.0/22") as lab:
        yield lab


def _run_to_end(lab: Lab, *argv: str, screen: bool = False) -> tuple[Usage, str]:
    usage = Watched(lab, build_fanout(argv[0], *argv, screen=screen)).wait_for_end()
    return usage, f"exit {usage.status}"


def _exec_line(lab: Lab, _: int) -> tuple[Usage, str]:
    return _run_to_end(lab, "exec", "../hosts.txt", "--", "echo", "bench-line-1")


def _run_line(lab: Lab, _: int) -> tuple[Usage, str]:
    return _run_to_end(lab, "run", "--skip-check", "../hosts.txt", "task.py")


def _check_fleet(lab: Lab, _: int) -> tuple[Usage, str]:
    return _run_to_end(lab, "check", "../hosts.txt", "task.py")


def _print_flood(lab: Lab, _: int) -> tuple[Usage, str]:
    usage, status = _run_to_end(lab, "run", "--skip-check", "-E", "SCENE=flood", "../hosts.txt", "task.py", screen=True)
    return usage, f"{status}; {FLOOD_MB / usage.wall:.0f} MB/s"


@contextlib.contextmanager
def _hold_run(lab: Lab, size: int) -> Iterator[Watched]:
    """Start a run that stays, and wait until train.sh has started on all hosts."""
    argv = ("run", "--skip-check", "-E", "SCENE=hold", "../hosts.txt", "task.py")
    watched = Watched(lab, build_fanout("run", *argv, screen=True))
    try:
        ns.wait_until(lambda: len(_list_state(lab, "pid")) == size, 240.0, "train.sh to start on all hosts")
        yield watched
    finally:
        for file in _list_state(lab, "pid") + _list_state(lab, "stopped"):
            file.unlink()


def _list_state(lab: Lab, name: str) -> list[Path]:
    return [file for host in lab.hosts for file in host.get_path("/var/tmp").glob(f"bench-*/{name}")]


def _stay_idle(lab: Lab, size: int) -> tuple[Usage, str]:
    with _hold_run(lab, size) as watched:
        time.sleep(20.0)
        before, began = watched.get_cpu(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        share = 100 * (watched.get_cpu() - before) / (time.monotonic() - began)
        watched.child.send_signal(signal.SIGINT)
        usage = watched.wait_for_end()
    return usage, f"exit {usage.status}; idle {share:.1f} % of a core over {IDLE_SECONDS:.0f} s"


def _interrupt(lab: Lab, size: int) -> tuple[Usage, str]:
    def send_interrupt(watched: Watched) -> None:
        watched.child.send_signal(signal.SIGINT)

    return _end_run(lab, size, send_interrupt)


def _fail_once(lab: Lab, size: int) -> tuple[Usage, str]:
    def kill_one(_: Watched) -> None:
        file = next(iter(lab.hosts[0].get_path("/var/tmp").glob("bench-*/pid")))
        lab.hosts[0].run_program(["kill", "-9", file.read_text().strip()], check=True)

    return _end_run(lab, size, kill_one)


def _end_run(lab: Lab, size: int, end: Callable[[Watched], None]) -> tuple[Usage, str]:
    """End a run by ``end``. Measure when the last host's train.sh received its signal, and when the launcher exited."""
    with _hold_run(lab, size) as watched:
        at = time.time()
        end(watched)
        usage = watched.wait_for_end()
        ended = time.time() - at
        stopped = [float(file.read_text().split()[0]) - at for file in _list_state(lab, "stopped")]
    last = max(stopped, default=0.0)
    return usage, f"exit {usage.status}; {len(stopped)} stopped, the last after {last:.1f} s; end after {ended:.1f} s"


SCENES = {
    "exec": _exec_line,
    "run": _run_line,
    "check": _check_fleet,
    "flood": _print_flood,
    "Ctrl-C": _interrupt,
    "one failure": _fail_once,
    "idle": _stay_idle,
}
