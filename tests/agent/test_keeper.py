"""Real keepers and relays over pipes: exit, log bytes, environment, and that nothing is left."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanout.agent import log_sender
from tests.agent.agents import Agent, build_mark, build_spec, list_processes_of, list_pythons

pytestmark = pytest.mark.process
every_python = pytest.mark.parametrize("python", list_pythons(), ids=lambda path: Path(path).parent.parent.name)


def run_script(
    state: Path, cwd: Path, script: str, env: dict[str, Any] | None = None, **rest: Any
) -> tuple[Any, Any, bytes]:
    with Agent(state) as agent:
        agent.start_run(script, cwd, env, **rest)
        return agent.end_run()


# ------------------------------------------------------------------------------------------------------------- the exit


@every_python
def test_a_run_from_prepare_to_bye(state: Path, tmp_path: Path, python: str) -> None:
    with Agent(state, python=python) as agent:
        agent.start_run("echo out; echo err >&2; exit 3", tmp_path)
        exited, gone, output = agent.end_run()
    assert (exited["code"], exited["signal"]) == (3, None)
    assert (gone["killed"], gone["left"], gone["dropped"]) == (0, [], 0)
    assert output == b"out\nerr\n"
    assert not state.exists()


@pytest.mark.parametrize(
    ("script", "code", "signal"),
    [
        ("exit 0", 0, None),
        ("exit 255", 255, None),
        ("kill -KILL $$", None, 9),
        ("kill -TERM $$", None, 15),
        ("kill -SEGV $$", None, 11),
        ("false | true", 0, None),
        ("set -o pipefail; false | tee /dev/null", 1, None),
    ],
)
def test_the_exit_is_reported_exactly(
    state: Path, tmp_path: Path, script: str, code: int | None, signal: int | None
) -> None:
    exited, _, _ = run_script(state, tmp_path, script)
    assert (exited["code"], exited["signal"]) == (code, signal)


@pytest.mark.parametrize(
    ("name", "mode", "code", "why"),
    [
        ("nowhere", None, 127, "not found on PATH"),
        ("./plain", 0o644, 126, "Permission denied"),
        ("./broken", 0o755, 127, "No such file"),
        ("./nowhere", None, 127, "No such file"),
    ],
)
def test_a_script_that_cannot_start_has_the_status_of_the_shell(
    state: Path, tmp_path: Path, name: str, mode: int | None, code: int, why: str
) -> None:
    if mode is not None:
        (tmp_path / name).write_text("#!/no/such/interpreter\n")
        (tmp_path / name).chmod(mode)
    with Agent(state) as agent:
        agent.prepare_run([name], tmp_path)
        agent.send_go()
        exited, gone, _ = agent.end_run()
    assert exited["code"] == code
    assert why in exited["why"]
    assert gone["left"] == []


@pytest.mark.parametrize(("mode", "code"), [(None, 127), (0o644, 126), (0o755, 127)])
def test_the_report_of_a_failed_start_does_not_contain_the_users_path(
    state: Path, tmp_path: Path, mode: int | None, code: int
) -> None:
    folder = tmp_path / "hunter2zzz"
    folder.mkdir()
    if mode is not None:
        (folder / "program").write_text("#!/no/such/interpreter\n")
        (folder / "program").chmod(mode)
    with Agent(state) as agent:
        agent.prepare_run(["program"], tmp_path)
        agent.send_go({"PATH": f"{folder}:/nowhere"})
        exited, _, _ = agent.end_run()
    assert exited["code"] == code
    assert exited["why"].startswith("program: ")
    assert "hunter2zzz" not in str(agent.received)


# ------------------------------------------------------------------------------------------------------------ the bytes


@every_python
def test_every_byte_arrives_in_order_and_the_checksum_agrees(state: Path, tmp_path: Path, python: str) -> None:
    with Agent(state, python=python) as agent:
        agent.start_run("head -c 3000000 /dev/urandom | tee copy", tmp_path)
        _, gone, output = agent.end_run()
    assert output == (tmp_path / "copy").read_bytes()
    assert gone["sizes"] == {"0": 3_000_000}
    assert gone["crc"] == {"0": zlib.crc32(output)}


def test_a_script_reads_nothing_from_the_keeper(state: Path, tmp_path: Path) -> None:
    assert run_script(state, tmp_path, "cat; echo end")[2] == b"end\n"


def test_a_full_disk_costs_log_bytes_but_not_the_exit(state: Path, tmp_path: Path) -> None:
    """A file size limit simulates the full disk: bytes that cannot be written are counted, and training continues."""
    with Agent(state) as agent:
        assert agent.prepare_run(["bash", "-c", "head -c 300000 /dev/zero; exit 3"], tmp_path)["t"] == "prepared"
        keeper = agent.received[-1]["pid"]
        resource.prlimit(keeper, resource.RLIMIT_FSIZE, (100_000, 100_000))
        agent.send_go()
        exited, gone, output = agent.end_run()
    assert exited["code"] == 3
    assert len(output) == 100_000
    assert gone["dropped"] == 200_000


# ------------------------------------------------------------------------------------------------------ the environment

ANYTHING = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
NASTY = st.one_of(ANYTHING, st.text("'\"$`\\!{}()*?~#&|;<> \n\t%äA0/:=-", max_size=12))
TELL = "import json,os,sys;print(json.dumps([os.getcwd(),sys.argv[1:],dict(os.environ)]))"


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(NASTY, min_size=1, max_size=4), words=st.lists(NASTY, max_size=3))
def test_every_value_and_argument_arrives_byte_for_byte(
    state: Path, tmp_path: Path, locale: str, values: list[str], words: list[str]
) -> None:
    env = {f"A_{at}": value for at, value in enumerate(values)}
    with Agent(state, LC_ALL=locale) as agent:
        agent.prepare_run([sys.executable, "-I", "-X", "utf8", "-c", TELL, *words], tmp_path)
        agent.send_go(env)
        exited, _, output = agent.end_run()
    assert exited["code"] == 0
    cwd, argv, seen = json.loads(output)
    assert (cwd, argv) == (str(tmp_path), words)
    assert {name: seen[name] for name in env} == env


@pytest.mark.parametrize(
    ("login", "plan", "value"),
    [
        ({}, {"before": ["v"], "after": [""]}, "{cwd}/v:{cwd}"),
        ({"X": ""}, {"before": ["v"], "after": [""]}, "{cwd}/v:{cwd}"),
        ({"X": "/a:/b"}, {"before": ["v", "/w"], "after": [""]}, "{cwd}/v:/w:/a:/b:{cwd}"),
        ({"X": "/a"}, {"before": ["/w"], "if": "nowhere"}, "/a"),
        ({"X": "/a"}, {"before": ["/w"], "if": "."}, "/w:/a"),
        ({}, {"default": "1"}, "1"),
        ({"X": ""}, {"default": "1"}, "1"),
        ({"X": "8"}, {"default": "1"}, "8"),
        ({}, {"default": "1", "if": "/nowhere"}, ""),
        ({"X": "8"}, "1", "1"),
    ],
)
def test_lists_and_defaults_are_expanded_on_the_host(
    state: Path, tmp_path: Path, login: dict[str, str], plan: Any, value: str
) -> None:
    with Agent(state, **login) as agent:
        agent.start_run('printf %s "$X"', tmp_path, {"X": plan})
        _, _, output = agent.end_run()
    assert output.decode() == value.format(cwd=tmp_path)


def test_the_script_does_not_see_variables_of_the_login(state: Path, tmp_path: Path) -> None:
    with Agent(state, SSH_CONNECTION="1 2 3 4", SSH_TTY="/dev/pts/0") as agent:
        agent.start_run("env", tmp_path)
        _, _, output = agent.end_run()
    names = {line.partition(b"=")[0] for line in output.splitlines()}
    assert not names & {b"SSH_CONNECTION", b"SSH_TTY", b"FANOUT_STATE"}
    assert {b"FANOUT_RUN_ID", b"FANOUT_NODE", b"PATH", b"PWD"} <= names


def test_a_secret_is_in_no_command_line_and_in_no_file(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        agent.start_run("echo here; read -r line < <(sleep 60)", tmp_path, {"HF_TOKEN": "hf_very_secret"})
        agent.wait_for_output(b"here\n")
        lines = [Path(f"/proc/{pid}/cmdline") for pid in os.listdir("/proc") if pid.isdigit()]
        kept = [path for path in state.rglob("*") if path.is_file()]
        assert len(kept) >= 2
        assert not [path for path in lines + kept if b"hf_very_secret" in read_if_there(path)]
        agent.send_operation("kill")
        agent.end_run()


def read_if_there(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # the process has just ended


# ------------------------------------------------------------------------------------------------------ prepare and go


@pytest.mark.parametrize(
    ("rest", "kind", "says"),
    [
        ({"cwd": "/no/such/place"}, "no-directory", "no directory /no/such/place on this host"),
        ({"required_files": ["train.sh"]}, "no-script", "no file train.sh in "),
    ],
)
def test_a_missing_program_is_reported_before_anything_starts(
    state: Path, tmp_path: Path, rest: dict[str, Any], kind: str, says: str
) -> None:
    with Agent(state) as agent:
        agent.send_operation("prepare", **{**build_spec(["true"], tmp_path), **rest})
        refused = agent.receive_message("refused", "prepared")
        assert (refused["t"], refused["kind"]) == ("refused", kind)
        assert says in refused["message"]
        assert refused["hint"]
        agent.release_run()
    assert not state.exists()


def test_another_run_is_refused_with_the_name_of_the_holder(state: Path, tmp_path: Path) -> None:
    with Agent(state) as first, Agent(state) as second:
        first.start_run("sleep 60", tmp_path, run="mine")
        refused = second.prepare_run(["true"], tmp_path, run="other", by="you@pc")
        assert refused["kind"] == "busy"
        assert "port-29500 is held by run mine of me@pc since 20" in refused["message"]
        assert second.prepare_run(["true"], tmp_path, run="third", claims=["port-29501"])["t"] == "prepared"
        second.send_operation("stop", grace=0.0, why="enough")
        second.receive_message("cleaned_up")
        second.release_run()
        first.send_operation("kill")
        first.end_run()
    assert not state.exists()


def test_the_same_run_twice_is_started_once(state: Path, tmp_path: Path) -> None:
    with Agent(state) as first, Agent(state) as second:
        for agent in (first, second):
            assert (
                agent.prepare_run(["bash", "-c", "echo once >>count; cat count; sleep 60"], tmp_path)["t"] == "prepared"
            )
        for agent in (first, second, first):
            agent.send_go()
        assert first.receive_message("started") == second.receive_message("started")
        for agent in (first, second):
            agent.wait_for_output(b"once\n")
        first.send_operation("kill")
        assert first.receive_message("cleaned_up") == second.receive_message("cleaned_up")
        first.release_run()
        second.release_run()
    assert (tmp_path / "count").read_text() == "once\n"
    assert not state.exists()


def test_a_stop_before_go_undoes_prepare(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        agent.prepare_run(["bash", "-c", "touch started"], tmp_path)
        agent.send_operation("stop", grace=0.0, why="another host refused")
        assert agent.receive_message("cleaned_up")["killed"] == 0
        agent.release_run()
    assert not (tmp_path / "started").exists()
    assert not state.exists()


def test_a_release_before_prepare_leaves_nothing(state: Path) -> None:
    with Agent(state) as agent:
        agent.release_run()
    assert not state.exists()
    assert list_processes_of(state) == []


def test_a_missing_run_cannot_be_attached(state: Path) -> None:
    with Agent(state) as agent:
        agent.attach_run(run="never")
        refused = agent.receive_message("refused")
        assert (refused["kind"], refused["message"]) == ("no-run", "no record of run never on this host")
    assert build_mark("never", 0) == ["FANOUT_RUN_ID=never", "FANOUT_NODE=0"]


@pytest.mark.parametrize("says", ["echo line $i", "printf 'line %01000d\\n' $i"])
def test_a_slow_log_arrives_in_pieces_with_pauses_and_its_end_at_once(says: str, state: Path, tmp_path: Path) -> None:
    """Each piece has a cost. The pauses together cannot be longer than the run, even on a slow machine."""
    with Agent(state) as agent:
        began = time.monotonic()
        agent.start_run(f"for i in {{1..400}}; do {says}; sleep 0.002; done; echo done", tmp_path)
        agent.wait_for_output(b"400\n")
        took = time.monotonic() - began
        assert sum(map(log_sender.compute_pause, agent.pieces[:-3])) <= took  # the last pieces may be sent at once
        assert agent.end_run()[0]["code"] == 0
        assert agent.output[0].endswith(b"done\n")


def test_a_larger_piece_has_a_longer_pause() -> None:
    assert (
        log_sender.compute_pause(1) == log_sender.compute_pause(log_sender.SMALL_PIECE_BYTES) == log_sender.PACE_SECONDS
    )
    assert log_sender.compute_pause(log_sender.SMALL_PIECE_BYTES + 1) == 2 * log_sender.PACE_SECONDS
