"""Project files: find the files that a sync sends, and read their sizes, kinds and hashes."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fanout.model.errors import UsageError
from fanout.sync.git_files import GitFiles, GitReader
from fanout.sync.ignore_rules import IgnoreRule, is_entry_ignored, is_path_ignored, parse_ignore_file
from fanout.sync.manifest import DIGEST_BYTES, FileKind, Manifest, ProjectFile, build_manifest, decode_path, encode_path
from fanout.sync.size_limits import build_ignore_command, check_sizes
from fanout.text.sanitize import escape_invisible
from fanout.text.units import count_noun

IGNORE_FILE = ".fanoutignore"
STATE = ".fanout-sync"  # what a sync itself writes on a host
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE = 1 << 20
_NAMED = 5
_OWN_FILE = re.compile(r"\.fanout-sync-[0-9a-f]{16}(-[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class Project:
    """One directory with the files to send. ``rules`` exclude files; ``notes`` are what the user must know."""

    top: str
    manifest: Manifest
    commit: str
    is_dirty: bool
    rules: tuple[IgnoreRule, ...]
    notes: tuple[str, ...]


def read_project(top: str, environ: Mapping[str, str], *, add: Sequence[str], big: bool) -> Project:
    """Return the project in the directory ``top``, which is absolute. Raises UsageError, LauncherError."""
    if not os.path.isdir(encode_path(top)):
        raise UsageError(f"{escape_invisible(top)} is no directory", hint="fanout sync HOSTS DIR")
    own_rules = _read_rules(top, IGNORE_FILE)
    clone = GitReader(environ).read_files(top)
    rules: list[IgnoreRule] = []
    paths = clone.paths if clone is not None else set(_walk_directory(top, rules))
    paths = {path for path in paths if not is_path_ignored(own_rules, path)}
    paths |= _find_added(top, add)
    entries, special = _read_entries(top, sorted(path for path in paths if not _is_never_sent(path)))
    check_sizes({path: seen.st_size for path, seen in entries.items()}, top, big=big)
    if clone is not None:
        rules = _read_rules(top, ".gitignore")
    return Project(
        top=top,
        manifest=build_manifest(_read_files(top, entries)),
        commit=clone.commit if clone is not None else "",
        is_dirty=clone is not None and clone.is_dirty,
        rules=(*rules, *own_rules),
        notes=tuple(_list_notes(clone, special)),
    )


def _list_notes(clone: GitFiles | None, special: Sequence[str]) -> Iterator[str]:
    for module in clone.empty_modules if clone is not None else ():
        yield f"submodule {escape_invisible(module)} is empty here: git submodule update --init --recursive"
    if special:
        yield f"not sent, because they are no files: {_name_paths(special)}"


def _is_never_sent(path: str) -> bool:
    names = path.split("/")
    return ".git" in names or names[0] == STATE or any(_OWN_FILE.fullmatch(name) for name in names)


def _read_rules(top: str, name: str, folder: str = "") -> list[IgnoreRule]:
    """Return the rules of an ignore file; [] without one. Raises UsageError if it cannot be read."""
    path = f"{top}/{folder}{name}"
    try:
        with open(encode_path(path), "rb") as file:
            return parse_ignore_file(decode_path(file.read()), folder)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return []
    except OSError as error:
        raise _refuse_unreadable(path, error) from None


def _walk_directory(top: str, rules: list[IgnoreRule]) -> Iterator[str]:
    """Yield all files and links that no .gitignore excludes, and collect the rules of these files."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        rules += _read_rules(top, ".gitignore", folder)
        try:
            with os.scandir(encode_path(f"{top}/{folder}")) as entries:
                listed = [(folder + decode_path(each.name), each.is_dir(follow_symlinks=False)) for each in entries]
        except OSError as error:
            raise _refuse_unreadable(f"{top}/{folder}", error) from None
        for path, is_directory in listed:
            if _is_never_sent(path) or is_entry_ignored(rules, path, is_directory=is_directory):
                continue
            if is_directory:
                waiting.append(path + "/")
            else:
                yield path


