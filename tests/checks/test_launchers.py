"""Launchers in train.sh: for each form a correct call passes, and a call that starts separate groups is a failure."""

from __future__ import annotations

from typing import Any

import pytest

from fanout.checks.engine.catalogue import CATALOGUE
from fanout.checks.engine.evaluation import judge_all_checks
from fanout.checks.rehearsal.launcher_command import explain_single_host, parse_launcher_call
from fanout.checks.rehearsal.launchers import LAUNCHERS, describe_launchers
from tests.checks.kit import build_healthy_case, change_fact

TASK = "task.py cfg.yaml"
ACCELERATE = "--multi_gpu --num_machines 4 --num_processes 32 --main_process_ip 10.0.0.1 --main_process_port 29500"
EXPORTS = {
    "NNODES": "4",
    "NODE_RANK": "{rank}",
    "NPROC_PER_NODE": "8",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
}
CONFIG = {
    "num_machines": "4",
    "machine_rank": "{rank}",
    "num_processes": "32",
    "main_process_ip": "10.0.0.1",
    "main_process_port": "29500",
    "distributed_type": "MULTI_GPU",
}


def judge_calls(program: str, line: str, **more: Any) -> list[tuple[str, str, str]]:
    """Return (level, hosts, text) of passes-on if all four hosts make this call; ``{rank}`` is the host's own rank."""
    case = build_healthy_case()
    for rank, name in enumerate(case.hosts):
        call: dict[str, Any] = {
            "program": program,
            "argv": line.format(rank=rank).split(),
            "cwd": "/home/ann/proj",
            "python": "/home/ann/venv/bin/python3",
            "real": f"/home/ann/venv/bin/{program}",
            "env": {key: value.format(rank=rank) for key, value in more.get("env", {}).items()},
        }
        if "file" in more:
            file = {"path": "hosts", "lines": 0, "values": {}, **more["file"]}
            values = {key: value.format(rank=rank) for key, value in file["values"].items()}
            call["file"] = {**file, "values": values}
        case = change_fact(case, name, "rehearsal/calls", [call])
    checks = [check for check in CATALOGUE if check.name == "passes-on"]
    return [(found.level, ",".join(found.hosts), found.saw) for found in judge_all_checks(checks, case)]


@pytest.mark.parametrize(
    ("program", "line", "more"),
    [
        (
            "torchrun",
            f"--nnodes 4 --node_rank {{rank}} --nproc_per_node 8 --master_addr 10.0.0.1 --master_port=29500 {TASK}",
            {},
        ),
        (
            "torchrun",
            f"-m torch.distributed.launch --use-env --nnodes=4 --node-rank={{rank}} --nproc-per-node=8 --master-addr=10.0.0.1 {TASK}",
            {},
        ),
        (
            "torchrun",
            f"--nnodes=4 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-id=a --rdzv-endpoint=10.0.0.1:29500 {TASK}",
            {},
        ),
        ("accelerate", f"launch {ACCELERATE} --machine_rank {{rank}} {TASK}", {}),
        (
            "accelerate",
            f"launch {ACCELERATE.replace(' 4', '=4').replace(' 32', '=32')} --machine_rank={{rank}} --mixed_precision no {TASK}",
            {},
        ),
        ("accelerate", f"-m accelerate.commands.launch {ACCELERATE} --machine_rank {{rank}} {TASK}", {}),
        (
            "accelerate",
            f"-u -m accelerate.commands.accelerate_cli launch {ACCELERATE} --machine-rank {{rank}} {TASK}",
            {},
        ),
        ("accelerate", f"launch --config_file a.yaml {TASK}", {"file": {"values": CONFIG}}),
        (
            "accelerate",
            f"launch --config_file a.yaml --machine_rank {{rank}} {TASK}",
            {"file": {"values": {**CONFIG, "machine_rank": "0"}}},
        ),
        (
            "deepspeed",
            f"--hostfile hosts --no_ssh --node_rank {{rank}} --num_gpus 8 --master_addr=10.0.0.1 --master_port 29500 {TASK}",
            {"file": {"lines": 4}},
        ),
        ("llamafactory-cli", f"train {TASK}", {"env": {**EXPORTS, "FORCE_TORCHRUN": "1"}}),
        ("llamafactory-cli", f"train {TASK}", {"env": EXPORTS}),
    ],
)
def test_a_correct_call_passes(program: str, line: str, more: dict[str, Any]) -> None:
    """There is no false alarm for any form of the flags."""
    assert {level for level, _, _ in judge_calls(program, line, **more)} == {"ok"}


