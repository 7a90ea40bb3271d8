"""The plan and the dry run: the exports of the contract, and text that a shell parses back byte for byte."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanout.agent import frames, spawn
from fanout.model import plan_text
from fanout.model.errors import UsageError
from fanout.model.host_facts import HostFacts
from fanout.model.hosts import Host, Origin
from fanout.model.plan import Default, EnvValue, LaunchPlan, NodePlan, PathList
from fanout.model.planner import RESERVED, Planner
from fanout.model.settings import Settings
from fanout.remote.protocol import go_frame

TASK = ("tasks/train_llada2_bd.py", "configs/sft/llada2_mini_bd_sft.yaml")
GOLDEN = Path(__file__).parent / "golden"


def host(name: str, line: int = 1, **facts: Any) -> Host:
    return Host(name=name, origin=Origin(file="hosts.txt", line=line), **facts)


TWO = (host("192.168.1.1", 1, slots=8), host("192.168.1.2", 2, slots=8))


def made(
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


def exports(node: NodePlan) -> dict[str, EnvValue]:
    return dict(node.env)


# ------------------------------------------------------------------------------------------------------------ dry runs

DRY_RUNS = {
    "two-nodes": made(*TWO),
    "two-nodes-sh": made(*TWO, shell="sh"),
    "torchrun": made(*TWO, script=False, task=(*TASK, "--train.lr", "1e-4")),
    "torchrun-one-node": made(TWO[0], script=False),
    "no-slots": made(host("gpu01"), host("gpu02", 2), dry=True, script=False),
    "venv": made(TWO[0], venv="/home/me/.venv", venv_sure=True),
    "venv-auto": made(TWO[0], venv="/opt/conda/envs/train", venv_is_conda=True),
    "setup": made(TWO[0], setup="module load cuda; source 'my env/bin/activate'"),
    "env": made(
        host("gpu01", slots=2, gpus=("4", "5"), addr="10.0.0.1", env=(("NCCL_SOCKET_IFNAME", "ib0"),)),
        host("gpu02", 2, slots=2, workdir="/scratch/my proj"),
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
    first, second = plan_text.render_plan(made(*TWO, shell="sh")).split("\n\n")
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
    node = made(TWO[0], env=(("HF_TOKEN", "hf_abc"), ("WANDB_API_KEY", "k-1")))
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
    node = made(host, env=((name, value),))
    assert "hunter2zzz" not in json.dumps(plan_text.plan_to_dict(node))
    assert (value in plan_text.render_plan(made(TWO[0], env=((name, value),)))) != masked


# --------------------------------------------------------------------------------------------------------- the contract


def test_ranks_follow_the_order_of_the_hosts() -> None:
    hosts = tuple(host(f"gpu{n}", n, slots=n) for n in (3, 1, 2))
    run = made(*hosts, master_addr="10.0.0.1")
    assert [(node.host.name, node.rank, node.nproc) for node in run.nodes] == [
        ("gpu3", 0, 3),
        ("gpu1", 1, 1),
        ("gpu2", 2, 2),
    ]
    assert {exports(node)["NNODES"] for node in run.nodes} == {"3"}
    assert {exports(node)["MASTER_ADDR"] for node in run.nodes} == {"10.0.0.1"}
    assert run.world_size == 6
    assert run.node_of("gpu1").rank == 1


def test_the_script_runs_under_bash_with_pipefail_so_that_a_tee_cannot_hide_its_status() -> None:
    assert made(TWO[0]).nodes[0].argv == ("bash", "-o", "pipefail", "train.sh", *TASK)


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
    run = made(*(host(name, slots=1) for name in hosts), known=known, **choices)
    assert run.master_addr == address


def test_the_hostfile_gives_the_address_of_its_first_host() -> None:
    assert made(host("gpu01", slots=1, addr="10.1.1.1"), host("gpu02", slots=1)).master_addr == "10.1.1.1"


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "me.localhost"])
def test_a_loopback_address_is_no_address_for_the_others(name: str) -> None:
    with pytest.raises(UsageError, match=r'means "myself" on every host \(hosts.txt:1') as raised:
        made(host(name, slots=1), host("gpu02", slots=1))
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
    node = made(host("gpu01", **facts), known=HostFacts(gpus={"gpu01": found}), **choices).nodes[0]
    assert (node.nproc, exports(node)["NPROC_PER_NODE"]) == (count, str(count))


@pytest.mark.parametrize(("gpus", "why"), [({"cpu01": 0}, "no GPU was found there"), ({}, "its GPUs were not counted")])
def test_a_host_without_slots_and_gpus_is_an_error(gpus: dict[str, int], why: str) -> None:
    with pytest.raises(UsageError, match=rf"hosts.txt:1: how many processes on cpu01\? .*{why}") as raised:
        made(host("cpu01"), known=HostFacts(gpus=gpus))
    assert "cpu01 slots=1" in raised.value.hint


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_value_that_fanout_computes_can_only_be_set_by_force(name: str) -> None:
    with pytest.raises(UsageError, match=f"--env: {name} is set by fanout"):
        made(TWO[0], env=((name, "7"),))
    assert exports(made(TWO[0], env=((name, "7"),), force=True).nodes[0])[name] == "7"


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "Ä", "A\n"])
def test_a_name_that_no_shell_accepts_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not a name for an environment variable"):
        made(TWO[0], env=((name, "x"),))


def test_a_value_with_a_nul_is_refused() -> None:
    with pytest.raises(UsageError, match="the value of A contains a NUL byte"):
        made(host("gpu01", slots=1, env=(("A", "x\0y"),)))


def test_values_of_a_host_override_those_for_all() -> None:
    one = host("gpu01", slots=1, env=(("A", "host"),))
    run = made(one, env=(("A", "all"), ("B", "all")), known=HostFacts(exports={"gpu01": {"B": "found", "C": "found"}}))
    assert [exports(run.nodes[0])[name] for name in "ABC"] == ["host", "all", "found"]


def test_two_runs_may_share_a_host_on_other_gpus_and_another_port() -> None:
    one = host("gpu01", gpus=("4", "5"))
    assert made(one, master_port=29501).nodes[0].claims == ("port-29501", "gpu-4", "gpu-5")
    assert made(host("cpu01", slots=2)).nodes[0].claims == ("port-29500",)
    assert made(host("gpu01"), known=HostFacts(gpus={"gpu01": 2})).nodes[0].claims == ("port-29500", "gpu-0", "gpu-1")


def test_the_script_and_the_task_are_required() -> None:
    assert made(TWO[0]).nodes[0].needs == ("train.sh", TASK[0])
    assert made(TWO[0], script=False).nodes[0].needs == (TASK[0],)


# ---------------------------------------------------------------------------------------------- a shell parses it back

ANYTHING = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
NASTY = st.one_of(ANYTHING, st.text("'\"$`\\!{}()*?~#&|;<> \n\t%äA0/:=-", max_size=12))
TELL = (
    "import json,os,sys;names=sys.argv[1].split(',');"
    "print(json.dumps([os.getcwd(),sys.argv[2:],{n:os.environ.get(n) for n in names}]))"
)
SHELLS = ["bash", "sh"]
NAMES = ("A1", "B_2", "PATH_LIST", "FALLBACK")


def pasted(shell: str, node: NodePlan, login: dict[str, str]) -> list[Any]:
    """Return what a process sees that the node's block starts in ``shell``: directory, arguments, variables."""
    run = LaunchPlan(run_id="r", task=(), nodes=(node,), master_addr="a", master_port=1)
    clean = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1", **login}
    text = plan_text.render_plan(run, secrets=True).encode()
    done = subprocess.run([shell], input=text, env=clean, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, b""), text
    seen: list[Any] = json.loads(done.stdout)
    return seen


