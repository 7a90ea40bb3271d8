"""Ignore rules: the same answers as git gives."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from fanout.sync.ignore_rules import is_path_ignored, parse_ignore_file

PATTERNS = (
    "*.log",
    "!keep.log",
    "/top",
    "data/",
    "data",
    "a/b",
    "a/**/c",
    "**/deep",
    "out/**",
    "**",
    "*",
    "!a",
    "[ab]*.py",
    "[!a]x",
    "[^a]x",
    "?",
    "a?c",
    r"\#x",
    r"\!x",
    "trailing ",
    r"space\ ",
    "# comment",
    "",
    "/",
    "a/",
    "/a/*",
    "!/a/b",
    "*.[oa]",
    "[a-c]x",
    "foo/*",
    "**/a/**",
    "a**b",
    "[",
    r"x\ ",
    "sp ace",
    "!*.py",
    "a/b/",
    "/*",
    "!/a",
    "[]]x",
    r"a\*b",
    r"[\]]x",
    "[z-a]x",
)
NAMES = (
    "a",
    "b",
    "c",
    "ax",
    "bx",
    "]x",
    "x",
    "a.py",
    "keep.log",
    "z.log",
    "data",
    "deep",
    "top",
    "out",
    "#x",
    "!x",
    "sp ace",
    "abc",
    "a*b",
    "axb",
)


@pytest.mark.parametrize(
    ("text", "path", "ignored"),
    [
        ("*.log", "a/b.log", True),
        ("*.log\n!keep.log", "a/keep.log", False),
        ("/out", "out/x.py", True),
        ("/out", "a/out", False),
        ("out/", "a/out/x.py", True),
        ("out/", "out", False),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("out\n!out/keep", "out/keep", True),  # nothing below an excluded directory comes back
        ("*\n!*.py", "x.py", False),
        ("\ufeff*.log\r\nx\r\n", "x", True),
        ("caf\u00e9", "caf\u00e9", True),
        ("a\nb", "a\nb", False),
    ],
)
def test_a_rule_excludes_what_gitignore_defines(text: str, path: str, ignored: bool) -> None:
    assert is_path_ignored(parse_ignore_file(text), path) == ignored


def test_a_rule_of_a_lower_directory_applies_only_there() -> None:
    rules = parse_ignore_file("/x\n*.log", "sub")
    assert is_path_ignored(rules, "sub/x")
    assert is_path_ignored(rules, "sub/deep/a.log")
    assert not is_path_ignored(rules, "x")
    assert not is_path_ignored(rules, "sub/deep/x")


def make_paths(numbers: random.Random) -> list[str]:
    return ["/".join(numbers.choices(NAMES, k=numbers.randint(1, 4))) for _ in range(60)]


@pytest.mark.process
def test_random_patterns_exclude_the_same_paths_as_git(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True, timeout=60)
    for seed in range(25):
        numbers = random.Random(seed)
        text = "\n".join(numbers.choices(PATTERNS, k=numbers.randint(1, 4))) + "\n"
        (tmp_path / ".git/info/exclude").write_text(text)
        paths = make_paths(numbers)
        listed = subprocess.run(
            ["git", "check-ignore", "--no-index", "--stdin", "-z"],
            cwd=tmp_path,
            input="\0".join(paths).encode(),
            capture_output=True,
            check=False,
            timeout=60,
        )
        expected = set(listed.stdout.decode().split("\0"))
        rules = parse_ignore_file(text)
        wrong = [path for path in paths if is_path_ignored(rules, path) != (path in expected)]
        assert not wrong, (text, wrong)
