"""Random faults at random moments on eight hosts, for as long as one likes; the same promises after every run.

    python -m tests.lab.soak [--seed 1] [--minutes 5] [--containers]

A run lives through one to four faults that a run has to live through; then it ends by itself, by a signal to the
launcher, or by the death of a keeper. The seed decides what happens and when; the machine's load decides what it meets.
With ``--containers``, each run is in containers that fanout creates with podman; half of the hosts are used then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass, field

from tests.lab.containers import IMAGE, Engine, list_arguments, specify_host
from tests.lab.drive import Project, Running
from tests.lab.lab import Lab
from tests.lab.machines import Host
from tests.lab.misfortunes import FAULTS, Fault
from tests.lab.oracle import leftover_directories, leftover_processes, wait_quiet
from tests.lab.scenes import GRACE, TRAIN_SH, compare_log, starts_of
from tests.lab.specs import HostSpec

HOSTS, HOSTS_WITH_CONTAINERS = 8, 4
LIVED_THROUGH = (
    "session cut",
    "relay killed",
    "connections reset",
    "blackhole 4 s",
    "cable out 3 s",
    "frozen 3 s",
    "sshd restarted",
)
#: Each engine takes seconds to start on a busy machine. The first process of a container may end it after a minute.
CONTAINER_FILE = f'connect-timeout = "60s"\ncontainer-arg = {json.dumps(list_arguments())}\n'
QUIET, QUIET_WITH_CONTAINERS = 30.0, 90.0
ENDS = (("stop", 0), ("SIGINT", 130), ("SIGTERM", 143), ("SIGKILL", -9), ("keeper killed", 255))


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Return the scene of a seed: (seconds to wait, fault, host numbers) and how it ends."""

    faults: tuple[tuple[float, str, tuple[int, ...]], ...]
    end: str
    code: int


@dataclass(slots=True)
class Tally:
    """What has been survived so far."""

    runs: int = 0
    faults: int = 0
    broken: list[str] = field(default_factory=list)


def script_of(seed: str, hosts: int = HOSTS) -> Script:
    chance = random.Random(seed)
    faults = tuple(
        (
            chance.uniform(0.0, 2.0),
            chance.choice(LIVED_THROUGH),
            tuple(sorted(chance.sample(range(hosts), chance.choice((1, 1, 2, hosts))))),
        )
        for _ in range(chance.randint(1, 4))
    )
    end, code = chance.choice(ENDS)
    return Script(faults=faults, end=end, code=code)


def _live_through(run: Running, fault: Fault, hosts: list[Host]) -> None:
    fault(hosts)
    if fault.undo is not None:
        if isinstance(fault.lasts, str):
            run.wait_for_output(*(fault.lasts.format(host=host.name) for host in hosts), timeout=60)
        else:
            threading.Event().wait(fault.lasts)
        fault.assert_met(hosts)
        for host in hosts:
            fault.undo(host)


def _play_run(project: Project, script: Script, engines: list[Engine]) -> list[str]:
    """Play one run; return the promises that it broke."""
    lab = project.lab
    run = project.begin_training("--grace", str(GRACE), *([] if engines else ["--connect-timeout", "20"]))
    run.wait_for_output(*(f"start {rank}$" for rank in range(len(lab.hosts))))
    for seconds, name, numbers in script.faults:
        threading.Event().wait(seconds)
        _live_through(run, FAULTS[name], [lab.hosts[number] for number in numbers])
    if script.end == "keeper killed":
        FAULTS[script.end]([lab.hosts[-1]])
    elif script.end != "stop":
        run.send_signal(signal.Signals[script.end])
    else:
        project.write_file("stop", "")
    done = run.wait_for_end(150)
    broken = [] if done.code == script.code else [f"exit {done.code}, not {script.code}: {done.err[-800:]}"]
    if not wait_quiet(lab, QUIET_WITH_CONTAINERS if engines else QUIET):
        broken += [f"{node.name}: left: {one}" for node, one in leftover_processes(lab)]
    broken += [f"{node.name}: left: {path}" for node, path in leftover_directories(lab)]
    broken += [f"{engine.host.name}: left: {name}" for engine in engines for name in engine.list_created()]
    for rank, host in enumerate(lab.hosts):
        log = compare_log(project, rank, host.name)
        starts = starts_of(project, rank)
        if starts != 1 or not (log == "whole" or (script.end == "keeper killed" and log == "prefix")):
            broken.append(f"{host.name}: {starts} starts, log {log}")
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.soak")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--containers", action="store_true")
    options = parser.parse_args()
    count = HOSTS_WITH_CONTAINERS if options.containers else HOSTS
    names = [f"h{number}" for number in range(1, count + 1)]
    hosts = [specify_host(name) if options.containers else HostSpec(name=name) for name in names]
    until, tally = time.monotonic() + options.minutes * 60, Tally()
    with Lab(hosts, shared="/home/lab/shared") as lab:
        engines = [Engine(host) for host in lab.hosts] if options.containers else []
        for engine in engines:
            engine.import_image()
        while time.monotonic() < until:
            script = script_of(f"{options.seed}-{tally.runs}", count)
            lab.reset_machines()
            with contextlib.closing(Project(lab)) as project:
                project.write_train_script(TRAIN_SH)
                if engines:
                    project.write_file("fanout.toml", CONTAINER_FILE)
                    project.write_hostfile(
                        "".join(f"{name} slots=1 user=root image={IMAGE} engine=podman\n" for name in lab.names)
                    )
                broken = _play_run(project, script, engines)
            tally.runs += 1
            tally.faults += len(script.faults)
            tally.broken += broken
            what = ", ".join(f"{name} on {len(numbers)}" for _, name, numbers in script.faults)
            print(f"{tally.runs:4} {what}; {script.end}: {'; '.join(broken) or 'kept'}", flush=True)
    print(f"seed {options.seed}: {tally.runs} runs, {tally.faults} faults, {len(tally.broken)} broken promises")
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
