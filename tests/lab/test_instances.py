"""Runs in instances of apptainer on two hosts, with a stand-in for the program: none of Debian's packages has the real one."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator

import pytest

from tests.lab import ns
from tests.lab.drive import HERE, Project
from tests.lab.instances import ENVIRONMENT_PATH, IMAGE, Apptainer, list_mounts, specify_host
from tests.lab.lab import Lab
from tests.lab.oracle import wait_quiet

HOSTFILE = f"h1 slots=1 user=root image={IMAGE}\nh2 slots=1 user=root image={IMAGE}\n"
STEPS = 'i=0; while [ ! -e stop ]; do i=$((i+1)); echo "line $i"; sleep 0.05; done\n'


@pytest.fixture(scope="module")
def hosts_with_apptainer() -> Iterator[tuple[Lab, list[Apptainer]]]:
    with Lab([specify_host("h1"), specify_host("h2")], shared="/home/lab/shared") as lab:
        yield lab, [Apptainer(host) for host in lab.hosts]


@pytest.fixture
def engines(hosts_with_apptainer: tuple[Lab, list[Apptainer]]) -> Iterator[list[Apptainer]]:
    """Yield the engines of two hosts. Afterwards no instance and no process is left on either host."""
    lab, engines = hosts_with_apptainer
    lab.reset_machines()
    yield engines
    left = [engine.list_created() for engine in engines]
    for engine, names in zip(engines, left, strict=True):
        for name in names:
            engine.run_apptainer("instance", "stop", "-F", name, check=False)
    assert not any(left), left
    assert wait_quiet(lab, 20.0)


@pytest.fixture
def project(hosts_with_apptainer: tuple[Lab, list[Apptainer]], engines: list[Apptainer]) -> Iterator[Project]:
    with contextlib.closing(Project(hosts_with_apptainer[0])) as project:
        project.write_hostfile(HOSTFILE)
        project.write_file("fanout.toml", f'connect-timeout = "60s"\nmount = {json.dumps(list_mounts())}\n')
        yield project


def await_no_instance(engines: list[Apptainer]) -> None:
    """Wait until no instance of a run is left."""
    for engine in engines:
        ns.wait_until(lambda: not engine.list_created(), 60.0, f"{engine.host.name}: {engine.list_created()}")  # noqa: B023


def test_a_run_has_its_own_instances_and_its_exit_code_and_they_are_gone_with_it(
    project: Project, engines: list[Apptainer]
) -> None:
    project.write_train_script(
        "setsid sleep 1000 & echo rank $NODE_RANK in $PWD, home $HOME, $SECRET, in $(basename $APPTAINER_CONTAINER);"
        " [ $NODE_RANK = 0 ] || { while [ ! -e stop ]; do sleep 0.05; done; exit 7; }; sleep 1000\n"
    )
    run = project.start_command("run", "--skip-check", "--grace", "4", "-E", "SECRET=hidden", "hosts.txt", "task.py")
    run.wait_for_output(f"h1 .*rank 0 in {HERE}, home /tmp, hidden, in image", "h2 .*rank 1")
    shown = project.run_fanout("ps", "hosts.txt")
    assert shown.all.count("running in apptainer, named fanout-") == 2, shown.all
    assert "left behind" not in shown.all
    cleaned = project.run_fanout("clean", "--yes", "hosts.txt")
    assert "it ends with its run" in cleaned.out, cleaned.all
    assert all(engine.list_created() for engine in engines)
    project.write_file("stop", "")
    done = run.wait_for_end()
    assert done.code == 7, done.all
    assert "left behind  nothing: verified on both hosts" in done.err, done.all
    assert "could not verify" not in done.err, done.all
    assert [engine.list_output_files() for engine in engines] == [[], []]


def test_the_launcher_is_killed_and_the_guardian_removes_the_instances(
    project: Project, engines: list[Apptainer]
) -> None:
    project.write_train_script(STEPS)
    run = project.begin_training()
    run.wait_for_output("h1 .*line 3", "h2 .*line 3")
    run.send_signal(signal.SIGKILL)
    run.wait_for_end()
    await_no_instance(engines)
    report = project.list_records()[-1] / "report.txt"  # the guardian writes it last
    ns.wait_until(lambda: report.exists() and "stopped" in report.read_text(), 60.0, "the guardian wrote no report")


def test_an_instance_that_is_stopped_during_the_run_ends_it(project: Project, engines: list[Apptainer]) -> None:
    project.write_train_script(STEPS)
    run = project.start_command("run", "--skip-check", "--grace", "2", "hosts.txt", "task.py")
    run.wait_for_output("h1 .*line 3", "h2 .*line 3")
    (name,) = engines[1].list_created()
    engines[1].run_apptainer("instance", "stop", "-F", name)
    done = run.wait_for_end()
    assert done.code == 255, done.all
    assert "the container on h2 has ended" in done.err, done.all


def test_a_missing_image_on_one_host_starts_nothing_on_any_host(project: Project, engines: list[Apptainer]) -> None:
    project.write_train_script("touch ran\n")
    project.write_hostfile(HOSTFILE.replace(f"h2 slots=1 user=root image={IMAGE}", "h2 slots=1 user=root image=/i.sif"))
    done = project.run_fanout("run", "--skip-check", "hosts.txt", "task.py")
    assert done.code == 255, done.all
    assert "h2: unreachable: image /i.sif: there is no such file or directory on this host" in done.err, done.all
    assert "ssh root@h2 ls -l /" in done.err, done.all
    assert not project.get_path("ran").exists()


@pytest.mark.campaign
def test_an_instance_ends_by_itself_when_its_run_is_over(project: Project, engines: list[Apptainer]) -> None:
    """The launcher cannot remove it: its link is cut for longer than the lease."""
    project.write_train_script(STEPS)
    run = project.start_command("run", "--skip-check", "--lease", "5", "--grace", "2", "hosts.txt", "task.py")
    run.wait_for_output("h1 .*line 3", "h2 .*line 3")
    engines[1].host.link_down()
    await_no_instance(engines[1:])
    engines[1].host.link_up()
    assert run.wait_for_end().code == 255


def test_another_machine_follows_and_stops_the_run_and_clean_stops_an_instance_that_nothing_holds(
    project: Project, engines: list[Apptainer]
) -> None:
    engines[0].run_apptainer("instance", "start", *list_binds(), IMAGE, "fanout-old")
    project.write_train_script(STEPS)
    run = project.start_command("run", "--skip-check", "--grace", "2", "hosts.txt", "task.py")
    run.wait_for_output("h1 .*line 3", "h2 .*line 3")
    shown = project.run_fanout("ps", "hosts.txt")
    assert "h1: left behind: container of run old: abandoned in apptainer, named fanout-old" in shown.out, shown.all
    cleaned = project.run_fanout("clean", "--yes", "hosts.txt")
    assert cleaned.code == 0, cleaned.all
    assert "h1: checked again: nothing is left of ended runs" in cleaned.err, cleaned.all
    (name,) = engines[0].list_created()
    named, without_record = (name.removeprefix("fanout-"), "hosts.txt"), {"XDG_STATE_HOME": "/tmp/no-record"}
    follower = project.start_command("attach", *named, env=without_record)
    follower.wait_for_output("h1 .*line", "h2 .*line")
    elsewhere = project.run_fanout("stop", *named, env=without_record)
    assert elsewhere.code == 0, elsewhere.all
    assert "nothing is left" in elsewhere.err, elsewhere.all
    assert run.wait_for_end().code == 143
    assert follower.wait_for_end().code == 143
    await_no_instance(engines)


def test_an_instance_of_the_user_is_entered_and_stays(project: Project, engines: list[Apptainer]) -> None:
    project.write_hostfile("h1 slots=1 user=root\nh2 slots=1 user=root\n")
    project.write_file("fanout.toml", 'container = "work"\nengine = "apptainer"\n')
    done = project.run_fanout("run", "--skip-check", "hosts.txt", "task.py")
    assert "h1: unreachable: instance work: apptainer has no such instance of this user" in done.err, done.all
    assert "ssh root@h1 apptainer instance list" in done.err, done.all
    for engine in engines:
        engine.run_apptainer("instance", "start", *list_binds(), "--bind", HERE, IMAGE, "work")
    project.write_train_script('echo "in $APPTAINER_INSTANCE: $1"; [ "$NODE_RANK" = 0 ]\n')
    done = project.run_fanout("run", "--skip-check", "hosts.txt", "task.py")
    assert done.code == 1, done.all
    assert "in work: task.py" in done.out, done.all
    assert "left behind  nothing: verified on both hosts" in done.err, done.all
    done = project.run_fanout("exec", "hosts.txt", "--", "echo $APPTAINER_INSTANCE; exit 4")
    assert (done.code, done.out.strip()) == (4, "h[1-2] (2)  exit 4: work"), done.all
    done = project.run_fanout("check", "--only", "python,workdir", "hosts.txt")
    assert done.code == 0, done.all
    for engine in engines:
        engine.run_apptainer("instance", "stop", "-F", "work")


def list_binds() -> list[str]:
    """Return the arguments that mount the programs."""
    return [word for path in list_mounts() for word in ("--bind", f"{path}:{path}")]


def test_a_start_without_python_leaves_nothing_and_the_block_of_a_dry_run_works(
    project: Project, engines: list[Apptainer]
) -> None:
    project.write_train_script('echo "block $NODE_RANK in $PWD" "$@"\n')
    block = project.run_fanout("run", "-n", "hosts.txt", "task.py", "it's").out.split("\n\n")[1]
    shell = engines[1].host.run_program(["sh", "-s"], env={"PATH": ENVIRONMENT_PATH}, stdin=block, check=True)
    assert shell.stdout == f"block 1 in {HERE} task.py it's\n"
    project.write_hostfile(HOSTFILE.replace("\n", " python=/none/python3\n"))
    done = project.run_fanout("run", "--skip-check", "hosts.txt", "task.py")
    assert f"image {IMAGE}: no /none/python3 in it" in done.err, done.all
    assert [engine.list_output_files() for engine in engines] == [[], []]
