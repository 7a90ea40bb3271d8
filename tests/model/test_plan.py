"""The plan and the dry run: the exports of the contract."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fanout.agent import frames
from fanout.model import plan_text
from fanout.model.errors import UsageError
from fanout.model.host_facts import HostFacts
from fanout.model.hosts import Host, Origin
from fanout.model.plan import EnvValue, LaunchPlan, NodePlan
from fanout.model.planner import RESERVED, Planner
from fanout.model.settings import Settings
from fanout.remote.protocol import go_frame

TASK = ("tasks/train_llada2_bd.py", "configs/sft/llada2_mini_bd_sft.yaml")
GOLDEN = Path(__file__).parent / "golden"


def build_host(name: str, line: int = 1, **facts: Any) -> Host:
    return Host(name=name, origin=Origin(file="hosts.txt", line=line), **facts)


TWO = (build_host("192.168.1.1", 1, slots=8), build_host("192.168.1.2", 2, slots=8))


def make_plan(
    *hosts: Host, task: tuple[str, ...] = TASK, script: bool = True, known: HostFacts | None = None, **choices: Any
) -> LaunchPlan:
    dry = choices.pop("dry", False)
    planner = Planner(
        hosts=hosts,
        task=task,
        settings=Settings(**choices),
        run_id="20260101-120000-7f3a",
        directory="/home/me/proj",
        has_script=script,
    )
    return planner.make_plan(known or HostFacts(), dry=dry)


def list_exports(node: NodePlan) -> dict[str, EnvValue]:
    return dict(node.env)


# ------------------------------------------------------------------------------------------------------------ dry runs

DRY_RUNS = {
    "two-nodes": make_plan(*TWO),
    "two-nodes-sh": make_plan(*TWO, shell="sh"),
    "torchrun": make_plan(*TWO, script=False, task=(*TASK, "--train.lr", "1e-4")),
    "torchrun-one-node": make_plan(TWO[0], script=False),
    "no-slots": make_plan(build_host("gpu01"), build_host("gpu02", 2), dry=True, script=False),
    "venv": make_plan(TWO[0], venv="/home/me/.venv", venv_sure=True),
    "venv-auto": make_plan(TWO[0], venv="/opt/conda/envs/train", venv_is_conda=True),
    "setup": make_plan(TWO[0], setup="module load cuda; source 'my env/bin/activate'"),
    "env": make_plan(
        build_host("gpu01", slots=2, gpus=("4", "5"), addr="10.0.0.1", env=(("NCCL_SOCKET_IFNAME", "ib0"),)),
        build_host("gpu02", 2, slots=2, workdir="/scratch/my proj"),
        env=(("HF_TOKEN", "hf_abc"), ("GREETING", 'it\'s $5 "now"\nand then'), ("EMPTY", "")),
        master_port=29501,
    ),
}


@pytest.mark.parametrize("name", DRY_RUNS)
def test_a_dry_run_equals_the_recorded_one(name: str) -> None:
    path = GOLDEN / f"{name}.txt"
    text = plan_text.render_plan(DRY_RUNS[name])
    if os.environ.get("FANOUT_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path} differs; FANOUT_GOLDEN=write writes it anew"


def test_the_documented_two_nodes_differ_only_in_their_rank() -> None:
    first, second = plan_text.render_plan(make_plan(*TWO, shell="sh")).split("\n\n")
    lines = first.splitlines()
    for line in (
        "export NNODES=2",
        "export NODE_RANK=0",
        'export MASTER_ADDR="192.168.1.1"',
        "export MASTER_PORT=29500",
        "export NPROC_PER_NODE=8",
        "sh train.sh tasks/train_llada2_bd.py configs/sft/llada2_mini_bd_sft.yaml",
    ):
        assert line in lines
    assert any(line.startswith('export PYTHONPATH="$(pwd)/VeOmni:') for line in lines)
    differing = [pair for pair in zip(lines, second.splitlines(), strict=True) if pair[0] != pair[1]]
    assert differing == [
        ("# 192.168.1.1  (node rank 0)", "# 192.168.1.2  (node rank 1)"),
        ("export NODE_RANK=0", "export NODE_RANK=1"),
    ]


def test_secrets_are_masked_on_the_screen_and_in_the_record_but_sent() -> None:
    node = make_plan(TWO[0], env=(("HF_TOKEN", "hf_abc"), ("WANDB_API_KEY", "k-1")))
    assert "hf_abc" not in plan_text.render_plan(node)
    assert "k-1" not in json.dumps(plan_text.plan_to_dict(node))
    assert "export HF_TOKEN=" in plan_text.render_plan(node)
    assert "hf_abc" in plan_text.render_plan(node, secrets=True)
    (frame,) = frames.FrameSplitter().feed(go_frame(node.nodes[0]))
    assert frame["env"]["HF_TOKEN"] == "hf_abc"


@pytest.mark.parametrize(
    ("name", "value", "masked"),
    [
        ("S3", "hunter2zzz", False),
        ("NCCL_DEBUG", "hunter2zzz", False),
        ("GH_PAT", "hunter2zzz", True),
        ("DB_PASS", "hunter2zzz", True),
        ("HTTPS_PROXY", "http://me:hunter2zzz@proxy:3128", True),
        ("DATABASE_URL", "postgres://me:hunter2zzz@db/x", True),
    ],
)
def test_no_value_of_the_user_is_in_the_record_and_a_dry_run_masks_credentials(
    name: str, value: str, masked: bool
) -> None:
    """This holds for any name: only the user knows which values are secret."""
    host = replace(TWO[0], env=(("OF_HOST", "hunter2zzz"),))
    node = make_plan(host, env=((name, value),))
    assert "hunter2zzz" not in json.dumps(plan_text.plan_to_dict(node))
    assert (value in plan_text.render_plan(make_plan(TWO[0], env=((name, value),)))) != masked


# --------------------------------------------------------------------------------------------------------- the contract


def test_ranks_follow_the_order_of_the_hosts() -> None:
    hosts = tuple(build_host(f"gpu{n}", n, slots=n) for n in (3, 1, 2))
    run = make_plan(*hosts, master_addr="10.0.0.1")
    assert [(node.host.name, node.rank, node.nproc) for node in run.nodes] == [
        ("gpu3", 0, 3),
        ("gpu1", 1, 1),
        ("gpu2", 2, 2),
    ]
    assert {list_exports(node)["NNODES"] for node in run.nodes} == {"3"}
    assert {list_exports(node)["MASTER_ADDR"] for node in run.nodes} == {"10.0.0.1"}
    assert run.world_size == 6
    assert run.node_of("gpu1").rank == 1


def test_the_script_runs_under_bash_with_pipefail_so_that_a_tee_cannot_hide_its_status() -> None:
    assert make_plan(TWO[0]).nodes[0].argv == ("bash", "-o", "pipefail", "train.sh", *TASK)


@pytest.mark.parametrize(
    ("hosts", "choices", "known", "address"),
    [
        (("gpu01",), {}, HostFacts(), "127.0.0.1"),
        (("gpu01",), {}, HostFacts(addresses={"gpu01": "10.0.0.1"}), "127.0.0.1"),
        (("gpu01", "gpu02"), {}, HostFacts(), "gpu01"),
        (("gpu01", "gpu02"), {}, HostFacts(addresses={"gpu01": "10.0.0.1"}), "10.0.0.1"),
        (("gpu01", "gpu02"), {}, HostFacts(master_addr="10.9.0.1", addresses={"gpu01": "10.0.0.1"}), "10.9.0.1"),
        (("gpu01", "gpu02"), {"master_addr": "fd00::1"}, HostFacts(master_addr="10.9.0.1"), "fd00::1"),
        (("127.0.0.2", "127.0.0.3"), {}, HostFacts(), "127.0.0.2"),
    ],
)
def test_the_master_address_is_the_given_one_then_the_measured_one_then_the_name(
    hosts: tuple[str, ...], choices: dict[str, Any], known: HostFacts, address: str
) -> None:
    run = make_plan(*(build_host(name, slots=1) for name in hosts), known=known, **choices)
    assert run.master_addr == address


def test_the_hostfile_gives_the_address_of_its_first_host() -> None:
    assert (
        make_plan(build_host("gpu01", slots=1, addr="10.1.1.1"), build_host("gpu02", slots=1)).master_addr == "10.1.1.1"
    )


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "me.localhost"])
def test_a_loopback_address_is_no_address_for_the_others(name: str) -> None:
    with pytest.raises(UsageError, match=r'means "myself" on every host \(hosts.txt:1') as raised:
        make_plan(build_host(name, slots=1), build_host("gpu02", slots=1))
    assert "--master-addr" in raised.value.hint


@pytest.mark.parametrize(
    ("facts", "choices", "found", "count"),
    [
        ({"slots": 4}, {}, 8, 4),
        ({}, {}, 8, 8),
        ({"gpus": ("2", "3")}, {}, 8, 2),
        ({"slots": 4}, {"nproc_per_node": 2}, 8, 2),
    ],
)
def test_processes_are_the_given_number_or_the_existing_gpus(
    facts: dict[str, Any], choices: dict[str, Any], found: int, count: int
) -> None:
    node = make_plan(build_host("gpu01", **facts), known=HostFacts(gpus={"gpu01": found}), **choices).nodes[0]
    assert (node.nproc, list_exports(node)["NPROC_PER_NODE"]) == (count, str(count))


@pytest.mark.parametrize(("gpus", "why"), [({"cpu01": 0}, "no GPU was found there"), ({}, "its GPUs were not counted")])
def test_a_host_without_slots_and_gpus_is_an_error(gpus: dict[str, int], why: str) -> None:
    with pytest.raises(UsageError, match=rf"hosts.txt:1: how many processes on cpu01\? .*{why}") as raised:
        make_plan(build_host("cpu01"), known=HostFacts(gpus=gpus))
    assert "cpu01 slots=1" in raised.value.hint


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_value_that_fanout_computes_can_only_be_set_by_force(name: str) -> None:
    with pytest.raises(UsageError, match=f"--env: {name} is set by fanout"):
        make_plan(TWO[0], env=((name, "7"),))
    assert list_exports(make_plan(TWO[0], env=((name, "7"),), force=True).nodes[0])[name] == "7"


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "Ä", "A\n"])
def test_a_name_that_no_shell_accepts_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not a name for an environment variable"):
        make_plan(TWO[0], env=((name, "x"),))


def test_a_value_with_a_nul_is_refused() -> None:
    with pytest.raises(UsageError, match="the value of A contains a NUL byte"):
        make_plan(build_host("gpu01", slots=1, env=(("A", "x\0y"),)))


def test_values_of_a_host_override_those_for_all() -> None:
    one = build_host("gpu01", slots=1, env=(("A", "host"),))
    run = make_plan(
        one, env=(("A", "all"), ("B", "all")), known=HostFacts(exports={"gpu01": {"B": "found", "C": "found"}})
    )
    assert [list_exports(run.nodes[0])[name] for name in "ABC"] == ["host", "all", "found"]


def test_two_runs_may_share_a_host_on_other_gpus_and_another_port() -> None:
    one = build_host("gpu01", gpus=("4", "5"))
    assert make_plan(one, master_port=29501).nodes[0].claims == ("port-29501", "gpu-4", "gpu-5")
    assert make_plan(build_host("cpu01", slots=2)).nodes[0].claims == ("port-29500",)
    assert make_plan(build_host("gpu01"), known=HostFacts(gpus={"gpu01": 2})).nodes[0].claims == (
        "port-29500",
        "gpu-0",
        "gpu-1",
    )


def test_the_script_and_the_task_are_required() -> None:
    assert make_plan(TWO[0]).nodes[0].needs == ("train.sh", TASK[0])
    assert make_plan(TWO[0], script=False).nodes[0].needs == (TASK[0],)