@pytest.mark.parametrize(
    ("program", "line", "more", "text"),
    [
        ("torchrun", f"--standalone --nproc-per-node=8 {TASK}", {}, "--standalone where NNODES=4"),
        (
            "torchrun",
            f"--nnodes=4 --nproc-per-node=8 --rdzv-backend=c10d --master-addr=10.0.0.1 {TASK}",
            {},
            "the rendezvous at localhost",
        ),
        (
            "accelerate",
            f"launch --multi_gpu --num_processes 8 {TASK}",
            {},
            "--num_machines=1 (its default) where NNODES=4",
        ),
        ("accelerate", f"launch {ACCELERATE} {TASK}", {}, "no --machine_rank where NODE_RANK="),
        ("accelerate", f"launch {ACCELERATE} --machine_rank 0 {TASK}", {}, "--machine_rank=0 where NODE_RANK=1"),
        (
            "accelerate",
            f"launch --num_machines 4 --machine_rank {{rank}} --num_processes 32 {TASK}",
            {},
            "no --main_process_ip where MASTER_ADDR=10.0.0.1",
        ),
        (
            "accelerate",
            f"launch --config_file a.yaml {TASK}",
            {"file": {"error": "it does not exist"}},
            "--config_file hosts, which does not exist",
        ),
        (
            "accelerate",
            f"launch --config_file a.yaml {TASK}",
            {"file": {"values": {**CONFIG, "machine_rank": "0"}}},
            "--machine_rank=0 where",
        ),
        (
            "accelerate",
            f"launch --use_deepspeed {ACCELERATE[12:]} --machine_rank {{rank}} {TASK}",
            {},
            "starts the ranks of all hosts again",
        ),
        (
            "deepspeed",
            f"--hostfile hosts {TASK}",
            {"file": {"lines": 4}},
            "each call starts the ranks of all hosts again",
        ),
        (
            "deepspeed",
            f"--hostfile hosts {TASK}",
            {"file": {"path": "hosts", "lines": 0, "error": "it does not exist"}},
            "with --hostfile hosts, which does not exist",
        ),
        ("deepspeed", f"--num_gpus 8 {TASK}", {}, "without a hostfile: each host starts a group of its own"),
        (
            "deepspeed",
            f"--hostfile hosts --no_ssh --node_rank 0 --master_addr 10.0.0.1 {TASK}",
            {"file": {"lines": 4}},
            "--node_rank=0 where",
        ),
        ("llamafactory-cli", f"train {TASK}", {"env": {**EXPORTS, "NNODES": "1"}}, "NNODES=1 where NNODES=4"),
        (
            "mpirun",
            f"-np 32 --hostfile hosts python {TASK}",
            {"file": {"lines": 4}},
            "each call starts the ranks of all hosts again",
        ),
        (
            "mpirun",
            f"--allow-run-as-root -np 32 -H a:8,b:8,c:8,d:8 -bind-to none -x NCCL_DEBUG=INFO python {TASK}",
            {},
            "each call starts the ranks of all hosts again",
        ),
        ("srun", f"torchrun --nnodes=4 {TASK}", {}, "calls srun outside a Slurm job"),
        ("ray", "start --head --port=29500", {}, "starts a Ray head on 4 hosts"),
        ("ray", "start --block --address=10.9.9.9:6379", {}, "--address=10.9.9.9:6379 where MASTER_ADDR=10.0.0.1"),
    ],
)
def test_a_call_that_starts_separate_groups_is_a_failure(
    program: str, line: str, more: dict[str, Any], text: str
) -> None:
    """The text names the flag as its launcher spells it."""
    findings = judge_calls(program, line, **more)
    assert "fail" in {level for level, _, _ in findings}, findings
    assert any(level == "fail" and text in saw for level, _, saw in findings), findings


@pytest.mark.parametrize(
    ("program", "line", "text"),
    [
        (
            "accelerate",
            f"launch {ACCELERATE.replace('29500', '29600')} --machine_rank {{rank}} {TASK}",
            "uses port 29600 and ignores MASTER_PORT",
        ),
        (
            "accelerate",
            f"launch {ACCELERATE.replace('32', '8')} --machine_rank {{rank}} {TASK}",
            "starts 2 processes where NPROC_PER_NODE=8",
        ),
        (
            "accelerate",
            f"launch {ACCELERATE.replace(' --num_processes 32', '')} --machine_rank {{rank}} {TASK}",
            "no --num_processes",
        ),
        ("accelerate", f"launch {ACCELERATE} --machine_rank {{rank}} other.py", "starts other.py instead of task.py"),
        ("mpirun", f"-np 8 python {TASK}", "without --host or --hostfile"),
        ("ray", "start --address=10.0.0.1:29500", "ends after ray start"),
    ],
)
def test_other_differences_from_the_plan_are_warnings(program: str, line: str, text: str) -> None:
    findings = judge_calls(program, line)
    assert {level for level, _, _ in findings} == {"warn"}, findings
    assert text in findings[0][2]


def test_a_kind_of_group_is_needed_on_hosts_with_one_gpu() -> None:
    """accelerate and LLaMA-Factory start one plain process there, unless a flag or variable asks for a group."""

    def explain_launch(program: str, line: str, **env: str) -> str:
        call = parse_launcher_call({"program": program, "argv": line.split(), "env": env})
        assert call is not None
        return explain_single_host(call, gpus=1)

    assert "no --multi_gpu" in explain_launch("accelerate", "launch --num_machines 2 task.py")
    assert explain_launch("accelerate", "launch --multi_gpu --num_machines 2 task.py") == ""
    assert "no FORCE_TORCHRUN=1" in explain_launch("llamafactory-cli", "train a.yaml", NNODES="2")
    assert explain_launch("llamafactory-cli", "train a.yaml", NNODES="2", FORCE_TORCHRUN="true") == ""


def test_ray_with_one_head_passes() -> None:
    """Host 0 starts the head and then the task; the others join it and wait."""
    case = build_healthy_case()
    for rank, name in enumerate(case.hosts):
        line = "start --block --address=10.0.0.1:29500" if rank else "start --head --port=29500"
        call = {"program": "ray", "argv": line.split(), "cwd": "/", "env": {}, "python": "", "real": "/usr/bin/ray"}
        task = {**call, "program": "task", "argv": ["task.py"]}
        case = change_fact(case, name, "rehearsal/calls", [call] if rank else [call, task])
    checks = [check for check in CATALOGUE if check.name == "passes-on"]
    assert {finding.level for finding in judge_all_checks(checks, case)} == {"ok"}


def test_each_row_of_the_table_has_a_source_and_an_example() -> None:
    """The agent gets the names of every launcher from the same table."""
    assert all(row.source and row.example for row in LAUNCHERS.values())
    assert set(describe_launchers()) == set(LAUNCHERS)
