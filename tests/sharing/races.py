"""Races of waiting runs for the same hosts, with the real claims: never two on one host, and every run gets its turn.

Each waiting run is a process. Each host is a state directory of its own and claims of its own. In every second race the
runs belong to different users (this needs root), so the sockets decide; otherwise the locks decide.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from fanout.agent import claim_files, run_claims, shared_claims
from tests.processes import reap_child

RACES = 200
HOSTS, WAITERS = 3, 3
PATIENCE = 60.0  # seconds; a race takes a tenth of one on an idle machine
FIRST_UID = 64200
OVERLAP, STARVED = 2, 3


def run_race(seed: int, base: Path) -> list[int]:
    """Run one race; return the exit statuses of its runs: 0, OVERLAP or STARVED."""
    has_users = os.geteuid() == 0 and seed % 2 == 1
    children = []
    for number in range(WAITERS):
        uid = FIRST_UID + number if has_users else os.getuid()
        for host in range(HOSTS):
            place = base / f"host-{host}" / str(uid)
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o700)
            os.chown(place, uid, -1)
        child = os.fork()
        if child == 0:
            _run_waiter(seed, number, uid, base)
        children.append(child)
    return [reap_child(child, seconds=2 * PATIENCE) for child in children]


def _run_waiter(seed: int, number: int, uid: int, base: Path) -> None:
    status = 1
    try:
        if uid != os.getuid():
            os.setgroups([])
            os.setuid(uid)
        shared_claims.ANSWER_SECONDS = 0.005  # a keeper answers at once; these processes do not answer
        status = _take_turn(random.Random(seed * WAITERS + number), seed, number, uid, base)
    finally:
        os._exit(status)


def _take_turn(source: random.Random, seed: int, number: int, uid: int, base: Path) -> int:
    """Wait for all hosts, hold them for an instant, and release them."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        time.sleep(source.uniform(0.0, 0.02))
        held = _take_all(source, seed, number, uid, base)
        if held is None:
            continue  # a host refused this run, so none is held
        status = _occupy_hosts(base, source)
        for claims in held:
            claims.release()
        return status
    return STARVED


def _take_all(source: random.Random, seed: int, number: int, uid: int, base: Path) -> list[run_claims.RunClaims] | None:
    held = []
    for host in source.sample(range(HOSTS), HOSTS):
        root = str(base / f"host-{host}" / str(uid))
        claims = [f"gpu-race.{os.getppid()}.{seed}.{host}"]
        taken = run_claims.RunClaims(root, {"by": "me", "run": f"r{number}", "node": host, "claims": claims})
        held.append(taken)
        try:
            taken.take()
        except (claim_files.ClaimHeld, shared_claims.ClaimTaken):
            for each in held:
                each.release()
            return None
    return held


def _occupy_hosts(base: Path, source: random.Random) -> int:
    """Create a file on each host that must not exist yet, as a training process of another run would show."""
    status, made = 0, []
    for host in range(HOSTS):
        path = base / f"busy-{host}"
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
            made.append(path)
        except FileExistsError:
            status = OVERLAP
    time.sleep(source.uniform(0.0, 0.01))
    for path in made:
        with suppress(FileNotFoundError):
            path.unlink()
    return status


def run_races(seeds: range) -> dict[int, list[int]]:
    """Run the races; return the statuses of those in which a run failed, by seed."""
    failed = {}
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="fanout-race-") as name:
            base = Path(name)
            base.chmod(0o777)
            statuses = run_race(seed, base)
        if any(statuses):
            failed[seed] = statuses
    return failed


if __name__ == "__main__":
    began = time.monotonic()
    wrong = run_races(range(RACES))
    print(
        f"{RACES} races of {WAITERS} runs for {HOSTS} hosts in {time.monotonic() - began:.0f} s; failed: {wrong or 'none'}"
    )
    sys.exit(1 if wrong else 0)
