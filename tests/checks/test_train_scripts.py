"""Scripts as users write them: each is rehearsed as both of two hosts, and judged as a careful reader would."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from fanout.checks.engine.catalogue import CATALOGUE
from fanout.checks.engine.check_report import ReportStyle, render_check_report
from fanout.checks.engine.evaluation import judge_all_checks
from tests.checks.kit import ForkingAsker, build_healthy_case, change_fact
from tests.checks.test_playing import run_rehearsal
from tests.checks.train_scripts import SCRIPTS

pytestmark = pytest.mark.process

TWO = ("gpu01", "gpu02")
#: As uv, poetry, conda and pixi do: the environment of the project comes first on PATH.
RUNNER = '#!/bin/sh\nshift\nPATH="$PWD/envs:$PATH" exec "$@"\n'
PROGRAM = "#!/usr/bin/env python3\nimport os\nprint(os.environ.get('MASTER_ADDR'))\n"
CHECKS = [check for check in CATALOGUE if check.group == "rehearsal"]


def write_project(folder: Path) -> None:
    """Write a project whose environment has a torchrun of its own, which must never run."""
    (folder / "envs").mkdir()
    (folder / "sft.yaml").write_text("max_steps: 1\n")
    for name, text in (
        ("runner", RUNNER),
        ("envs/torchrun", PROGRAM),
        ("envs/megalaunch", PROGRAM),
        ("envs/docker", PROGRAM),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def judge_script(asker: ForkingAsker, tmp_path: Path, script: str) -> tuple[set[str], str]:
    """Return the levels of the findings, and the report."""
    case = build_healthy_case(len(TWO))
    for rank, name in enumerate(TWO):
        folder = tmp_path / name
        folder.mkdir()
        write_project(folder)
        given = {
            "NNODES": "2",
            "NODE_RANK": str(rank),
            "MASTER_ADDR": "10.0.0.1",
            "MASTER_PORT": "29500",
            "NPROC_PER_NODE": "2",
        }
        seconds = 1.0 if "sleep 20" in script else 30.0
        played: dict[str, Any] = run_rehearsal(asker, folder, script, env=given, seconds=seconds)
        shutil.rmtree(folder)
        case = change_fact(case, name, "rehearsal", {**played, "given": {**given, "task": ["task.py", "cfg.yaml"]}})
    found = judge_all_checks(CHECKS, case)
    return {finding.level for finding in found}, "\n".join(
        render_check_report("check", case, found, 1.0, ReportStyle(width=None))
    )


@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", SCRIPTS)
def test_script_is_judged_as_a_reader_would(name: str, tmp_path: Path) -> None:
    """Two separate groups never end with "All checks passed", and a correct script has no finding."""
    script, verdict, words = SCRIPTS[name]
    levels, report = judge_script(ForkingAsker(), tmp_path, script)
    bad = levels & {"fail", "warn"}
    text = " ".join(report.split())
    assert words in text, report
    assert ("All checks passed" in text) is (verdict == "good"), report
    assert bool(bad) is (verdict in ("fail", "warn")), report
    assert ("fail" in bad) is (verdict == "fail"), report