def node_of(cwd: Path, env: dict[str, EnvValue], words: tuple[str, ...]) -> NodePlan:
    argv = (sys.executable, "-I", "-X", "utf8", "-c", TELL, ",".join(NAMES), *words)
    return NodePlan(
        host=host("h"),
        rank=0,
        nproc=1,
        cwd=str(cwd),
        argv=argv,
        env=tuple(env.items()),
        needs=(),
        claims=(),
        run_id="r",
    )


@pytest.mark.process
@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=NASTY, second=NASTY, words=st.lists(NASTY, max_size=3))
def test_every_value_and_every_argument_comes_back_from_the_shell_unchanged(
    shell: str, tmp_path: Path, first: str, second: str, words: list[str]
) -> None:
    cwd = tmp_path / "it's a $dir `x`"
    cwd.mkdir(exist_ok=True)
    seen = pasted(shell, node_of(cwd, {"A1": first, "B_2": second}, tuple(words)), {})
    assert seen[:2] == [str(cwd), words]
    assert (seen[2]["A1"], seen[2]["B_2"]) == (first, second)


#: : Characters of a directory's name: a colon would give two directories, and an empty entry means the work directory.
DIRECTORY = NASTY.map(lambda text: text.replace(":", "").strip("/")).filter(lambda text: text not in ("", ".", ".."))
PRESENT = st.one_of(st.none(), st.just(""), st.just("/usr/lib:/opt"), NASTY.map(lambda text: f"/x{text}"))


