"""Probes on this machine: each reports what exists, bounds what may hang, and leaves nothing behind."""

from __future__ import annotations

import ast
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fanout.agent import processes
from fanout.agent.probes import facts as probes_facts
from fanout.agent.probes import files, registry, source_tree, tcp
from fanout.agent.probes.probe_tools import FactUnavailable, ForkedCall, ToolProcess
from fanout.model.rpc import ProbeRequest
from tests.checks.kit import ForkingAsker
from tests.processes import join_threads, reap_child

AGENT = Path(registry.__file__).parent.parent
KEY = "00112233445566778899aabbccddeeff"


@contextmanager
def open_listener(port: int = 0, key: str = KEY) -> Iterator[dict[str, Any]]:
    """Run the real probe, listening in a child of this process."""
    asker = ForkingAsker()
    (answer,) = asker.ask(
        [ProbeRequest(host="h", what="listen", args={"port": port, "key": key, "seconds": 20}, timeout=10)]
    )
    try:
        yield answer.value
    finally:
        asker.close()


@contextmanager
def start_server(reply: bytes) -> Iterator[int]:
    """Start another server that answers: it sends ``reply`` to its first client, and closes the connection."""

    def serve_client() -> None:
        peer, _ = listening.accept()
        with peer:
            peer.recv(200)
            peer.sendall(reply)

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=serve_client)
        thread.start()
        yield listening.getsockname()[1]
        join_threads(thread)


def dial_port(port: int, addr: str = "127.0.0.1", key: str = KEY, **more: Any) -> dict[str, Any]:
    (result,) = tcp.ask_dial({"targets": [{"addr": addr, "port": port, "key": key}], "timeout": 2, **more})["results"]
    return dict(result)


# -- rules for the probes


@pytest.mark.parametrize("path", sorted((AGENT / "probes").glob("[a-z]*.py")), ids=lambda path: path.name)
def test_probes_are_python_3_8_and_import_the_standard_library_and_each_other(path: Path) -> None:
    """They run on hosts with any Python from 3.8."""
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert all(alias.name.partition(".")[0] in sys.stdlib_module_names for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level in (1, 2) or (node.module or "").partition(".")[0] in sys.stdlib_module_names


# -- listeners and connections


@pytest.mark.process
@pytest.mark.parametrize("size", [0, 1 << 18])
def test_the_right_listener_is_known_by_its_answer(size: int) -> None:
    """The listener answers a challenge with its HMAC; bulk data flows in both directions."""
    with open_listener() as answer:
        result = dial_port(answer["port"], bytes=size)
    assert result["outcome"] == "ok"
    assert result["source"] == "127.0.0.1"
    assert ("bulk" in result) == bool(size)


@pytest.mark.process
def test_another_check_s_listener_is_an_impostor() -> None:
    """It uses our protocol with another key: it belongs to another host or to another check."""
    with open_listener(key="ff" * 16) as answer:
        assert dial_port(answer["port"])["outcome"] == "impostor"


@pytest.mark.process
def test_many_connect_at_once() -> None:
    """Sixty connections to one listener, each answered."""
    with open_listener() as answer:
        targets = [{"addr": "127.0.0.1", "port": answer["port"], "key": KEY}] * 60
        results = tcp.ask_dial({"targets": targets, "timeout": 5, "bytes": 1000})["results"]
    assert {result["outcome"] for result in results} == {"ok"}


@pytest.mark.process
def test_a_closed_port_is_refused() -> None:
    """No process listens on it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        assert dial_port(probe.getsockname()[1])["outcome"] == "refused"


@pytest.mark.process
def test_a_full_backlog_looks_like_a_firewall_that_drops_packets() -> None:
    """The first packet has no answer: the time is bounded and reported."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.socket() as first, socket.socket() as second:
            for link in (first, second):
                link.setblocking(False)
                link.connect_ex(full.getsockname())
            result = dial_port(full.getsockname()[1], timeout=0.3)
    assert result["outcome"] in ("dropped", "silent")
    assert result["seconds"] < 2


@pytest.mark.process
def test_another_server_is_shown_by_its_first_bytes() -> None:
    """A proxy answers HTTP; its control characters cannot harm a terminal."""
    with start_server(b"HTTP/1.1 400 Bad\x1b[2J Request\r\n\r\n") as port:
        result = dial_port(port)
    assert (result["outcome"], result["first"]) == ("stranger", "HTTP/1.1 400 Bad.[2J Request")


@pytest.mark.process
def test_a_server_that_sends_nothing_is_silent() -> None:
    """It accepts the connection and closes it."""
    with start_server(b"") as port:
        assert dial_port(port)["outcome"] == "silent"


def test_a_name_that_does_not_resolve_is_reported_as_such() -> None:
    """Names and connections fail separately; no packet is sent for an empty label."""
    assert dial_port(1, addr="no such name")["outcome"] == "unresolvable"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (OSError(errno.ECONNREFUSED, "x"), "refused"),
        (OSError(errno.EHOSTUNREACH, "x"), "rejected"),
        (OSError(errno.ENETUNREACH, "x"), "no-route"),
        (OSError(errno.ETIMEDOUT, "x"), "dropped"),
        (TimeoutError("x"), "dropped"),
        (OSError(errno.EINVAL, "x"), "error"),
    ],
)
def test_each_kind_of_failure_has_its_name(error: OSError, outcome: str) -> None:
    """Torch prints one sentence for all of these."""
    assert tcp._classify_error(error)["outcome"] == outcome


