"""State directories: claims that end with their holder, and directories that must be private."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fanout.agent import claim_files, state_dir
from tests.processes import hold_process
from tests.skips import needs

ABOUT = {"run": "r1", "by": "me@pc", "since": 1.0, "pid": 7}
OURS = '{"run": "r1"}'.ljust(4096)  # a keeper's status


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "state"
    monkeypatch.setenv("FANOUT_STATE", str(path))
    return state_dir.make_state_dir()


def test_the_directory_belongs_to_the_user_only(root: str) -> None:
    assert os.stat(root).st_mode & 0o777 == 0o700
    assert state_dir.make_state_dir() == root
    assert os.listdir(root) == []


def test_a_claim_excludes_others_and_names_its_holder(root: str) -> None:
    held = claim_files.take_claim(root, "port-1", ABOUT)
    with pytest.raises(claim_files.ClaimHeld) as busy:
        claim_files.take_claim(root, "port-1", {"run": "r2"})
    assert (busy.value.claim, busy.value.holder) == ("port-1", ABOUT)
    claim_files.release_claim(root, "port-1", held)
    assert os.listdir(root) == []
    claim_files.release_claim(root, "port-1", claim_files.take_claim(root, "port-1", ABOUT))


def test_different_claims_are_independent(root: str) -> None:
    held = [claim_files.take_claim(root, name, ABOUT) for name in ("port-1", "port-2", "gpu-0")]
    assert len(os.listdir(root)) == 3
    for name, descriptor in zip(("port-1", "port-2", "gpu-0"), held, strict=True):
        claim_files.release_claim(root, name, descriptor)


@pytest.mark.process
def test_the_claim_of_a_killed_holder_is_free_and_the_next_cleanup_removes_its_file(root: str) -> None:
    source = f"import sys; from fanout.agent import claim_files; claim_files.take_claim({root!r}, 'port-1', {ABOUT!r}); print('held', flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", source]
    with hold_process(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(claim_files.ClaimHeld):
            claim_files.take_claim(root, "port-1", {})
        state_dir.remove_stale_files(root)
        assert os.listdir(root) == ["claim-port-1"]
        holder.send_signal(signal.SIGKILL)
        holder.wait(20)
    state_dir.remove_stale_files(root)
    assert not os.path.exists(root)


def test_a_planted_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "state").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("FANOUT_STATE", str(tmp_path / "state"))
    with pytest.raises(state_dir.NoStateDir, match="already exists and is not a directory"):
        state_dir.make_state_dir()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_directory_that_others_may_enter_is_refused_and_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)
    monkeypatch.setenv("FANOUT_STATE", str(path))
    with pytest.raises(state_dir.NoStateDir, match=f"is open to others \\(mode {mode:o}\\)"):
        state_dir.make_state_dir()
    assert path.stat().st_mode & 0o777 == mode


@needs("root")
def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    os.chown(path, 65534, 65534)
    monkeypatch.setenv("FANOUT_STATE", str(path))
    with pytest.raises(state_dir.NoStateDir, match="belongs to uid 65534, not to this user"):
        state_dir.make_state_dir()


def test_a_planted_claim_is_not_followed(root: str, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (Path(root) / "claim-port-1").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        claim_files.take_claim(root, "port-1", ABOUT)
    assert (tmp_path / "precious").read_text() == "precious"


def test_runs_are_found_by_their_directories(root: str) -> None:
    for name in ("r1.0", "r1.12", "a.b.3", "no-number", "claim-port-1.x"):
        os.mkdir(os.path.join(root, name))
        (Path(root) / name / "status").write_text(OURS)
    assert state_dir.list_runs(root) == [("a.b", 3), ("r1", 0), ("r1", 12)]


def test_removing_a_run_follows_no_link(root: str, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    directory = Path(state_dir.run_path(root, "r1", 0))
    directory.mkdir()
    (directory / "stream-0").symlink_to(tmp_path / "precious")
    (directory / "status").write_text(OURS)
    state_dir.remove_run(root, "r1", 0)
    state_dir.remove_run(root, "r1", 0)
    assert (tmp_path / "precious").read_text() == "precious"
    assert os.listdir(root) == []


PLANTED = {
    "backup.1/model.pt": None,
    "checkpoint.0/status": "short",
    "claim-2026.pdf": "an invoice",
    "claim-port-29500": "not of a keeper",
    "claim-gpu-0.txt": "[1]",
    "unborn-child.d/file": None,
    "unborn-r1.0.notes/file": None,
    ".probe.1.log": None,
    "notes": None,
}


def plant_files(root: str) -> dict[str, str]:
    """Put files of the user into the state directory, under names that look like those of fanout."""
    for name, text in PLANTED.items():
        path = Path(root) / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text or "precious")
    return list_contents(root)


def list_contents(root: str) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in Path(root).rglob("*") if path.is_file()}


def test_files_of_the_user_in_the_state_directory_are_never_taken_for_ours(root: str) -> None:
    before = plant_files(root)
    state_dir.remove_stale_files(root)
    for name in ("backup.1", "checkpoint.0"):
        run, _, node = name.partition(".")
        state_dir.remove_run(root, run, int(node))
    assert list_contents(root) == before
    assert state_dir.list_runs(root) == []


def test_leftovers_of_killed_keepers_are_removed(root: str) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait(20)
    for name in ("claim-port-29500", "claim-gpu-0", f".probe.{dead.pid}"):
        (Path(root) / name).write_text("")
    (Path(root) / f"unborn-r1.0.{dead.pid}p").mkdir()
    state_dir.remove_stale_files(root)
    assert not os.path.exists(root)


@needs("root")
def test_removing_a_run_leaves_a_mounted_file_system_alone(root: str) -> None:
    directory = Path(state_dir.run_path(root, "r1", 0))
    (directory / "data").mkdir(parents=True)
    (directory / "status").write_text(OURS)
    code = f"from fanout.agent import state_dir; state_dir.remove_run({root!r}, 'r1', 0)"
    script = f'mount -t tmpfs none {directory}/data; touch {directory}/data/x; {sys.executable} -c "{code}"; ls {directory}/data'
    done = subprocess.run(["unshare", "-m", "bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "x\n"
