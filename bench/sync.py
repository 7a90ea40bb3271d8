"""Benchmark of copying code: 5,000 files of 50 MB to 16 hosts, first and with one file changed, beside rsync and clush."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

from bench.common import REPOSITORY, Contender, ContenderFailed, Results, Table, build_table, run_timed
from bench.stage import PROJECT, build_fanout, build_many_hosts, build_peer, build_start, start_machines
from tests.lab.lab import Lab
from tests.lab.specs import UID, USER

HOSTS = 16
FILES = 5000
FILE_BYTES = 10_000
FOLDERS = 100
SOURCE = f"/home/{USER}/code"
COPIES = f"/home/{USER}/copies"  # on the host: one directory for each name and each contender


def measure(repeat: int = 3) -> Table:
    """Measure the first copy: the hosts have nothing."""
    return _measure_copies(f"{FILES} files, 50 MB, to {HOSTS} hosts that have nothing", repeat, first=True)


def measure_change(repeat: int = 5) -> Table:
    """Measure a copy after one file has changed."""
    return _measure_copies(f"the same to {HOSTS} hosts, one file changed", repeat, first=False)


def _measure_copies(title: str, repeat: int, *, first: bool) -> Table:
    with start_machines([build_many_hosts(HOSTS)]) as lab:
        _write_source(lab.launcher.get_path(SOURCE))
        contenders = _build_contenders(lab)
        start = build_start(lab)
        results: Results = {contender.name: contender.absent or [] for contender in contenders}
        for turn in range(repeat + (not first)):
            for contender in contenders:
                samples = results[contender.name]
                if isinstance(samples, str):
                    continue
                _prepare_turn(lab, contender, turn, first=first)
                try:
                    sample = run_timed(contender, start, 0)
                    _verify_copies(lab, contender)
                except ContenderFailed as error:
                    results[contender.name] = str(error)
                    continue
                if first or turn:  # otherwise the first turn makes the copies
                    samples.append(sample)
    return build_table(title, results, base="fanout sync")


def _build_contenders(lab: Lab) -> list[Contender]:
    lines = "".join(f"{name} workdir={COPIES}/fanout/{name}\n" for name in lab.names)
    lab.launcher.write_file(f"{PROJECT}/sync-hosts.txt", lines, user=USER)
    loop = f"for h in {' '.join(lab.names)}; do rsync -a {SOURCE}/ $h:{COPIES}/rsync/$h/ || exit 1; done"
    clush = ("clush", "-f", str(HOSTS), "-w", ",".join(lab.names), "--copy", SOURCE, "--dest", f"{COPIES}/clush/")
    return [
        build_fanout("fanout sync", "sync", "sync-hosts.txt", SOURCE),
        replace(build_peer("rsync -a in a loop", "rsync"), argv=("bash", "-c", loop)),
        build_peer("clush --copy", *clush),
    ]


def _list_copies(lab: Lab, contender: Contender) -> list[Path]:
    """Return the directories of a contender. clush has one destination, so its 16 names write to one directory."""
    top = lab["h1"].get_path(COPIES)
    if contender.name == "clush --copy":
        return [top / "clush" / Path(SOURCE).name]
    return [top / contender.name.split()[0] / name for name in lab.names]


def _prepare_turn(lab: Lab, contender: Contender, turn: int, *, first: bool) -> None:
    """Delete the copies before a first copy; before another one, change one file."""
    top = lab["h1"].get_path(COPIES)
    parents = [top, *(path.parent for path in _list_copies(lab, contender)[:1])]
    if first:
        for path in _list_copies(lab, contender):
            shutil.rmtree(path, ignore_errors=True)
    for parent in parents:
        parent.mkdir(exist_ok=True)
        os.chown(parent, UID, UID)
    _get_changing_file(lab.launcher.get_path(SOURCE)).write_bytes(f"{contender.name} {turn}".encode())


def _verify_copies(lab: Lab, contender: Contender) -> None:
    """Raise ContenderFailed unless each copy has all files and the change of this turn."""
    source = lab.launcher.get_path(SOURCE)
    changed = _get_changing_file(source)
    for copy in _list_copies(lab, contender):
        count = sum(1 for path in copy.rglob("*.py"))
        if count != FILES or (copy / changed.relative_to(source)).read_bytes() != changed.read_bytes():
            raise ContenderFailed(f"{copy.name} has {count} of {FILES} files, or not the change")


def _get_changing_file(source: Path) -> Path:
    return source / "package0" / "module0.py"


def _write_source(top: Path) -> None:
    """Write files of Python text that compresses as code does, the same in every run."""
    dice = random.Random(5)
    lines = [
        line for path in sorted(REPOSITORY.glob("fanout/**/*.py")) for line in path.read_text("utf-8").splitlines()
    ]
    for number in range(FILES):
        folder = top / f"package{number % FOLDERS}"
        folder.mkdir(parents=True, exist_ok=True)
        begin, size, text = dice.randrange(len(lines)), 0, list[str]()
        while size < FILE_BYTES:
            text.append(lines[(begin + len(text)) % len(lines)])
            size += len(text[-1].encode()) + 1
        (folder / f"module{number}.py").write_text("\n".join(text)[:FILE_BYTES], encoding="utf-8")
    for path in [top, *top.rglob("*")]:
        os.chown(path, UID, UID)
