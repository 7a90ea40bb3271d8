"""Exported jobs: valid for their scheduler's schema, and their scripts start the task with the right exports."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fanout.cli.main import call_command
from fanout.cli.parser import parse_arguments
from fanout.model.errors import UsageError
from tests.process_contexts import build_process
from tests.sources import ROOT

SCHEMAS = {"kubernetes": "trainjob", "skypilot": "skypilot", "dstack": "dstack"}
SECRET = "hunter2hunter2"
PROBE = 'echo "$NNODES $NODE_RANK $MASTER_ADDR $MASTER_PORT $NPROC_PER_NODE $SEED" "$@"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project with a train.sh that prints its exports and arguments. It is the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.sh").write_text(PROBE)
    (tmp_path / "train.py").write_text("")
    (tmp_path / "hosts.txt").write_text("gpu01 slots=8 iface=ib0\ngpu02 slots=8 iface=ib1\n")
    return tmp_path


def export(project: Path, *words: str) -> str:
    """Return the output of ``fanout export``."""
    output = io.StringIO()
    process = build_process(project, output, environ={"HOME": str(project), "API_KEY": SECRET})
    assert call_command(parse_arguments(["export", *words]), process) == 0
    return output.getvalue()


def run_script(script: str, project: Path, words: list[str], **variables: str) -> list[str]:
    """Run a script of one host; return the words that its train.sh printed."""
    environ = {"PATH": "/usr/bin:/bin", **variables}
    command = ["bash", "-c", script, "fanout", *words]
    return subprocess.run(
        command, cwd=project, env=environ, capture_output=True, text=True, timeout=20, check=True
    ).stdout.split()


def validate(kind: str, document: Any) -> None:
    schema = json.loads((ROOT / f"tests/export/schemas/{SCHEMAS[kind]}.json").read_text())
    jsonschema.validate(document, schema)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_exported_document_has_the_fields_of_the_scheduler(kind: str, project: Path) -> None:
    flags = ("--env", "API_KEY", "--env", "SEED=3", "--time-limit", "2h", "--name", "My Run")
    document = yaml.safe_load(export(project, *flags, kind, "hosts.txt", "train.py"))
    validate(kind, document)
    with pytest.raises(jsonschema.ValidationError):
        validate(kind, {**document, "nods": 2})


@pytest.mark.parametrize("kind", ["kubernetes", "dstack"])
def test_name_of_a_job_begins_with_a_letter(kind: str, project: Path) -> None:
    document = yaml.safe_load(export(project, "--name", "3D_Unet-", kind, "hosts.txt", "train.py"))
    assert (document.get("metadata") or document)["name"] == "d-unet"
    validate(kind, document)


@pytest.mark.parametrize("kind", ["slurm", *SCHEMAS])
def test_exported_job_names_credentials_without_their_values(kind: str, project: Path) -> None:
    text = export(project, "--env", "API_KEY", "--env", f"OTHER_TOKEN={SECRET}", kind, "hosts.txt", "train.py")
    assert SECRET not in text
    assert "API_KEY" in text
    assert "OTHER_TOKEN" in text


@pytest.mark.parametrize("kind", ["slurm", *SCHEMAS])
def test_exported_job_names_what_belongs_to_one_host(kind: str, project: Path) -> None:
    text = export(project, kind, "hosts.txt", "train.py")
    assert "Left out, because it belongs to one host: gpu01: GLOO_SOCKET_IFNAME, gpu01: NCCL_SOCKET_IFNAME" in text


@pytest.mark.process
def test_script_of_kubernetes_starts_the_task(project: Path) -> None:
    document = yaml.safe_load(
        export(project, "--env", "SEED=3", "kubernetes", "hosts.txt", "train.py", "it's", "--lr=1")
    )
    script, _, *words = document["spec"]["trainer"]["args"]
    pet = {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "job-node-0-0", "PET_NPROC_PER_NODE": "8"}
    printed = run_script(script, project, words, **pet)
    assert printed == ["2", "1", "job-node-0-0", "29500", "8", "3", "train.py", "it's", "--lr=1"]


@pytest.mark.process
def test_script_of_skypilot_takes_the_first_address(project: Path) -> None:
    document = yaml.safe_load(export(project, "--env", "SEED=3", "skypilot", "hosts.txt", "train.py", "it's"))
    sky = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2\n"}
    assert run_script(document["run"], project, [], **sky) == [
        "2",
        "1",
        "10.0.0.1",
        "29500",
        "8",
        "3",
        "train.py",
        "it's",
    ]


@pytest.mark.process
def test_script_of_dstack_starts_the_task(project: Path) -> None:
    document = yaml.safe_load(export(project, "--env", "SEED=3", "dstack", "hosts.txt", "train.py", "a b"))
    dstack = {"DSTACK_NODES_NUM": "2", "DSTACK_NODE_RANK": "1", "DSTACK_MASTER_NODE_IP": "10.0.0.1"}
    (script,) = document["commands"]
    assert run_script(script, project, [], **dstack) == ["2", "1", "10.0.0.1", "29500", "8", "3", "train.py", "a", "b"]


def test_job_without_a_script_starts_torchrun_with_variables(project: Path) -> None:
    (project / "train.sh").unlink()
    text = export(project, "slurm", "hosts.txt", "train.py")
    assert (
        'torchrun --nnodes="$NNODES" --nproc-per-node="$NPROC_PER_NODE" --node-rank="$NODE_RANK" '
        '--master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT" "$@"' in text
    )


def test_unknown_count_of_gpus_is_a_line_to_fill_in(project: Path) -> None:
    (project / "hosts.txt").write_text("gpu01\ngpu02\n")
    text = export(project, "slurm", "hosts.txt", "train.py")
    assert "\n##SBATCH --gpus-per-node=GPUS\n" in text
    assert 'export NPROC_PER_NODE="${SLURM_GPUS_ON_NODE:-1}"' in text


def test_hosts_with_different_slots_are_refused(project: Path) -> None:
    (project / "hosts.txt").write_text("gpu01 slots=8\ngpu02 slots=4\n")
    with pytest.raises(UsageError, match="hosts differ in slots: gpu01 has 8, gpu02 has 4") as refused:
        export(project, "slurm", "hosts.txt", "train.py")
    assert "--exclude gpu02" in refused.value.hint


def test_misspelt_format_gets_a_command_that_works(project: Path) -> None:
    with pytest.raises(UsageError, match="no format 'slrum'") as refused:
        export(project, "slrum", "hosts.txt", "train.py")
    assert refused.value.hint == "fanout export slurm hosts.txt train.py"


@pytest.mark.process
def test_line_break_in_an_argument_adds_no_line_of_its_own(project: Path) -> None:
    text = export(project, "--name", "a\n#SBATCH --uid=0", "slurm", "hosts.txt", "train.py", "x\n#SBATCH --uid=0")
    before = text.partition("\nsrun ")[0]
    assert "\n#SBATCH --uid" not in before
    assert subprocess.run(["bash", "-n"], input=text, text=True, timeout=20, check=False).returncode == 0
