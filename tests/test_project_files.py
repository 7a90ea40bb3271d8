"""Files of the project for GitHub and for citations are valid, and agree with the code."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import yaml

from fanout import __version__
from tests.sources import ROOT

SCHEMAS = (
    ("vendor.github-workflows", ".github/workflows/test.yml"),
    ("vendor.github-workflows", ".github/workflows/release.yml"),
    ("vendor.dependabot", ".github/dependabot.yml"),
    ("vendor.github-issue-forms", ".github/ISSUE_TEMPLATE/bug.yml"),
    ("vendor.github-issue-forms", ".github/ISSUE_TEMPLATE/feature.yml"),
    ("vendor.github-issue-config", ".github/ISSUE_TEMPLATE/config.yml"),
    ("vendor.citation-file-format", "CITATION.cff"),
)


def read_yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.process
@pytest.mark.parametrize("schema", sorted({schema for schema, _ in SCHEMAS}))
def test_files_match_their_published_schema(schema: str) -> None:
    paths = [path for name, path in SCHEMAS if name == schema]
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_for_github_is_checked() -> None:
    files = {str(path.relative_to(ROOT)) for path in (ROOT / ".github").rglob("*.yml")}
    assert files == {path for _, path in SCHEMAS if path.startswith(".github/")}


def test_citation_has_the_version_of_the_package() -> None:
    assert str(read_yaml("CITATION.cff")["version"]) == __version__


def test_workflow_runs_every_tier_of_the_makefile() -> None:
    steps = [
        step.get("run", "") for job in read_yaml(".github/workflows/test.yml")["jobs"].values() for step in job["steps"]
    ]
    words = " ".join(steps).split()
    assert {"lint", "pure", "process", "browser", "lab"} <= set(words)


def test_release_publishes_without_a_password() -> None:
    publish = read_yaml(".github/workflows/release.yml")["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")


def test_hooks_before_a_commit_call_programs_of_the_development_environment() -> None:
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    programs = {hook["entry"].split()[0] for hook in repository["hooks"]}
    assert programs == {".venv/bin/ruff", ".venv/bin/mypy"}
