"""Play a scene of restarts, and compare what happened with what must happen."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from fanout.record.recorded_attempts import read_attempt_records
from tests.lab import ns
from tests.lab.drive import Project, list_processes
from tests.lab.lab import Lab
from tests.lab.restart_scenes import FLAGS, Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a scene did."""

    code: int
    attempts: int
    last: tuple[str, ...]
    text: str
    problems: tuple[str, ...]


def play_scene(project: Project, lab: Lab, scene: Scene) -> Observed:
    """Run the scene; return what happened, with every violated promise."""
    project.write_file("task.py", Path(__file__).with_name("toy_task.py").read_text(encoding="utf-8"))
    project.write_train_script(scene.train)
    project.write_hostfile(scene.hosts)
    env = [word for pair in scene.env for word in ("--env", pair)]
    if scene.prepare is not None:
        scene.prepare(lab)
    flags = ("run", *(() if scene.checks else ("--skip-check",)), *FLAGS, *scene.flags, *env)
    run = project.start_command(*flags, "hosts.txt", "task.py", *scene.faults)
    if scene.act is not None:
        run = scene.act(project, lab, run) or run
    done = run.wait_for_end(timeout=scene.timeout)
    for name in lab.names:
        lab[name].power_on()  # the guardian still waits for a lost host
    ns.wait_until(lambda: not list_processes(lab["h1"], "import socket"), 60.0, "the stranger frees the port")
    ns.wait_until(lambda: not list_processes(lab.launcher, "fanout.run.guardian"), 90.0, "the guardian ends")
    ns.wait_until(  # the end of a connection over a cable that was out arrives late
        lambda: not any(list_processes(lab[name], "sshd: lab") for name in lab.names), 120.0, "old ssh sessions end"
    )
    text = f"{done.out}\n{done.err}"
    path = project.get_path("marks")
    marks = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    last = max([int(row[1]) for row in marks], default=0)
    hosts = {int(row[2]): row[3] for row in marks if int(row[1]) == last}
    return Observed(
        code=done.code,
        attempts=len(read_attempt_records(str(project.list_records()[-1]))) if done.code >= 0 else 1,
        last=tuple(hosts[rank] for rank in sorted(hosts)),
        text=text,
        problems=tuple(find_problems(marks)),
    )


def find_problems(marks: list[list[str]]) -> list[str]:
    """Return the violations: a rank that started twice, and attempts that overlapped. The machines share one clock."""
    starts: dict[tuple[int, int], int] = defaultdict(int)
    began: dict[int, float] = {}
    ended: dict[int, float] = {}
    for what, attempt, rank, _, at in marks:
        number, when = int(attempt), float(at)
        starts[number, int(rank)] += what == "start"
        began[number] = min(began.get(number, when), when)
        ended[number] = max(ended.get(number, when), when)
    problems = [f"attempt {a}: rank {r} started {n} times" for (a, r), n in starts.items() if n != 1]
    for number in sorted(began)[1:]:  # an attempt that the check refused has no marks
        before = max(ended[other] for other in began if other < number)
        if began[number] <= before:
            problems.append(f"attempt {number} began {before - began[number]:.2f} s before the end of the last")
    return problems


def compare_run(scene: Scene, seen: Observed) -> list[str]:
    """Return how the observed run differs from the expected one."""
    wrong = list(seen.problems)
    if seen.code != scene.code:
        wrong.append(f"exit {seen.code}, not {scene.code}")
    if seen.attempts != scene.attempts:
        wrong.append(f"{seen.attempts} attempts, not {scene.attempts}")
    if scene.code == 0 and seen.last != scene.last:
        wrong.append(f"the last attempt ran on {seen.last}, not {scene.last}")
    place = 0
    for pattern in scene.prints:
        found = re.compile(pattern).search(seen.text, place)
        if found is None:
            wrong.append(f"{pattern!r} is missing")
        else:
            place = found.start()
    return wrong
