"""Text of a sync: hosts with the same changes share lines, and nothing is called equal that was not verified."""

from __future__ import annotations

from typing import Any

import pytest

from fanout.sync.change_text import describe_end, iter_change_lines, iter_error_lines
from fanout.sync.host_changes import HostChanges, HostResult, SyncOutcome, parse_comparison
from fanout.sync.ignore_rules import parse_ignore_file
from fanout.sync.manifest import FileKind, Manifest, ProjectFile, build_manifest

CHANGES = HostChanges(
    listed=(("+", "new.py"), ("~", "a.py"), ("x", "run.sh")), equal=7, gone=("old.py",), gone_count=1, earlier_count=9
)


def build_result(host: str, **fields: Any) -> HostResult:
    return HostResult(host=host, **{"outcome": SyncOutcome.EQUAL, "group": (host,), "changes": CHANGES, **fields})


def build_answer(codes: str, **fields: Any) -> dict[str, Any]:
    counts = dict.fromkeys(("problem_count", "gone_count", "earlier_count", "extra_count"), 0)
    return {"codes": codes, "problems": [], "gone": [], "extra": [], **counts, **fields}


def make_manifest() -> Manifest:
    files = [ProjectFile(path=path, kind=FileKind.FILE, size=10, content="0") for path in ("a", "b", "c")]
    return build_manifest([*files, ProjectFile(path="l", kind=FileKind.LINK, size=0, content="a")])


def test_hosts_with_the_same_changes_share_one_block() -> None:
    results = [build_result("gpu01"), build_result("gpu02"), build_result("gpu03", changes=HostChanges(equal=10))]
    assert list(iter_change_lines(results, dry_run=False, delete=False)) == [
        "gpu[01-02]: 1 new, 1 changed, 1 with another executable bit, 7 equal",
        "  from an earlier sync, and not here any more: old.py: --delete deletes them",
        "gpu03: 10 equal",
    ]


def test_a_dry_run_lists_each_change_and_what_would_be_deleted() -> None:
    lines = list(iter_change_lines([build_result("a")], dry_run=True, delete=True))
    assert lines == [
        "a: 1 new, 1 changed, 1 with another executable bit, 1 to delete, 7 equal",
        "  + new.py",
        "  ~ a.py",
        "  x run.sh",
        "  - old.py",
    ]


def test_a_long_list_is_cut_and_its_length_is_shown() -> None:
    many = HostChanges(listed=tuple(("+", f"{number}.py") for number in range(150)), extra=("x/",), extra_count=300)
    lines = list(iter_change_lines([build_result("a", changes=many)], dry_run=True, delete=False))
    assert len(lines) == 103
    assert lines[-2:] == ["  … 50 more", "  only there, and kept: x/ (300 in all)"]


def test_hosts_of_one_directory_are_named_as_such() -> None:
    shared = ("a", "b")
    results = [build_result("a", group=shared), build_result("b", group=shared), build_result("c")]
    quiet = [HostResult(host=each.host, outcome=each.outcome, group=each.group) for each in results]
    assert list(iter_change_lines(quiet, dry_run=False, delete=False)) == ["a,b,c (one directory: a,b): no files"]
    assert next(iter_change_lines(quiet[:2], dry_run=False, delete=False)) == "a,b (one directory): no files"


def test_errors_are_grouped_and_control_characters_are_shown() -> None:
    results = [
        build_result("a", outcome=SyncOutcome.REFUSED, error="x\x1b[2J is a link"),
        build_result("b", outcome=SyncOutcome.REFUSED, error="x\x1b[2J is a link"),
        build_result("c", outcome=SyncOutcome.INCOMPLETE, changed_here=("log.txt",)),
    ]
    assert list(iter_error_lines(results)) == [
        "a,b: x\\x1b[2J is a link",
        "c: these files changed here while they were read: log.txt: sync again",
    ]
    assert describe_end(results, "9c41") == "a,b,c: the code is not equal"


def test_only_verified_hosts_are_equal() -> None:
    results = [
        build_result("a"),
        *(build_result(each.value, outcome=each) for each in SyncOutcome if each is not SyncOutcome.EQUAL),
    ]
    assert (
        describe_end(results, "9c41")
        == "a: the code is equal, manifest 9c41; compared,refused,incomplete: the code is not equal; lost: not verified"
    )


@pytest.mark.parametrize("codes", ["", "===", "=====", "===?"])
def test_a_comparison_of_other_files_is_invalid(codes: str) -> None:
    with pytest.raises(ValueError, match="not about the files"):
        parse_comparison(build_answer(codes), make_manifest(), ())


def test_a_comparison_gives_the_rows_to_send_and_hides_ignored_files() -> None:
    answer = build_answer("=~+x", extra=["out/", "own.py"], extra_count=2)
    changes = parse_comparison(answer, make_manifest(), tuple(parse_ignore_file("out/")))
    assert changes.rows == (1, 2)
    assert changes.bytes_to_send == 20
    assert (changes.equal, changes.extra, changes.extra_count) == (1, ("own.py",), 1)


@pytest.mark.parametrize(
    ("gone", "earlier", "large"), [(0, 0, False), (1, 3, False), (2, 5, True), (200, 1000, False), (201, 1000, True)]
)
def test_a_deletion_is_large_above_200_files_or_a_third(gone: int, earlier: int, large: bool) -> None:
    assert HostChanges(gone_count=gone, earlier_count=earlier).is_deletion_large is large
