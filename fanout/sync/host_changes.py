"""Host changes: how the directory of one host differs from the project, and what a sync did there. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from fanout.model.frozen import frozen
from fanout.sync.ignore_rules import IgnoreRule, keep_unignored
from fanout.sync.manifest import FileKind, Manifest

MOST_DELETED = 200  # without --yes
NEW, CHANGED, MODE, DELETED = "+", "~", "x", "-"


class SyncOutcome(enum.Enum):
    """Result of the sync on one host."""

    EQUAL = "equal"  # it has the same code, verified by hash
    COMPARED = "compared"  # a dry run
    REFUSED = "refused"
    INCOMPLETE = "incomplete"  # a file changed here while it was read
    LOST = "lost"


@frozen
class HostChanges:
    """The differences of one host. ``rows`` are the files to send, with links; ``listed`` are (code, path) of all."""

    rows: tuple[int, ...] = ()
    listed: tuple[tuple[str, str], ...] = ()
    bytes_to_send: int = 0
    equal: int = 0
    problems: tuple[str, ...] = ()
    problem_count: int = 0
    gone: tuple[str, ...] = ()
    gone_count: int = 0
    earlier_count: int = 0
    extra: tuple[str, ...] = ()
    extra_count: int = 0

    def count_codes(self, code: str) -> int:
        """Return how many paths have this code."""
        return sum(each == code for each, _ in self.listed)

    @property
    def is_deletion_large(self) -> bool:
        """Return whether --delete would delete so many files that it needs --yes."""
        return self.gone_count > MOST_DELETED or 3 * self.gone_count > self.earlier_count


@frozen
class HostResult:
    """The result of one host. ``group`` are the hosts with its directory; ``path`` is that directory on the host."""

    host: str
    outcome: SyncOutcome
    group: tuple[str, ...] = ()
    path: str = ""
    is_source: bool = False
    changes: HostChanges = field(default_factory=HostChanges)
    deleted: int = 0
    changed_here: tuple[str, ...] = ()
    error: str = ""


def parse_comparison(answer: Mapping[str, Any], manifest: Manifest, rules: tuple[IgnoreRule, ...]) -> HostChanges:
    """Return the differences that a host reported. Raises ValueError if they are not about this manifest."""
    codes = str(answer["codes"])
    if len(codes) != len(manifest.files) or set(codes) - set("=+~x!"):
        raise ValueError("its comparison is not about the files that were sent")
    pairs = list(zip(codes, manifest.files, strict=True))
    rows = tuple(row for row, code in enumerate(codes) if code in (NEW, CHANGED))
    files = [manifest.files[row] for row in rows]
    extra = keep_unignored(rules, answer["extra"])
    whole = answer["extra_count"] <= len(answer["extra"])
    return HostChanges(
        rows=rows,
        listed=tuple((code, file.path) for code, file in pairs if code in (NEW, CHANGED, MODE)),
        bytes_to_send=sum(file.size for file in files if file.kind is not FileKind.LINK),
        equal=codes.count("="),
        problems=tuple(answer["problems"]),
        problem_count=answer["problem_count"],
        gone=tuple(answer["gone"]),
        gone_count=answer["gone_count"],
        earlier_count=answer["earlier_count"],
        extra=tuple(extra),
        extra_count=len(extra) if whole else answer["extra_count"],
    )
