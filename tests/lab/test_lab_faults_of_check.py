"""The law of `fanout check`: each fault on a real host makes exactly its check speak, with the text that is recorded."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest

from tests.lab.drive import same_as_golden
from tests.lab.faults import FABRIC, PORT, SCENES
from tests.lab.lab import REPOSITORY, Lab
from tests.lab.spoil import Scene

_QUICK = ("files", "software")


def run_check(lab: Lab, scene: Scene) -> list[dict[str, Any]]:
    """Return what fails, warns or is noted, as the real command on the launcher reports it."""
    hostfile = lab.write_hostfile("".join(f"{name} slots={scene.slots}\n" for name in lab.names))
    argv = [sys.executable, "-m", "fanout", "check", "--json", *scene.flags, hostfile, "task.py", "cfg.yaml"]
    done = lab.launcher.run_program(argv, user="lab", cwd=scene.project, env={"PYTHONPATH": str(REPOSITORY)})
    assert done.stdout, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return [row for row in rows if row["level"] in ("fail", "warn", "info")]


def format_findings(rows: list[dict[str, Any]]) -> str:
    """Return the findings as text, without what differs from run to run."""
    lines = []
    for row in rows:
        lines += [
            f"{row['level']} {row['check']} {','.join(row['hosts'])}",
            f"    {row['saw']}",
            f"    {row['advice']}",
        ]
    text = re.sub(r"\bpids? \d+", "pid N", "\n".join(lines) + "\n")
    text = re.sub(r"\bkill \d+", "kill N", text)
    text = re.sub(r"\d+ d \d+ h ago|\d+ h \d+ m ago|\d+ [ms] ago|since \d+ [smh]\b( \d+ m)?", "some time", text)
    text = re.sub(r"(pid N \S+ in \w+)(?:, pid N \S+ in \w+)+", r"\1", text)
    text = re.sub(r"(?<=pid N  )/.*?(?=  \(user|, some time)", "COMMAND", text)
    text = re.sub(r"from \S+: \d+ % of the bulk", "from N: N % of the bulk", text)  # which packets is up to chance
    return re.sub(r"\d[\d.]* s\b|\d[\d.]*[KMGT]\b", "N", text)


@pytest.mark.parametrize(
    "name", [name if name in _QUICK else pytest.param(name, marks=pytest.mark.campaign) for name in SCENES]
)
def test_each_fault_of_a_scene_fails_exactly_its_check(name: str) -> None:
    """All faults of a scene at once, each on its host: the findings are the expected ones, and no others."""
    scene = SCENES[name]
    with scene.open_lab() as lab:
        for node in lab.nodes:
            scene.furnish_node(node)
        for fault in scene.faults:
            fault.inject(lab[fault.host])
        rows = run_check(lab, scene)
    promised = {(host, *what) for host in lab.names for what in scene.everywhere}
    for fault in scene.faults:
        promised |= {(fault.host, fault.check, fault.level), *((fault.host, *beside) for beside in fault.also)}
    assert {(host, row["check"], row["level"]) for row in rows for host in row["hosts"]} == promised, format_findings(
        rows
    )
    assert all(row["advice"] for row in rows if row["level"] != "info")
    same_as_golden(f"check-{name}", format_findings(rows))


def test_errors_that_infiniband_counts_during_a_failed_run_are_in_its_report() -> None:
    """One port's counter grows while the run lasts: that host is named with it, the other is not."""
    train = f"[ $NODE_RANK = 1 ] && echo 45 > {PORT}/counters/symbol_error && exit 3\nsleep 30\n"
    with Lab(2) as lab:
        for node in lab.nodes:
            for path, text in {"task.py": "import json\n", "train.sh": train}.items():
                node.write_file(f"{FABRIC.project}/{path}", text, user="lab")
        for name in lab.names:
            lab[name].run_program(["sh", "-ec", f"{FABRIC.ready}\nchmod 666 {PORT}/counters/*"], check=True)
        argv = [
            sys.executable,
            "-m",
            "fanout",
            "run",
            "--skip-check",
            "--full",
            lab.write_hostfile("h1 slots=1\nh2 slots=1\n"),
            "task.py",
        ]
        done = lab.launcher.run_program(argv, user="lab", cwd=FABRIC.project, env={"PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 3, done.stderr
    assert "h2: InfiniBand mlx5_0/1 counted 45 more of symbol_error during the run" in re.sub(r"\s+", " ", done.stderr)
    assert "h1: InfiniBand" not in done.stderr
