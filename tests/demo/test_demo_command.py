"""`fanout demo` as a user calls it: in any directory, without torch, and for each failure that it can show."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fanout.cli.parser import parse_arguments
from fanout.commands.demo import FAILURES, choose_directory, choose_job, run_demo
from fanout.demo import embedded_lab
from fanout.demo.power_switch import PowerSwitch
from fanout.model.errors import UsageError
from fanout.model.option_table import options_of
from tests.demo.demo_client import log_in, run_command
from tests.process_contexts import build_process

ROOT = Path(__file__).parents[2]
SEEN = {  # the first cause in the headline of the report, by the failure
    "oom": r"FAILED after .*: rank 1 on 127\.0\.0\.3 ran out of memory",
    "hang": r"HUNG.*: rank 1 on 127\.0\.0\.3 is in get \(task\.py:\d+\) while the others wait in all_reduce",
    "import": r"FAILED after .*: rank 1 on 127\.0\.0\.3 has no module demo_missing_module",
    "lost-host": r"FAILED after .*: 127\.0\.0\.3 was lost",
}


def run_fanout_demo(directory: Path, *words: str, with_torch: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the demo outside of a checkout, without an active environment.

    Without torch, fanout runs with the Python below its own environment, in which no torchrun is installed.
    """
    environ = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(directory),
        "XDG_STATE_HOME": str(directory / "state"),
    }
    place = directory / "anywhere"
    place.mkdir()
    python = sys.executable
    if not with_torch:
        python = getattr(sys, "_base_executable")  # noqa: B009
        environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *(path for path in sys.path if "site-packages" in path)])
    argv = [python, "-m", "fanout", "demo", *words]
    done = subprocess.run(argv, cwd=place, env=environ, capture_output=True, text=True, timeout=110, check=False)
    assert list(place.iterdir()) == [], "the demo left files behind"
    return done


@pytest.mark.process
def test_hello_runs_on_two_hosts_in_any_directory(tmp_path: Path) -> None:
    done = run_fanout_demo(tmp_path, "--hello")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the sum of all ranks is 1 over 2 ranks: right" in done.stdout
    assert (
        "fanout: $ fanout run -C .demo/project --ssh-config .demo/ssh_config .demo/hosts.txt task.py hello"
        in done.stderr
    )


@pytest.mark.process
def test_training_needs_neither_a_checkout_nor_torch(tmp_path: Path) -> None:
    done = run_fanout_demo(tmp_path, with_torch=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "torch is not installed here: the demo trains a small model with Python alone" in done.stderr
    losses = [float(loss) for loss in re.findall(r"step \d+/60 loss (\S+)", done.stdout)]
    assert losses[-1] < losses[0] / 10
    assert "All checks passed." in done.stdout


@pytest.mark.process
def test_training_outside_of_a_checkout_uses_torch(tmp_path: Path) -> None:
    done = run_fanout_demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fanout: $ fanout run -C .demo/project" in done.stderr
    losses = [float(loss) for loss in re.findall(r"\| step \d+/60 loss (\S+)", done.stdout)]
    assert losses[-1] < losses[0] / 10


@pytest.mark.process
@pytest.mark.parametrize("kind", sorted(FAILURES))
def test_each_failure_has_its_own_diagnosis(tmp_path: Path, kind: str) -> None:
    done = run_fanout_demo(tmp_path, "--fail", kind)
    text = done.stdout + done.stderr
    assert done.returncode == {"hang": 125, "lost-host": 255}.get(kind, 1), text
    assert re.search(SEEN[kind], text), text
    if kind == "lost-host":
        assert "left behind  unknown: could not verify 127.0.0.3" in text
        assert re.search(r"127\.0\.0\.\[2-3\]: stopped, nothing is left", text.split("the network works again")[1])


def test_the_option_and_the_command_know_the_same_failures() -> None:
    (option,) = [option for option in options_of("demo") if option.long_flag == "--fail"]
    assert set(option.choices) == set(FAILURES)


@pytest.mark.parametrize("words", [("--stay", "--hello"), ("--hello", "--fail", "oom"), ("--stay", "--fail", "oom")])
def test_two_kinds_of_demo_are_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        run_demo(parse_arguments(["demo", *words]), build_process(tmp_path, io.StringIO()), parse_arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_checkout_without_torch_trains_with_python_alone(tmp_path: Path) -> None:
    for name in ("tasks/train_llada2_bd.py", "configs/sft/llada2_mini_bd_sft.yaml", "bin/torchrun"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "bin/torchrun").chmod(0o755)
    request = parse_arguments(["demo"])
    with_torch = build_process(tmp_path, io.StringIO(), environ={"VIRTUAL_ENV": str(tmp_path)})
    assert choose_job(request, with_torch).words[0] == "tasks/train_llada2_bd.py"
    assert choose_job(request, build_process(tmp_path, io.StringIO())).note.startswith("torch is not installed here")
    assert choose_job(request, build_process(tmp_path / "bin", io.StringIO())).words == ("task.py", "train")
    assert choose_job(request, replace(with_torch, cwd=str(tmp_path / "bin"))).words == ("torch_task.py",)


def test_the_demo_uses_a_temporary_directory_where_it_cannot_make_one(tmp_path: Path) -> None:
    assert choose_directory(build_process(tmp_path, io.StringIO())) == ".demo"
    odd, gone = tmp_path / "50%", tmp_path / "gone"
    odd.mkdir()
    for place in (odd, gone):
        assert os.path.isabs(choose_directory(build_process(place, io.StringIO())))


def test_hosts_find_a_python_where_the_usual_path_has_none(tmp_path: Path) -> None:
    assert embedded_lab.choose_path(os.path.dirname(sys.executable)) == os.path.dirname(sys.executable)
    assert embedded_lab.choose_path(str(tmp_path)).split(":") == [str(tmp_path), os.path.dirname(sys.executable)]


@pytest.mark.process
def test_the_power_switch_disconnects_one_host_until_it_is_opened_again(tmp_path: Path) -> None:
    with embedded_lab.open_lab(tmp_path / "lab") as lab:
        first, second = lab.servers
        path = tmp_path / "lab" / "power-switch"
        with PowerSwitch(path, {"127.0.0.3": second}), log_in(lab, 1) as client:
            with open(path, "wb", buffering=0) as switch:
                switch.write(b"127.0.0.3")
            client.join(10)
            assert not client.is_alive()
            with pytest.raises(OSError, match="refused"), log_in(lab, 1):
                pass
            with log_in(lab, 0) as other:
                assert run_command(other, "echo here").out == b"here\n"
        second.reopen()
        first.reopen()  # it was never closed
        with log_in(lab, 1) as client:
            assert run_command(client, "echo again").out == b"again\n"
    assert list(tmp_path.iterdir()) == []
