"""Containers of hosts: who has which, the plan for a shell, the commands in findings, and what an ended one proves."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fanout.checks.engine.catalogue import CATALOGUE
from fanout.checks.engine.evaluation import judge_all_checks
from fanout.diagnose.evidence import describe_new_boot
from fanout.model import outcome, plan_text
from fanout.model.connection_options import ENGINE_NAMES
from fanout.model.container_events import ContainerLeft
from fanout.model.containers import assign_containers, get_engines, is_container_name, note_engine
from fanout.model.engines import ENGINES
from fanout.model.errors import UsageError
from fanout.model.events import CleanedUp, Connected, HostLost, Leftover, LossReason
from fanout.model.hosts import Host
from fanout.model.plan import LaunchPlan, NodePlan
from fanout.model.settings import Settings
from fanout.model.suggested_commands import CommandBuilder
from fanout.record.run_handle import RunHandle
from fanout.ui.report_rows import ReportFacts, list_leftovers
from tests.checks.kit import build_healthy_case, change_fact
from tests.histories import History
from tests.model.test_plan import build_host
from tests.processes import SECONDS
from tests.remote.container_hosts import build_container_host, write_engine
from tests.ui.goldens import build_heading


@pytest.mark.parametrize("name", ["work", "a", "9f86d081884c", "team-a_work.2"])
def test_a_name_of_both_engines_is_accepted(name: str) -> None:
    assert is_container_name(name)


@pytest.mark.parametrize("name", ["", "-it", ".a", "a b", "a;b", "a$b", "a'b", "a\nb", "ä", "a/b", "x" * 300])
def test_a_name_that_a_shell_or_an_engine_reads_otherwise_is_refused(name: str) -> None:
    assert not is_container_name(name)
    if name:
        with pytest.raises(UsageError):
            assign_containers([build_host("a")], Settings(container=name))


def test_the_hostfile_takes_precedence_over_the_options() -> None:
    hosts = [build_host("a"), replace(build_host("b"), container="own", engine="docker")]
    found = assign_containers(hosts, Settings(container="work", engine="podman"))
    assert [(host.container, host.engine) for host in found] == [("work", "podman"), ("own", "docker")]
    assert assign_containers(hosts[:1], Settings()) == tuple(hosts[:1])


def test_an_engine_without_a_container_is_refused() -> None:
    with pytest.raises(UsageError, match="no container is named"):
        assign_containers([build_host("a")], Settings(engine="podman"))


def test_a_handle_keeps_the_container_so_that_stop_and_the_guardian_enter_it() -> None:
    host = build_container_host(engine="podman")
    handle = RunHandle(run_id="r", hosts=(host,), settings=Settings(), directory="/r", user="me")
    assert RunHandle.from_json(handle.to_json()).hosts == (host,)


def build_node(host: Host, cwd: Path) -> NodePlan:
    argv = ("bash", "-c", 'echo "$NAME" "$@" in $PWD; cat', "x", "it's", "a  b")
    return NodePlan(
        host=host, rank=0, nproc=1, cwd=str(cwd), argv=argv, env=(("NAME", "o'ne"),), needs=(), claims=(), run_id="r"
    )


@pytest.mark.process
@pytest.mark.parametrize("engine", ["docker", None])
def test_the_block_of_a_dry_run_enters_the_container(engine: str | None, tmp_path: Path) -> None:
    write_engine(tmp_path, "docker")
    node = build_node(build_container_host(engine=engine), tmp_path)
    text = plan_text.render_plan(LaunchPlan(run_id="r", task=(), nodes=(node,), master_addr="a", master_port=1))
    done = subprocess.run(
        [shutil.which("bash") or "bash"],
        input=text,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, ""), text
    assert done.stdout == f"o'ne it's a  b in {tmp_path}\n", "the script reads nothing of the block"


COMMANDS = CommandBuilder(containers={"gpu01": "docker exec -i work"})


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("getent hosts h2", "ssh gpu01 docker exec -i work getent hosts h2"),
        ("cd /p && ls", "ssh gpu01 'docker exec -i work sh -c '\"'\"'cd /p && ls'\"'\"''"),
        ("sudo modprobe nvidia-peermem", "ssh gpu01 sudo modprobe nvidia-peermem"),
        ("dmesg | tail", "ssh gpu01 'dmesg | tail'"),
        ("sudo apt install bash", "ssh gpu01 docker exec -u 0 -i work apt install bash"),
    ],
)
def test_a_command_in_a_finding_enters_the_container_unless_it_is_about_the_machine(command: str, printed: str) -> None:
    assert COMMANDS.build_remote_command("gpu01", command) == printed
    assert "docker" not in COMMANDS.build_remote_command("gpu02", command)


def test_a_small_shm_of_a_container_is_cured_by_an_option_of_the_container() -> None:
    case = change_fact(build_healthy_case(), "gpu03", "space/shm/free", 1 << 20)
    hosts = tuple(replace(host, container="work") for host in case.request.hosts)
    inside = replace(case, request=replace(case.request, hosts=hosts))
    hosts = tuple(replace(host, image="train:1") for host in hosts)
    created = replace(case, request=replace(case.request, hosts=hosts))
    advice = [
        next(
            finding.advice for finding in judge_all_checks(CATALOGUE, each) if finding.check == "shm" and finding.advice
        )
        for each in (case, inside, created)
    ]
    assert "mount -o remount" in advice[0]
    assert "create container work again with  --shm-size 16g" in advice[1]
    assert advice[2].endswith("add  --container-arg=--shm-size=16g")


@pytest.mark.parametrize(("reason", "left"), [("container-ended", 0), ("container-missing", None), ("abandoned", None)])
def test_only_an_ended_container_proves_that_nothing_is_left(reason: LossReason, left: int | None) -> None:
    history = History("a", "b").connect_hosts().start_hosts().pass_time(1.0)
    history.add_events(HostLost(at=2e9, host="b", why="container work: …", reason=reason))
    assert outcome.outcome_of(history.play_events()).hosts[1].left == left


def test_a_boot_id_shows_whether_the_machine_or_only_the_container_was_restarted() -> None:
    assert "container restarted" in describe_new_boot("k1 500", "k1 900")
    assert "rebooted" in describe_new_boot("k1 500", "k2 100")
    assert "rebooted" in describe_new_boot("k1", "k2")


def test_a_host_whose_container_may_be_left_is_not_verified() -> None:
    history = History("a", "b").connect_hosts().start_hosts().end_hosts("a", "b").release_hosts("a", "b")
    before = outcome.outcome_of(history.play_events())
    history.add_events(ContainerLeft(at=2e9, host="b", container="fanout-r"))
    state = history.play_events()
    found = outcome.outcome_of(state)
    assert before.is_clean
    assert not found.is_clean
    assert [host.left for host in found.hosts] == [0, None]
    assert found.exit_code == before.exit_code
    assert outcome.with_unverified_hosts(before, {"b"}).hosts == found.hosts
    facts = ReportFacts(heading=build_heading(history.hosts), state=state, outcome=found)
    assert ("left behind", "unknown: could not verify b") in [(row.name, row.text) for row in list_leftovers(facts)]


def test_a_host_keeps_the_engine_in_which_its_container_was_entered() -> None:
    """Another engine of the host has no such container, although the container may run."""
    auto, every = build_container_host(), ("docker", "podman")
    reports = [{"engine": "docker"}, {"engine": ""}, {}, {"engine": "rkt"}, {"engine": "apptainer"}]
    assert [get_engines(note_engine(auto, each)) for each in reports] == [("docker",), every, every, every, every]
    assert note_engine(replace(auto, engine="podman"), {"engine": "docker"}).engine == "podman"
    assert note_engine(replace(auto, container=None), {"engine": "docker"}).engine is None


def test_a_process_that_is_left_is_named_with_its_container() -> None:
    history = History("a", "b").connect_hosts()
    history.add_events(Connected(at=history.at, host="b", attempt=2, took=0.1, hello={"container": "work"}))
    history.start_hosts().end_hosts("a", "b").release_hosts("a")
    stuck = Leftover(pid=71, state="D", wchan="nfs_wait", command="python")
    history.add_events(CleanedUp(at=history.at, host="b", killed=0, left=(stuck,)))
    state = history.play_events()
    facts = ReportFacts(heading=build_heading(history.hosts), state=state, outcome=outcome.outcome_of(state))
    texts = [row.text for row in list_leftovers(facts)]
    assert "b: pid 71 in container work (D, nfs_wait) python" in texts


def test_the_option_names_every_engine() -> None:
    """It does not import them, because the help must not import dataclasses."""
    assert tuple(ENGINES) == ENGINE_NAMES
