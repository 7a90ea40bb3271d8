"""The question of a sync through the real relay: broken connections, two syncs at once, a live run, a slow reader."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from fanout.agent import frames
from fanout.sync import upload
from fanout.sync.project_files import Project, read_project
from tests.agent.agents import Agent, list_pythons, wait_for
from tests.sync.projects import read_files, write_files

pytestmark = pytest.mark.process


class SyncAgent:
    """A sync with one agent, one step at a time."""

    def __init__(self, agent: Agent, target: Path, *, by: str = "ann@laptop") -> None:
        self.agent = agent
        args = {"target": str(target), "dry_run": False, "by": by}
        agent.send_operation("ask", id=1, what="sync", args=args, timeout=600, input=1)

    def send_bytes(self, data: bytes) -> None:
        self.agent._write_bytes(frames.pack_data(1, 0, data))

    def receive_answer(self) -> dict[str, Any]:
        answer = self.agent.receive_message("answer")
        return answer["value"] if not answer["error"] else {"error": answer["error"]}

    def send_manifest(self, project: Project) -> dict[str, Any]:
        """Send tokens and manifest; return the comparison, or the error."""
        answer = self.receive_answer()
        if "error" in answer:
            return answer
        self.send_bytes(upload.pack_tokens([answer["token"]]))
        assert self.receive_answer() == {"state": "shared", "seen": [0]}
        self.send_bytes(upload.pack_roles(writes=True) + b"".join(upload.iter_manifest_pieces(project.manifest)))
        return self.receive_answer()

    def send_files(self, project: Project, rows: tuple[int, ...]) -> None:
        for piece in upload.iter_file_pieces(project.top, project.manifest, rows):
            self.send_bytes(piece)


def wait_for_clean(target: Path) -> None:
    """Wait until the directory has no temporary file and no token."""
    wait_for(
        lambda: not [name for name in os.listdir(target) if name.startswith(".fanout-sync-")],
        "the end of temporary files",
    )


def make_project(top: Path) -> Project:
    write_files(top, {"a.py": b"new", "big.bin": bytes(range(256)) * 12000})
    return read_project(str(top), {"PATH": "/usr/bin"}, add=(), big=False)


@pytest.mark.parametrize("python", list_pythons())
def test_files_arrive_through_the_relay(state: Path, tmp_path: Path, python: str) -> None:
    project, target = make_project(tmp_path / "s"), tmp_path / "t"
    with Agent(state, python=python) as agent:
        sync = SyncAgent(agent, target)
        assert sync.send_manifest(project)["codes"] == "++"
        sync.send_files(project, (0, 1))
        sync.send_bytes(upload.pack_commit(delete=False))
        answers = [sync.receive_answer()]
        while answers[-1]["state"] == "received":
            answers.append(sync.receive_answer())
    assert len(answers) > 3, "the host acknowledges a part of the bytes at a time"
    assert answers[-1] == {"state": "done", "written": 2, "deleted": 0, "changed": []}
    assert read_files(target) == read_files(tmp_path / "s")


@pytest.mark.parametrize("ends_by", ["connection", "cancel"])
def test_a_sync_that_ends_in_the_middle_leaves_the_old_files_only(state: Path, tmp_path: Path, ends_by: str) -> None:
    project, target = make_project(tmp_path / "s"), tmp_path / "t"
    write_files(target, {"a.py": b"old"})
    with Agent(state) as agent:
        sync = SyncAgent(agent, target)
        assert sync.send_manifest(project)["codes"] == "~+"
        sync.send_files(project, (0, 1))
        while sync.receive_answer()["bytes"] < 2_000_000:
            pass
        assert [path for path in target.iterdir() if path.name.startswith(".fanout-sync-")]
        if ends_by == "cancel":
            agent.send_operation("cancel", id=1)
            wait_for_clean(target)
    wait_for_clean(target)
    assert read_files(target) == {"a.py": b"old"}


def test_a_second_sync_of_a_directory_is_refused_and_names_the_first(state: Path, tmp_path: Path) -> None:
    project, target = make_project(tmp_path / "s"), tmp_path / "t"
    with Agent(state) as first, Agent(state) as second:
        sync = SyncAgent(first, target)
        assert "codes" in sync.send_manifest(project)
        refused = SyncAgent(second, target, by="bob@desk").send_manifest(project)
        assert refused == {"error": f"another sync writes to {target}: that of ann@laptop"}
    wait_for_clean(target)
    assert read_files(target) == {}


def test_a_directory_with_a_live_run_is_refused(state: Path, tmp_path: Path) -> None:
    project, target = make_project(tmp_path / "s"), tmp_path / "t"
    (target / "sub").mkdir(parents=True)
    with Agent(state) as runner, Agent(state) as agent:
        runner.start_run("read line < /dev/tty || sleep 100", target / "sub")
        refused = SyncAgent(agent, target).send_manifest(project)
        assert "is alive in" in refused["error"]
        assert "fanout stop" in refused["error"]
        runner.send_operation("kill")
        runner.end_run()
    assert read_files(target) == {}


def test_a_host_that_does_not_write_deletes_its_token_before_it_answers(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        sync = SyncAgent(agent, tmp_path / "t")
        token = sync.receive_answer()["token"]
        assert os.listdir(tmp_path / "t") == [token]
        sync.send_bytes(upload.pack_tokens([token]))
        sync.receive_answer()
        sync.send_bytes(upload.pack_roles(writes=False))
        assert sync.receive_answer() == {"state": "left"}
        assert os.listdir(tmp_path / "t") == []


def test_bytes_for_no_question_are_dropped(state: Path) -> None:
    with Agent(state) as agent:
        agent._write_bytes(frames.pack_data(7, 0, b"x" * 100_000))
        agent.send_operation("ask", id=2, what="clock", args={}, timeout=30)
        assert agent.receive_message("answer")["error"] == ""


def test_an_invalid_record_is_an_error_of_the_question(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        sync = SyncAgent(agent, tmp_path / "t")
        token = sync.receive_answer()["token"]
        sync.send_bytes(upload.pack_tokens([token]))
        sync.receive_answer()
        sync.send_bytes(upload.pack_roles(writes=True))
        sync.send_bytes(struct.pack("!cII", b"M", 0, 1 << 30))
        assert "a record of" in sync.receive_answer()["error"]
