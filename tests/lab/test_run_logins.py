"""Login shells and rc files as they are found in labs: none of them gets into a run, its log or its exports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.lab.drive import Project, lines_of
from tests.lab.lab import Lab
from tests.lab.oracle import assert_clean
from tests.lab.specs import HostSpec

NOISE = 'echo "@0123456789abcdef READY 3.11"; echo noise; printf "no newline"; echo error >&2\n'
WRONG = "export PYTHONPATH=/nowhere:/wrong OMP_NUM_THREADS=7 MASTER_ADDR=10.0.0.9 NODE_RANK=5 BASH_ENV=/nowhere\n"
SPECS = [
    HostSpec(name="plain", dotfiles={".bashrc": NOISE + WRONG + "read -t 0.1 line\n"}),
    HostSpec(name="small", shell="/bin/dash", dotfiles={".profile": NOISE}),
    HostSpec(name="zed", shell="/usr/bin/zsh", dotfiles={".zshenv": NOISE + WRONG}),
    HostSpec(name="fishy", shell="/usr/bin/fish", dotfiles={".config/fish/config.fish": "echo noise\n"}),
]
NOISY = ("plain", "zed", "fishy")  # dash reads no file of its own when ssh runs a command
SHOW = 'echo "$NODE_RANK $MASTER_ADDR $OMP_NUM_THREADS $PYTHONPATH"\n'


@pytest.fixture(scope="module")
def machines() -> Iterator[Lab]:
    with Lab(SPECS, shared="/home/lab/shared") as lab:
        yield lab


@pytest.fixture
def project(machines: Lab) -> Iterator[Project]:
    machines.reset_machines()
    with closing(Project(machines)) as project:
        yield project
    assert_clean(machines)


def test_any_login_shell_and_any_noise(project: Project) -> None:
    """Forged agent lines, prompts that read, wrong exports: ours win, what the user added to PYTHONPATH stays."""
    project.write_train_script(SHOW)
    done = project.run_fanout("run", "--stacks", "off", "hosts.txt", "task.py")
    assert done.code == 0, done.all
    here, first = project.here, project.lab.hosts[0].address
    for rank, spec in enumerate(SPECS):
        wrong = WRONG in "".join(spec.dotfiles.values())
        added, threads = ("/nowhere:/wrong:", 7) if wrong else ("", 1)
        expected = [f"{rank} {first} {threads} {here}/VeOmni:{added}{here}"]
        assert lines_of(done.out, spec.name) == expected, done.all
        assert project.read_log(spec.name).decode().splitlines() == expected
    assert "READY" not in done.out + done.err


@pytest.mark.parametrize("name", NOISY)
def test_the_check_reports_the_noise_of_each_shell(project: Project, name: str) -> None:
    """Print text, then wait, then run the command; the host is alone, so no slower host hides a lost event."""
    project.write_file("one.txt", f"{name} slots=1\n")
    done = project.run_fanout("check", "--only", "login-noise", "one.txt")
    assert "the login prints" in done.out, done.all
    assert done.code == 0, done.all


def test_one_check_reports_the_noise_of_all_hosts(project: Project) -> None:
    """Noise harms no run, but it breaks rsync and scp: it is a line of the check."""
    done = project.run_fanout("check", "hosts.txt")
    assert "login-noise" in done.out, done.all
    assert done.code == 0, done.all