def _find_added(top: str, add: Iterable[str]) -> set[str]:
    """Return the paths that the user adds by name, and all files of such directories. Raises UsageError."""
    found = set()
    for given in add:
        path = os.path.relpath(os.path.join(top, given), top)
        full = encode_path(f"{top}/{path}")
        if path == ".." or path.startswith("../"):
            raise UsageError(f"--add {given}: it is outside of {top}")
        if not os.path.lexists(full):
            raise UsageError(f"--add {given}: there is no such file in {top}")
        if os.path.islink(full) or not os.path.isdir(full):
            found.add(path)
            continue
        for folder, _, names in os.walk(full, onerror=_raise_unreadable):
            inside = decode_path(os.path.relpath(folder, encode_path(top)))
            found |= {os.path.normpath(f"{inside}/{decode_path(name)}") for name in names}
    return found


def _read_entries(top: str, paths: Iterable[str]) -> tuple[dict[str, os.stat_result], list[str]]:
    """Return the entries by path, and the paths that are neither files nor links. Raises UsageError."""
    entries, special = {}, []
    for path in paths:
        try:
            seen = os.lstat(encode_path(f"{top}/{path}"))
        except (FileNotFoundError, NotADirectoryError):
            continue  # git tracks it, and the user has deleted it
        except OSError as error:
            raise _refuse_unreadable(f"{top}/{path}", error) from None
        if stat.S_ISREG(seen.st_mode) or stat.S_ISLNK(seen.st_mode):
            entries[path] = seen
        elif not stat.S_ISDIR(seen.st_mode):
            special.append(path)
    return entries, special


def _read_files(top: str, entries: Mapping[str, os.stat_result]) -> list[ProjectFile]:
    """Return the rows of all entries. Raises UsageError for links that end outside, and for unreadable files."""
    files, outside = [], []
    for path, seen in entries.items():
        if stat.S_ISLNK(seen.st_mode):
            text = _read_link_inside(top, path)
            if text is None:
                outside.append(path)
            else:
                files.append(ProjectFile(path=path, kind=FileKind.LINK, size=0, content=text))
            continue
        try:
            size, digest = hash_file(f"{top}/{path}")
        except OSError as error:
            raise _refuse_unreadable(f"{top}/{path}", error) from None
        kind = FileKind.EXECUTABLE if seen.st_mode & stat.S_IXUSR else FileKind.FILE
        files.append(ProjectFile(path=path, kind=kind, size=size, content=digest))
    if outside:
        ends = ", ".join(
            f"{escape_invisible(path)} -> {escape_invisible(decode_path(os.readlink(encode_path(f'{top}/{path}'))))}"
            for path in outside[:_NAMED]
        )
        message = (
            f"{count_noun(len(outside), 'link')} in {top} end outside of it, where the hosts may have nothing: {ends}"
        )
        raise UsageError(message, hint=build_ignore_command(outside[0]))
    return files


def _read_link_inside(top: str, path: str) -> str | None:
    """Return the text of a link that ends in the project, relative to the link; None if it ends outside."""
    raw_top, full = encode_path(top), encode_path(f"{top}/{path}")
    folder = os.path.dirname(full)
    text = os.readlink(full)
    named = os.path.normpath(os.path.join(folder, text))
    reached, real_top = os.path.realpath(full), os.path.realpath(raw_top)
    if not (_is_below(named, raw_top) or _is_below(named, real_top)) or not _is_below(reached, real_top):
        return None
    if not os.path.isabs(text):
        return decode_path(text)
    base = raw_top if _is_below(named, raw_top) else real_top
    return decode_path(os.path.relpath(os.path.join(raw_top, os.path.relpath(named, base)), folder))


def _is_below(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def hash_file(path: str) -> tuple[int, str]:
    """Return the size and the hash of a regular file. Raises OSError."""
    digest, size = hashlib.blake2b(digest_size=DIGEST_BYTES), 0
    descriptor = os.open(encode_path(path), READ_FLAGS)
    with open(descriptor, "rb", buffering=0) as file:
        while data := file.read(_PIECE):
            digest.update(data)
            size += len(data)
    return size, digest.hexdigest()


def _raise_unreadable(error: OSError) -> None:
    raise _refuse_unreadable(os.fsdecode(error.filename or "?"), error) from None


def _refuse_unreadable(path: str, error: OSError) -> UsageError:
    """Return the error for a file that cannot be read: without it, the hosts would have other code."""
    return UsageError(f"cannot read {escape_invisible(path)}: {error.strerror}", hint="exclude it in .fanoutignore")


def _name_paths(paths: Sequence[str]) -> str:
    more = f", … {len(paths)} in all" if len(paths) > _NAMED else ""
    return ", ".join(map(escape_invisible, paths[:_NAMED])) + more
