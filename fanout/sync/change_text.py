"""Change text: the project, the changes of each host and the result of a sync as lines. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fanout.model.hosts import fold_names
from fanout.sync.host_changes import CHANGED, DELETED, MODE, NEW, HostChanges, HostResult, SyncOutcome
from fanout.sync.project_files import Project
from fanout.text.sanitize import escape_invisible
from fanout.text.units import count_noun, format_size

MOST_LISTED = 100  # paths of one group
_NAMED = 5


def describe_project(project: Project) -> str:
    """Return ``128 files, 1.4 MB from DIR: commit X with uncommitted changes, manifest H``."""
    manifest = project.manifest
    text = f"{count_noun(len(manifest.files), 'file')}, {format_size(manifest.total_bytes)} from "
    text += f"{escape_invisible(project.top)}: {describe_commit(project.commit, is_dirty=project.is_dirty)}"
    return f"{text}manifest {manifest.digest}"


def describe_commit(commit: str, *, is_dirty: bool) -> str:
    """Return ``commit X with uncommitted changes, ``; "" without a commit."""
    if not commit:
        return ""
    return f"commit {commit}{' with uncommitted changes' if is_dirty else ''}, "


def iter_change_lines(results: Sequence[HostResult], *, dry_run: bool, delete: bool) -> Iterator[str]:
    """Yield the changes, one block for all hosts with the same ones."""
    blocks: dict[tuple[str, ...], list[HostResult]] = {}
    for result in results:
        if not result.error:
            lines = tuple(_list_changes(result, dry_run=dry_run, delete=delete))
            blocks.setdefault(lines, []).append(result)
    for lines, members in blocks.items():
        yield f"{_name_hosts(members)}: {lines[0]}"
        yield from lines[1:]


def iter_error_lines(results: Sequence[HostResult]) -> Iterator[str]:
    """Yield the error of each directory, once for all hosts with the same one."""
    errors: dict[str, list[str]] = {}
    for result in results:
        if result.error:
            errors.setdefault(result.error, []).append(result.host)
        elif result.outcome is SyncOutcome.INCOMPLETE:
            text = f"these files changed here while they were read: {_name_paths(result.changed_here)}: sync again"
            errors.setdefault(text, []).append(result.host)
    for error, hosts in errors.items():
        yield f"{fold_names(hosts)}: {escape_invisible(error)}"


def describe_end(results: Sequence[HostResult], digest: str) -> str:
    """Return which hosts have the code, which do not, and of which it is not known."""
    equal = [result.host for result in results if result.outcome is SyncOutcome.EQUAL]
    lost = [result.host for result in results if result.outcome is SyncOutcome.LOST]
    others = [result.host for result in results if result.outcome not in (SyncOutcome.EQUAL, SyncOutcome.LOST)]
    parts = [f"{fold_names(equal)}: the code is equal, manifest {digest}"] if equal else []
    parts += [f"{fold_names(others)}: the code is not equal"] if others else []
    parts += [f"{fold_names(lost)}: not verified"] if lost else []
    return "; ".join(parts)


def _name_hosts(members: Sequence[HostResult]) -> str:
    """Return the folded names, and which of them have one directory."""
    shared = [fold_names(group) for group in dict.fromkeys(result.group for result in members) if len(group) > 1]
    names = fold_names([result.host for result in members])
    if not shared:
        return names
    if shared == [names]:
        return f"{names} (one directory)"
    return f"{names} (one directory: {'; '.join(shared)})"


def _list_changes(result: HostResult, *, dry_run: bool, delete: bool) -> Iterator[str]:
    """Yield the summary of one host, then its changes and what stays there."""
    changes = result.changes
    if result.is_source:
        yield f"this is the directory that is sent: {escape_invisible(result.path)}"
        return
    yield _summarize_changes(changes, result.deleted, dry_run=dry_run, delete=delete)
    if dry_run:
        listed = [*changes.listed, *((DELETED, path) for path in (changes.gone if delete else ()))]
        yield from (f"  {code} {escape_invisible(path)}" for code, path in listed[:MOST_LISTED])
        if len(listed) > MOST_LISTED:
            yield f"  … {len(listed) - MOST_LISTED} more"
        if delete and changes.gone_count and changes.is_deletion_large:
            yield f"  --delete needs --yes: {changes.gone_count} of {changes.earlier_count} files of earlier syncs"
    if changes.gone_count and not delete:
        more = _count_more(changes.gone_count, len(changes.gone))
        yield f"  from an earlier sync, and not here any more: {_name_paths(changes.gone)}{more}: --delete deletes them"
    if changes.extra_count:
        more = _count_more(changes.extra_count, len(changes.extra))
        yield f"  only there, and kept: {_name_paths(changes.extra)}{more}"


def _summarize_changes(changes: HostChanges, deleted: int, *, dry_run: bool, delete: bool) -> str:
    """Return ``1 new, 2 changed, 125 equal``; only what is not zero."""
    gone = changes.gone_count if dry_run and delete else deleted
    counts = (
        (changes.count_codes(NEW), "new"),
        (changes.count_codes(CHANGED), "changed"),
        (changes.count_codes(MODE), "with another executable bit"),
        (gone, "deleted" if not dry_run else "to delete"),
        (changes.equal, "equal"),
    )
    return ", ".join(f"{count} {word}" for count, word in counts if count) or "no files"


def _count_more(count: int, listed: int) -> str:
    return f" ({count} in all)" if count > min(listed, _NAMED) else ""


def _name_paths(paths: Sequence[str]) -> str:
    return ", ".join(map(escape_invisible, paths[:_NAMED])) + (", …" if len(paths) > _NAMED else "")