@pytest.mark.process
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_names_its_holder(address: str) -> None:
    """Even a listener on loopback blocks the wildcard address that torch binds; the pid is ours, so it is visible."""
    with socket.socket() as holder:
        holder.bind((address, 0))
        holder.listen()
        with open_listener(port=holder.getsockname()[1]) as answer:
            assert answer["error"] == "EADDRINUSE"
            assert answer["holder"]["pid"] == os.getpid()
            assert answer["holder"]["uid"] == os.getuid()
            assert answer["holder"]["listening"]
            assert answer["holder"]["age"] > 0


@pytest.mark.process
def test_a_child_that_inherited_the_socket_is_not_blamed() -> None:
    """This holds also if its pid is the smaller one: as root the next pid is set below ours, as after a wrap."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with suppress(OSError):
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(max(300, os.getpid() - 500)))
        child = os.fork()
        if not child:
            signal.pause()
        try:
            assert tcp.find_owner(holder.getsockname()[1])["pid"] == os.getpid()
        finally:
            os.kill(child, signal.SIGKILL)
            reap_child(child)


@pytest.mark.process
def test_the_port_is_free_again_at_once() -> None:
    """The client closes first, so that torch can bind the port at once."""
    with open_listener() as answer:
        assert dial_port(answer["port"])["outcome"] == "ok"
    with tcp.open_listener(answer["port"]) as again:
        assert again.getsockname()[1] == answer["port"]


# -- facts


@pytest.mark.process
def test_facts_contain_every_section_or_a_reason(tmp_path: Path) -> None:
    """No section is left out silently."""
    (tmp_path / "task.py").write_text("x = 1\n")
    args = {"workdir": str(tmp_path), "paths": {"workdir": ".", "task": "task.py", "config": "no.yaml"}, "tree": True}
    facts = probes_facts.ask_facts(args)
    sections = {*probes_facts.QUICK, *probes_facts.GUARDED, *probes_facts.PROGRAMS}
    assert sections == (sections & set(facts)) | set(facts["missing"])
    assert facts["files"]["workdir"]["kind"] == "directory"
    assert facts["files"]["task"]["size"] == 6
    assert facts["files"]["config"]["error"] == "No such file or directory"
    assert facts["tree"]["files"].keys() == {"task.py"}


@pytest.mark.process
def test_facts_change_nothing(tmp_path: Path) -> None:
    """No file in the work directory is created or touched, and no process stays."""
    (tmp_path / "task.py").write_text("import json\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    before = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}
    others = set(processes.descendants(os.getpid()))  # tests before this one have their own
    probes_facts.ask_facts({"workdir": str(tmp_path), "paths": {"task": "task.py"}, "tree": True, "imports": ["json"]})
    assert {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))} == before
    assert set(processes.descendants(os.getpid())) <= others


@pytest.mark.process
def test_a_section_that_hangs_costs_only_its_timeout() -> None:
    """It hangs as a dead file server does; its child is killed."""
    began = time.monotonic()
    with pytest.raises(FactUnavailable, match=r"no answer within 0\.2 s"):
        ForkedCall(signal.pause, 0.2).get_result()
    assert time.monotonic() - began < 30


@pytest.mark.process
def test_a_section_that_fails_has_a_reason() -> None:
    """The reason is the text of the error."""
    with pytest.raises(FactUnavailable, match="ZeroDivisionError: division by zero"):
        ForkedCall(lambda: 1 / 0, 5).get_result()
    with pytest.raises(FactUnavailable, match="the probe died"):
        ForkedCall(lambda: os._exit(9), 5).get_result()


@pytest.mark.process
def test_a_program_that_hangs_is_killed_in_time() -> None:
    """nvidia-smi on a wedged GPU never returns."""
    with pytest.raises(FactUnavailable, match=r"sleep gave no answer within 0\.2 s"):
        ToolProcess(["sleep", "60"], dict(os.environ), 0.2).get_output()


@pytest.mark.process
def test_the_host_id_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated hosts on one machine have an id of their own; otherwise it is the boot id and the network namespace."""
    monkeypatch.delenv("FANOUT_HOST_ID", raising=False)
    real = probes_facts.QUICK["identity"]({})
    assert real["host_id"] == f"{real['boot_id']}/{real['netns']}"
    monkeypatch.setenv("FANOUT_HOST_ID", "h1")
    assert probes_facts.QUICK["identity"]({})["host_id"] == "h1"


