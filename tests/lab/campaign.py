"""The campaign: every fault in every phase against one host, the master, all, and the launcher itself.

    python -m tests.lab.campaign [--labs 3] [--only WORDS] [--quick] [--transport openssh]

Prints a row for each scene: fault, phase, where, promise, seen; the exit status is 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product

from tests.lab.lab import Lab
from tests.lab.misfortunes import FREEZER, memory_groups
from tests.lab.scenes import LEASE, Promise, Scene, Seen, Stage

LINK = ("session cut", "relay killed", "connections reset", "sshd restarted")
PAUSE = ("blackhole 4 s", "cable out 3 s", "frozen 3 s")
GOES_ON = Promise(codes=(0,))
ENDS = Promise(codes=(130,))
SHORT = ("--lease", str(LEASE))
WORDS_OFF = "no connection for|did not start|unknown|reconnecting|did not answer"
GUARDIAN = 30.0  # where the launcher could not look at every host, its guardian goes on for a while
NOT_IN = Promise(codes=(255,), starts=(0,))


def expect_refusal(words: str) -> Promise:
    """Return the expectation of a run that the host refuses before anything starts anywhere."""
    return Promise(codes=(125,), starts=(0,), words=words)


def list_link_scenes() -> Iterator[Scene]:
    """Return scenes in which a link breaks or is silent for a while: that costs nothing, at any time."""
    for fault, phase, where in product(LINK, ("starting", "running"), ("one", "master", "all")):
        if phase == "starting" and fault in ("relay killed", "connections reset"):
            continue
        words = "reconnected" if phase == "running" else ""
        yield Scene(fault=fault, phase=phase, where=where, promise=Promise(codes=(0,), words=words))
    for fault, where in product(("session cut", "relay killed", "sshd restarted"), ("one", "all")):
        yield Scene(fault=fault, phase="stopping", where=where, promise=ENDS)
    for fault, phase, where in product(PAUSE, ("starting", "running", "stopping"), ("one", "all")):
        if phase == "running" or fault != "cable out 3 s":
            yield Scene(fault=fault, phase=phase, where=where, promise=ENDS if phase == "stopping" else GOES_ON)
    for fault, where in product(("blackhole until noticed", "frozen until noticed"), ("one", "all")):
        yield Scene(fault=fault, phase="running", where=where, promise=GOES_ON, slow=True)
    for where in ("one", "all"):
        yield Scene(fault="one packet in ten lost", phase="running", where=where, promise=GOES_ON, slow=True)


def not_in() -> Iterator[Scene]:
    """Return scenes with unreachable hosts: fanout names them and starts nothing anywhere."""
    for where in ("one", "master", "all"):
        for fault, words in (
            ("connection refused", "refused the connection"),
            ("blackholed", "no answer"),
            ("frozen", "silent before any login|no answer|did not finish"),
            ("power off", "no answer|No route"),
        ):
            promise = Promise(codes=(255,), starts=(0,), words=words)
            flags = ("--connect-timeout", "3")
            yield Scene(fault=fault, phase="connecting", where=where, promise=promise, flags=flags)


def list_death_scenes() -> Iterator[Scene]:
    """Return scenes with fatal faults: fanout reports the fault, ends the run, and leaves nothing on the other hosts."""
    known = "died without a record"
    for where in ("one", "master", "all"):
        yield Scene(fault="keeper killed", phase="starting", where=where, promise=NOT_IN)
        unread = Promise(codes=(255,), words=known, logs="prefix")  # what was still in the pipe dies with it
        yield Scene(fault="keeper killed", phase="running", where=where, promise=unread)
        yield Scene(fault="keeper killed", phase="stopping", where=where, promise=replace(ENDS, logs="prefix"))
        yield Scene(fault="script killed", phase="running", where=where, promise=Promise(codes=(137,), words="SIGKILL"))
        cleaned = Promise(codes=(255,), words="rebooted or cleaned", logs="prefix", quiet=GUARDIAN)
        yield Scene(fault="rebooted", phase="running", where=where, promise=cleaned)
    nothing = Promise(codes=(255,), words="rebooted or cleaned", starts=(0,), quiet=GUARDIAN)
    yield Scene(fault="rebooted", phase="starting", where="one", promise=nothing)
    gone = Promise(codes=(130,), logs="prefix", quiet=GUARDIAN)
    yield Scene(fault="rebooted", phase="stopping", where="one", promise=gone)
    for phase, where in (("running", "one"), ("running", "all"), ("stopping", "one"), ("starting", "one")):
        codes = {"running": (255,), "stopping": (130,), "starting": (125, 255)}[phase]
        starts = (0,) if phase == "starting" else (1,)
        promise = Promise(codes=codes, starts=starts, logs="prefix", quiet=GUARDIAN, words=WORDS_OFF)
        flags = (*SHORT, "--start-timeout", "8")
        yield Scene(fault="power off", phase=phase, where=where, promise=promise, flags=flags, slow=True)
    for where in ("one", "all"):
        promise = Promise(codes=(255,), words="no connection for", logs="prefix", quiet=10.0, keeps=True)
        yield Scene(
            fault="frozen beyond the lease", phase="running", where=where, promise=promise, flags=SHORT, slow=True
        )
        promise = Promise(codes=(137, 255), words="lease expired", starts=(1,), quiet=35.0)  # relays give up after 30 s
        yield Scene(fault="blackhole beyond the lease", phase="running", where=where, promise=promise, flags=SHORT)


def list_disk_scenes() -> Iterator[Scene]:
    """Return scenes with faults of file systems: they cost nothing while one of them, or memory, takes the record."""
    for fault in ("temporary noexec", "home noexec", "home read-only", "/var/tmp read-only", "/var/tmp full"):
        for where in ("one", "all"):
            yield Scene(fault=fault, phase="connecting", where=where, promise=GOES_ON)
    for fault, words in (
        ("all disks read-only", "Read-only file system"),
        ("all disks full", "No space left on device"),
    ):
        for where in ("one", "all"):
            yield Scene(fault=fault, phase="connecting", where=where, promise=expect_refusal(words))
    straight = Promise(codes=(0,), words="is sent straight to the launcher")
    for where in ("one", "master", "all"):
        yield Scene(fault="/var/tmp full until told", phase="running", where=where, promise=straight)
        yield Scene(fault="/var/tmp full", phase="running", where=where, promise=GOES_ON)
    yield Scene(fault="/var/tmp full", phase="starting", where="all", promise=straight)
    yield Scene(fault="/var/tmp full", phase="stopping", where="one", promise=ENDS)
    for fault, phase in product(("home noexec", "home read-only", "temporary noexec"), ("running", "stopping")):
        yield Scene(fault=fault, phase=phase, where="all", promise=GOES_ON if phase == "running" else ENDS)


def list_shortage_scenes() -> Iterator[Scene]:
    """Return scenes of a rank without memory, a killed session, and a keeper that cannot run."""
    for where in ("one", "master", "all"):
        if memory_groups() is not None:
            starved = Promise(codes=(137,), words="out of memory")
            yield Scene(fault="out of memory", phase="running", where=where, promise=starved)
        killed = Promise(codes=(255,), words="died without a record", logs="prefix")
        yield Scene(fault="whole session killed", phase="running", where=where, promise=killed)
    yield Scene(fault="whole session killed", phase="starting", where="one", promise=NOT_IN)
    cut = replace(ENDS, logs="prefix")  # what was still in the pipe dies with it
    yield Scene(fault="whole session killed", phase="stopping", where="one", promise=cut)
    if FREEZER.is_dir():
        for where in ("one", "all"):
            left = Promise(codes=(0,), words=r"left behind: (pid )?\d+ \(", quiet=5.0)
            yield Scene(fault="held in the kernel", phase="running", where=where, promise=left, slow=True)
            orphaned = Promise(codes=(255,), words="died without a record", logs="prefix", quiet=30.0)
            fault = "held in the kernel, its keeper killed"
            yield Scene(fault=fault, phase="running", where=where, promise=orphaned, slow=True)
    for phase, where in product(("starting", "running", "stopping"), ("one", "all")):
        promise = ENDS if phase == "stopping" else GOES_ON
        yield Scene(fault="keeper stopped 4 s", phase=phase, where=where, promise=promise)
    for where in ("one", "master"):
        held = Promise(codes=(130,), words="did not end after the stop request", logs="prefix", quiet=GUARDIAN)
        yield Scene(fault="keeper stopped", phase="stopping", where=where, promise=held, slow=True)


def list_launcher_scenes() -> Iterator[Scene]:
    """However the launcher goes, nothing of the run is left, soon where its guardian lives, within the lease always."""
    for name, code in (("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)):
        for phase in ("connecting", "starting", "running"):
            starts = (1,) if phase == "running" else (0,)
            codes = (code, 128 - code) if phase == "connecting" else (code,)  # by the signal itself, or by us
            yield Scene(fault=name, phase=phase, where="launcher", promise=Promise(codes=codes, starts=starts))
    for phase in ("connecting", "starting", "running", "stopping"):
        starts = (1,) if phase in ("running", "stopping") else (0,)
        killed = Promise(codes=(-9,), starts=starts, quiet=15.0)
        yield Scene(fault="SIGKILL", phase=phase, where="launcher", promise=killed)
        if phase != "connecting":
            lease = Promise(codes=(-9,), starts=starts, logs="prefix", quiet=LEASE + 20, keeps=True)
            fault = "SIGKILL with its guardian"
            yield Scene(fault=fault, phase=phase, where="launcher", promise=lease, flags=SHORT, slow=True)
    yield Scene(fault="frozen 3 s", phase="running", where="launcher", promise=GOES_ON)
    promise = Promise(codes=(137, 255), words="no launcher for", logs="whole")  # 137: killed after the grace
    fault = "frozen beyond the lease"
    yield Scene(fault=fault, phase="running", where="launcher", promise=promise, flags=SHORT, slow=True)


def list_scenes() -> list[Scene]:
    return [
        *list_link_scenes(),
        *not_in(),
        *list_death_scenes(),
        *list_disk_scenes(),
        *list_shortage_scenes(),
        *list_launcher_scenes(),
    ]


def find_unplayable_scenes() -> list[str]:
    """Return which scenes this machine cannot play, and why; the campaign does not pass without them."""
    reasons = []
    if memory_groups() is None:
        reasons.append("out of memory: no control group with a memory limit can be made here")
    if not FREEZER.is_dir():
        reasons.append(f"held in the kernel: there is no {FREEZER} (control groups of version 1)")
    return reasons


# --- playing them

_stage: list[Stage] = []


def _open_lab() -> None:
    """Open a lab for this process of the pool; the lab ends with the process."""
    lab = Lab(4, shared="/home/lab/shared")
    lab.__enter__()
    _stage.append(Stage(lab))


def _play_scene(scene: Scene) -> Seen:
    began = time.monotonic()
    try:
        return _stage[0].play_scene(scene)
    except Exception as error:  # noqa: BLE001 - one scene that cannot be played is a row, not the end
        text = "".join(traceback.format_exception_only(error))[-1500:]
        return Seen(seconds=time.monotonic() - began, broken=[text])


def set_transport(scene: Scene, transport: str) -> Scene:
    """Return the same scene, with the launcher's connections made by this transport."""
    return replace(scene, flags=(*scene.flags, "--transport", transport))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.campaign")
    parser.add_argument("--labs", type=int, default=3)
    parser.add_argument("--only", default="", help="scenes whose name has this")
    parser.add_argument("--quick", action="store_true", help="leave out the slow ones")
    parser.add_argument("--transport", default="ssh", choices=("ssh", "openssh"))
    options = parser.parse_args()
    chosen = [
        set_transport(one, options.transport)
        for one in list_scenes()
        if options.only in one.name and not (options.quick and one.slow)
    ]
    began, broken = time.monotonic(), 0
    with ProcessPoolExecutor(options.labs, initializer=_open_lab) as pool:
        for scene, seen in zip(chosen, pool.map(_play_scene, chosen), strict=True):
            broken += bool(seen.broken)
            print(
                f"{scene.fault:26} | {scene.phase:10} | {scene.where:8} | {scene.promise.text} | {seen.text}",
                flush=True,
            )
    print(f"{len(chosen)} scenes in {time.monotonic() - began:.0f} s, {broken} with a broken promise")
    for reason in (missing := find_unplayable_scenes()):
        print(f"left out: {reason}")
    return 1 if broken or missing else 0


if __name__ == "__main__":
    sys.exit(main())
