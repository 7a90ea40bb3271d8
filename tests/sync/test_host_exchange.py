"""Exchange of a sync with the host's side in this process: any trees, any names, and each fault of the launcher."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.agent.probes import sync, sync_paths, sync_tree, sync_writer
from fanout.agent.probes.probe_tools import FactUnavailable
from fanout.model.answers import check_answer
from fanout.sync import upload
from fanout.sync.host_changes import HostChanges, parse_comparison
from fanout.sync.manifest import FileKind, Manifest, ProjectFile, build_manifest
from fanout.sync.project_files import Project, read_project
from tests.sync.projects import STRANGE, read_files, write_files

ENVIRON = {"PATH": os.environ["PATH"]}


def sync_directory(
    source: Path, target: Path, *, delete: bool = False, dry_run: bool = False, before_send: Callable[[], object] = bool
) -> tuple[HostChanges, dict[str, Any]]:
    """Sync one directory as launcher and host do it. Return the changes, and the last answer ({} in a dry run)."""
    return sync_project(read_project(str(source), ENVIRON, add=(), big=False), target, delete, dry_run, before_send)


def sync_project(
    project: Project, target: Path, delete: bool, dry_run: bool, before_send: Callable[[], object] = bool
) -> tuple[HostChanges, dict[str, Any]]:
    manifest = project.manifest
    stream = io.BytesIO(b"".join(upload.iter_manifest_pieces(manifest)))
    exchange = sync.SyncExchange(sync.RecordReader(stream), str(target), {"by": "me", "dry_run": dry_run})
    changes = HostChanges()
    for answer in exchange.iter_answers():
        assert check_answer("sync", answer) == (answer, "")
        if answer["state"] == "compared":
            changes = parse_comparison(answer, manifest, project.rules)
            before_send()
            at = stream.tell()
            stream.write(b"".join(upload.iter_file_pieces(project.top, manifest, changes.rows)))
            stream.write(upload.pack_commit(delete=delete))
            stream.seek(at)
        elif answer["state"] == "done":
            return changes, answer
    return changes, {}


#: A small set of names, so that random trees meet in the same paths.
_NAMES = st.sampled_from(("a", "b", "c", *STRANGE))
_TREES = st.dictionaries(st.lists(_NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=9), max_size=8)


def make_tree(files: dict[str, bytes]) -> dict[str, bytes | str]:
    """Return the files without those whose path is a directory of another."""
    return {path: data for path, data in files.items() if not any(other.startswith(path + "/") for other in files)}


@settings(max_examples=15)
@given(_TREES, _TREES, st.booleans())
def test_after_a_sync_the_host_has_the_project_or_is_unchanged(
    first: dict[str, bytes], second: dict[str, bytes], delete: bool
) -> None:
    """A path that is a file in one tree and a directory in the other blocks the sync as a whole."""
    with tempfile.TemporaryDirectory() as folder:
        one, two, target = Path(folder, "1"), Path(folder, "2"), Path(folder, "t")
        old, new = make_tree(first), make_tree(second)
        for top, files in ((one, old), (two, new)):
            top.mkdir()
            write_files(top, files)
        target.mkdir()
        sync_directory(one, target)
        assert read_files(target) == old
        changes, done = sync_directory(two, target, delete=delete)
        if changes.problems:
            assert not done
            assert read_files(target) == old
        else:
            assert read_files(target) == (new if delete else {**old, **new})
            assert sync_directory(two, target)[0].listed == ()


@given(st.text(alphabet="./a\0\n\udcff", max_size=12))
def test_no_path_of_a_manifest_leaves_the_directory(path: str) -> None:
    try:
        names = sync_paths.split_path(path)
    except FactUnavailable:
        return
    assert "/".join(names) == path
    assert os.path.normpath(path) == path
    assert names[0] not in ("", "..")  # "..a" is the name of a file


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/x",
        "../x",
        "a/../b",
        "a//b",
        "./a",
        "a/",
        ".git/hooks/x",
        "a/.git",
        "a\0b",
        ".fanout-sync/lock",
        "x" * 5000,
    ],
)
def test_a_path_outside_of_the_project_is_refused_by_the_host(tmp_path: Path, path: str) -> None:
    row = ProjectFile(path=path, kind=FileKind.FILE, size=0, content="")
    exchange = sync.SyncExchange(
        sync.RecordReader(io.BytesIO(b"".join(upload.iter_manifest_pieces(Manifest(files=(row,)))))),
        str(tmp_path),
        {"by": "me", "dry_run": False},
    )
    with pytest.raises(FactUnavailable, match="never writes to the path"):
        list(exchange.iter_answers())
    assert read_files(tmp_path) == {}


@pytest.mark.parametrize("content", ["/etc/passwd", "../../x", "d/../../../x", "", "a\0"])
def test_a_link_that_ends_outside_is_refused_by_the_host(tmp_path: Path, content: str) -> None:
    row = [["d/link", sync_paths.LINK, 0, content]]
    with pytest.raises(FactUnavailable, match="ends outside"):
        sync_paths.check_rows(row)
    assert read_files(tmp_path) == {}


def test_links_of_the_host_are_never_followed(tmp_path: Path) -> None:
    source, target, outside = tmp_path / "s", tmp_path / "t", tmp_path / "outside"
    write_files(source, {"sub/a.py": b"new", "b.py": b"new"})
    outside.mkdir()
    write_files(target, {"sub": str(outside), "b.py": f"{outside}/b.py"})
    changes, done = sync_directory(source, target)
    assert not done
    assert sorted(changes.problems) == [
        f"b.py is a link to {outside}/b.py there",
        "sub is a link there, and a directory here",
    ]
    assert list(outside.iterdir()) == []


def test_a_directory_replaced_by_a_link_during_the_sync_is_not_followed(tmp_path: Path) -> None:
    source, target, outside = tmp_path / "s", tmp_path / "t", tmp_path / "outside"
    write_files(source, {"sub/a.py": b"new"})
    outside.mkdir()
    write_files(target, {"sub/a.py": b"old"})

    def replace_directory() -> None:
        (target / "sub").rename(target / "moved")
        (target / "sub").symlink_to(outside)

    sync_directory(source, target, before_send=replace_directory)
    assert list(outside.iterdir()) == []


def test_a_link_of_an_earlier_sync_is_replaced(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    write_files(source, {"a": b"1", "b": b"2", "cur": "a"})
    target.mkdir()
    sync_directory(source, target)
    (source / "cur").unlink()
    (source / "cur").symlink_to("b")
    sync_directory(source, target)
    assert read_files(target) == {"a": b"1", "b": b"2", "cur": "b"}
    (target / "cur").unlink()
    (target / "cur").symlink_to("a")
    assert sync_directory(source, target)[0].problems == ("cur is a link to a there",)


def test_executable_bits_follow_the_project_and_setuid_does_not(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    write_files(source, {"x.sh": b"1", "y.sh": b"2"})
    (source / "x.sh").chmod(0o4755)
    target.mkdir()
    sync_directory(source, target)
    assert (target / "x.sh").stat().st_mode & 0o4111 == 0o111
    (source / "x.sh").chmod(0o644)
    (source / "y.sh").chmod(0o755)
    changes, done = sync_directory(source, target)
    assert changes.listed == (("x", "x.sh"), ("x", "y.sh"))
    assert done["written"] == 2
    assert [(target / name).stat().st_mode & 0o111 for name in ("x.sh", "y.sh")] == [0, 0o111]


def test_only_files_that_an_earlier_sync_created_are_deleted(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    write_files(target, {"own.py": b"same", "checkpoint/x": b"1"})
    write_files(source, {"own.py": b"same", "sub/dir/a.py": b"1", "sub/edited.py": b"1", "keep.py": b"1"})
    sync_directory(source, target)
    (target / "sub/edited.py").write_bytes(b"edited on the host")
    for path in ("own.py", "sub/dir/a.py", "sub/edited.py"):
        (source / path).unlink()
    changes, _ = sync_directory(source, target)
    assert changes.gone == ("sub/dir/a.py",)
    assert set(changes.extra) == {"checkpoint/", "own.py"}
    assert "sub/dir/a.py" in read_files(target), "without delete, all files stay"
    _, done = sync_directory(source, target, delete=True)
    assert done["deleted"] == 1
    assert set(read_files(target)) == {"own.py", "checkpoint/x", "sub/edited.py", "keep.py"}
    assert not (target / "sub/dir").exists()


def test_ignored_files_of_the_host_are_not_named(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    write_files(source, {".gitignore": b"out/\n", "a.py": b""})
    write_files(target, {"out/x": b"", "other/x": b"", "__pycache__/x": b""})
    assert sync_directory(source, target)[0].extra == ("other/",)


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    write_files(source, {"a.py": b"1"})
    assert sync_directory(source, target, dry_run=True)[0].listed == (("+", "a.py"),)
    assert not target.exists()
    write_files(target, {"a.py": b"2"})
    assert sync_directory(source, target, dry_run=True)[0].listed == (("~", "a.py"),)
    assert [path.name for path in target.iterdir()] == ["a.py"]


def test_a_file_that_changes_while_it_is_read_leaves_the_old_one_and_is_named(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    write_files(source, {"a.py": b"new", "b.py": b"new", "c.py": b"new"})
    write_files(target, {"a.py": b"old", "b.py": b"old", "c.py": b"old"})

    def change_files() -> None:
        (source / "a.py").write_bytes(b"newer")
        (source / "b.py").unlink()

    _, done = sync_directory(source, target, before_send=change_files)
    assert done["changed"] == ["a.py", "b.py"]
    assert read_files(target) == {"a.py": b"old", "b.py": b"old", "c.py": b"new"}


def test_records_that_end_early_leave_the_old_files_and_no_temporary_one(tmp_path: Path) -> None:
    """At each byte at which a connection can break."""
    source, target = tmp_path / "s", tmp_path / "t"
    write_files(source, {"a.py": b"new", "sub/b.py": b"new"})
    write_files(target, {"a.py": b"old"})
    project = read_project(str(source), ENVIRON, add=(), big=False)
    whole = b"".join(upload.iter_manifest_pieces(project.manifest))
    whole += b"".join(upload.iter_file_pieces(project.top, project.manifest, (0, 1))) + upload.pack_commit(delete=False)
    for length in range(len(whole)):
        reader = sync.RecordReader(io.BytesIO(whole[:length]))
        exchange = sync.SyncExchange(reader, str(target), {"by": "me", "dry_run": False})
        with pytest.raises(sync.InputEnded):
            list(exchange.iter_answers())
        assert read_files(target) == {"a.py": b"old"}


def test_temporary_files_of_a_killed_sync_are_deleted_and_files_with_other_names_are_not(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    write_files(source, {"sub/a.py": b"1"})
    stale, own = ".fanout-sync-0123456789abcdef-7", ".fanout-sync-note-7"
    write_files(target, {f"sub/{stale}": b"", stale: b"", own: b"", f"other/{stale}": b""})
    sync_directory(source, target)
    assert set(read_files(target)) == {"sub/a.py", own, f"other/{stale}"}


def test_files_that_do_not_arrive_are_an_error(tmp_path: Path) -> None:
    manifest = build_manifest([ProjectFile(path="a", kind=FileKind.FILE, size=1, content="x")])
    stream = io.BytesIO(b"".join(upload.iter_manifest_pieces(manifest)) + upload.pack_commit(delete=False))
    exchange = sync.SyncExchange(sync.RecordReader(stream), str(tmp_path), {"by": "me", "dry_run": False})
    with pytest.raises(FactUnavailable, match="1 files did not arrive"):
        list(exchange.iter_answers())


def test_an_invalid_manifest_of_an_earlier_sync_allows_no_deletion(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    write_files(source, {"a.py": b"1"})
    rows = [["../x", 0, 1, "0"], ["b.py", 0, 1], "c.py", ["d.py", 9, 0, ""]]
    for text in (json.dumps({"version": 1, "rows": rows}), json.dumps({"version": 2, "rows": []}), "[", "7"):
        write_files(target, {".fanout-sync/manifest.json": text.encode(), "b.py": b"1"})
        changes, _ = sync_directory(source, target, delete=True)
        assert changes.gone_count == 0
    assert set(read_files(target)) == {"a.py", "b.py"}


def test_directories_of_the_system_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home/ann"
    home.mkdir(parents=True)
    (tmp_path / "link").symlink_to("/etc")
    monkeypatch.setenv("HOME", str(home))
    refused = (
        "/",
        "/etc",
        "/etc/x",
        "/usr",
        "/usr/lib/python3",
        "/proc/self",
        "/tmp",
        "/home",
        str(home),
        str(tmp_path),
    )
    for path in (*refused, "~", f"{tmp_path}/link", f"{tmp_path}/link/x", "relative"):
        with pytest.raises(FactUnavailable):
            sync_paths.resolve_target(path)
    assert sync_paths.resolve_target(f"{home}/proj") == f"{home}/proj"
    assert sync_paths.resolve_target("~/proj") == f"{home}/proj"
    with pytest.raises(FactUnavailable, match="contains the mount point /proc"):
        sync_paths.refuse_mount_point("/", ["/proc"])
    sync_paths.refuse_mount_point("/a", ["/a", "/ab", "/a/b/c"])


def test_a_writer_discards_what_has_not_been_published(tmp_path: Path) -> None:
    tree = sync_tree.SyncTree(str(tmp_path))
    writer = sync_writer.SyncWriter(tree, [["a", 0, 1, "x"], ["b", 2, 0, "a"]])
    writer.begin_file(0)
    writer.add_bytes(b"1")
    writer.add_link(1)
    assert len(list(tmp_path.iterdir())) == 2
    writer.discard_files()
    tree.close()
    assert list(tmp_path.iterdir()) == []