def test_only_relevant_variables_leave_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets in the environment stay on the host."""
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    monkeypatch.setenv("PET_NNODES", "2")
    monkeypatch.setenv("https_proxy", "http://ann:secret@proxy:3128")
    environment = probes_facts.QUICK["environment"]({})
    assert "WANDB_API_KEY" not in environment
    assert environment["PET_NNODES"] == "2"
    assert environment["https_proxy"] == "http://***@proxy:3128"


def test_loopback_is_among_the_interfaces() -> None:
    """Our getifaddrs returns what the kernel knows."""
    (loopback,) = [row for row in probes_facts.QUICK["interfaces"]({}) if row["loopback"]]
    assert "127.0.0.1/8" in loopback["addresses"]
    assert loopback["mtu"] > 0


def test_a_script_is_searched_for_the_relevant_names(tmp_path: Path) -> None:
    """Comments do not count, and Windows line ends are detected."""
    script = tmp_path / "train.sh"
    script.write_bytes(b"#!/bin/bash\r\n# conda activate\r\ntorchrun --nnodes=$NNODES 2>&1 | tee log.txt\r\n")
    row = files.describe_path(str(script))
    assert row["crlf"]
    assert row["mentions"] == ["torchrun", "| tee", "NNODES"]


def test_torchrun_is_found_in_the_usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work directory's own environment comes first."""
    for folder in ("proj/.venv/bin", "miniconda3/envs/train/bin"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "torchrun").write_text("")
        (tmp_path / folder / "torchrun").chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    programs = files.find_programs({"workdir": str(tmp_path / "proj")})
    assert programs["found"]["torchrun"] == ""
    assert programs["elsewhere"][0] == f"{tmp_path}/proj/.venv/bin/torchrun"
    assert f"{tmp_path}/miniconda3/envs/train/bin/torchrun" in programs["elsewhere"]


@pytest.mark.process
def test_two_checkouts_of_one_commit_have_one_fingerprint_and_an_edit_is_detected(tmp_path: Path) -> None:
    """Changed code is named; a log file of a run is not code."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    (one / "a.py").write_text("1\n")
    subprocess.run([*git, "init", "-q"], cwd=one, check=True)
    subprocess.run([*git, "add", "."], cwd=one, check=True)
    subprocess.run([*git, "commit", "-qm", "one"], cwd=one, check=True)
    subprocess.run(["git", "clone", "-q", str(one), str(two)], check=True)
    trees = [source_tree.fingerprint_tree({"workdir": str(path), "tree": True}) for path in (one, two)]
    assert trees[0] == trees[1]
    (two / "a.py").write_text("2\n")
    (two / "log.txt").write_text("step 1\n")
    assert source_tree.fingerprint_tree({"workdir": str(two), "tree": True})["dirty"].keys() == {"a.py"}
