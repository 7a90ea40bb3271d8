"""What a run may write in a hurry, in one piece, or without being text: nothing of it is lost, and memory stays bounded.

    python -m tests.lab.floods [--seconds 60] [--where DIRECTORY]

Prints a row for each: what was written, how it arrived, and the highest resident set of launcher, relay and keeper.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab import ns
from tests.lab.drive import Project, Running, list_processes
from tests.lab.lab import Lab
from tests.lab.misfortunes import list_keepers, list_relays
from tests.lab.ns import Process
from tests.lab.specs import Bind, HostSpec

MB = 1 << 20
RECORDS = "/home/lab/records"
#: kind, bytes, bytes a second (0: as fast as it goes), seconds; what was written is noted beside it: size, digest, time.
WRITER = """
import hashlib, os, sys, time
kind, total, rate, most = sys.argv[1], *map(float, sys.argv[2:])
lines = b"".join(b"%098d\\n" % n for n in range(10592)).ljust(1 << 20, b".")
began, wrote, digest = time.monotonic(), 0, hashlib.blake2b()
while wrote < total and time.monotonic() < began + most:
    data = {"lines": lambda: lines, "line": lambda: b"x" * (1 << 20), "binary": lambda: os.urandom(1 << 20)}[kind]()
    digest.update(data)
    while data:
        data = data[os.write(1, data):]
    wrote += 1 << 20
    early = rate and began + wrote / rate - time.monotonic()
    if early > 0:
        time.sleep(early)
with open("noted", "w") as file:
    file.write("%d %s %.1f" % (wrote, digest.hexdigest(), time.monotonic() - began))
os.rename("noted", "wrote")
"""
TRAIN_SH = "python3 writer.py {kind} {size} {rate} {seconds} || exit 9\nuntil [ -e stop ]; do sleep 0.05; done\n"
CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """``rate`` in MB a second, 0: as fast as it goes; where it is held back, it ends after ``seconds``."""

    kind: str  # lines, line, binary
    mb: int
    rate: int = 0
    seconds: float = 600.0
    flags: tuple[str, ...] = ()
    patience: float = 60.0

    @property
    def name(self) -> str:
        what = {"lines": "lines of 99 bytes", "line": "one line", "binary": "random bytes"}[self.kind]
        return f"{self.mb} MB, {what}" + (f", {self.rate} MB/s" if self.rate else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Result of a flood: ``mb`` were written in ``seconds``; ``peaks`` are MiB of launcher, relay and keeper."""

    mb: int
    seconds: float
    peaks: tuple[float, float, float]
    shown: int
    broken: tuple[str, ...]


@contextmanager
def open_flood_lab(where: str) -> Iterator[Lab]:
    """Open a lab of one host, whose launcher keeps its (large) records in a directory of this machine."""
    with tempfile.TemporaryDirectory(dir=where) as directory:
        Path(directory).chmod(0o777)
        bind = Bind(source=directory, target=RECORDS, writable=True)
        with Lab([HostSpec(name="h1", tmp_mb=1024)], binds=(bind,)) as lab:
            yield lab


def play_flood(lab: Lab, flood: Flood) -> Seen:
    """Let it pour, and look at memory before it ends."""
    lab.reset_machines()
    with closing(Project(lab, shared=False)) as project, tempfile.TemporaryFile() as screen:
        project.write_file("writer.py", WRITER)
        project.write_train_script(
            TRAIN_SH.format(kind=flood.kind, size=flood.mb * MB, rate=flood.rate * MB, seconds=flood.seconds)
        )
        words = ("run", "--skip-check", "--show", "all", *flood.flags, "hosts.txt", "task.py")
        run = project.start_command(*words, env={"XDG_STATE_HOME": RECORDS}, stdout=screen.fileno())
        host = lab["h1"]
        wrote, runs = project.get_path("wrote", on=host), lab.launcher.get_path(RECORDS)
        ns.wait_until(lambda: wrote.exists() or run.child.poll() is not None, flood.patience, "all of it is written")
        assert wrote.exists(), run.wait_for_end().err
        size, digest, took = wrote.read_text().split()
        log = next(runs.glob("fanout/runs/*")) / "logs/h1.log"
        ns.wait_until(lambda: log.exists() and log.stat().st_size >= int(size), flood.patience, "all of it has arrived")
        peaks = (
            _find_peak_memory(_list_launcher_processes(lab)),
            _find_peak_memory(list_relays(host)),
            _find_peak_memory(list_keepers(host)),
        )
        host.write_file(f"{project.here}/stop", "", user="lab")
        broken = list(_judge_run(run, log, digest))
        screen.seek(0)
        shown = screen.read()
    if bad := CONTROL.search(shown):
        broken.append(f"the screen got {bad[0]!r}")
    subprocess.run(["rm", "-rf", str(runs / "fanout")], check=True)
    return Seen(mb=int(size) >> 20, seconds=float(took), peaks=peaks, shown=len(shown), broken=tuple(broken))


def _judge_run(run: Running, log: Path, digest: str) -> Iterator[str]:
    done = run.wait_for_end(120)
    if done.code:
        yield f"exit {done.code}: {done.err[-800:]}"
    if _compute_digest(log) != digest:
        yield "the log is not what was written"
    for words in ("are lost", "whole", "dropped"):
        if words in done.err:
            yield f"something is said to be missing: {done.err[-800:]}"


def _compute_digest(path: Path) -> str:
    digest = hashlib.blake2b()
    with path.open("rb") as file:
        while data := file.read(MB):
            digest.update(data)
    return digest.hexdigest()


def _list_launcher_processes(lab: Lab) -> list[Process]:
    return [
        one
        for one in list_processes(lab.launcher, "-m fanout run", "hosts.txt")
        if "fanout.run.guardian" not in one.argv
    ]


def _find_peak_memory(found: list[Process]) -> float:
    """MiB of resident set at its highest, of the largest of them."""
    peaks = []
    for one in found:
        text = Path(f"/proc/{one.pid}/status").read_text()
        peaks += [int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmHWM:")]
    return max(peaks)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.floods")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--where", default="/var/tmp", help="a directory with room for 6 GB")
    options = parser.parse_args()
    floods = (
        Flood(
            kind="lines",
            mb=100 * options.seconds,
            rate=100,
            seconds=options.seconds,
            flags=("--spool-limit", "512M"),
            patience=900.0,
        ),
        Flood(kind="line", mb=200, patience=300.0),
        Flood(kind="binary", mb=200, patience=300.0),
    )
    broken = 0
    with open_flood_lab(options.where) as lab:
        for flood in floods:
            seen = play_flood(lab, flood)
            broken += bool(seen.broken)
            peaks = " ".join(f"{peak:.0f}" for peak in seen.peaks)
            result = "; ".join(seen.broken) or "every byte arrived"
            print(
                f"{flood.name:40} | {seen.mb} MB in {seen.seconds:.0f} s | launcher, relay, keeper: {peaks} MiB | {result}",
                flush=True,
            )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