@pytest.mark.process
@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.lists(DIRECTORY, min_size=1, max_size=2),
    after=st.lists(DIRECTORY, max_size=1),
    value=NASTY,
    present=PRESENT,
)
def test_the_dry_run_and_the_agent_give_the_same_environment(
    shell: str, tmp_path: Path, before: list[str], after: list[str], value: str, present: str | None
) -> None:
    """The text that is shown and the plan that is sent describe the same."""
    env: dict[str, EnvValue] = {
        "PATH_LIST": PathList(before=("/" + before[0], *before), after=(*after, "") if after else ()),
        "FALLBACK": Default(value=value),
    }
    login = {} if present is None else {"PATH_LIST": present, "FALLBACK": present}
    node = node_of(tmp_path, env, ())
    (sent,) = frames.FrameSplitter().feed(go_frame(node))
    worked_out = spawn.build_environment(login, sent["env"], str(tmp_path))
    seen = pasted(shell, node, login)[2]
    assert {name: seen[name] for name in env} == {name: worked_out[name] for name in env}


@pytest.mark.process
@pytest.mark.parametrize("there", [True, False])
def test_a_condition_holds_for_both(tmp_path: Path, there: bool) -> None:
    marker = tmp_path / "it's there"
    if there:
        marker.touch()
    node = node_of(tmp_path, {"FALLBACK": Default(value="yes", only_if=str(marker))}, ())
    node = replace(node, env=(*node.env, ("A1", "always")))
    (sent,) = frames.FrameSplitter().feed(go_frame(node))
    expected = "yes" if there else None
    assert pasted("bash", node, {})[2]["FALLBACK"] == expected
    assert spawn.build_environment({}, sent["env"], str(tmp_path)).get("FALLBACK") == expected


def test_an_interface_that_the_hostfile_names_is_exported_for_nccl_and_gloo() -> None:
    """This needs no check; an export of the user wins."""
    first, second = TWO
    hosts = (dataclasses.replace(first, iface="ib0"), second)
    env = dict(made(*hosts, env=(("GLOO_SOCKET_IFNAME", "eth1"),)).nodes[0].env)
    assert (env["NCCL_SOCKET_IFNAME"], env["GLOO_SOCKET_IFNAME"]) == ("ib0", "eth1")
    assert "NCCL_SOCKET_IFNAME" not in dict(made(*hosts).nodes[1].env)
