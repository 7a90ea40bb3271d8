"""README and docs/: short enough, complete in the index, without a dead link, an invalid command or a missing test."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from fanout.cli.parser import parse_arguments
from tests.sources import ROOT

LONGEST_README = 200
LONGEST_SENTENCE = 25  # words; a link counts as its text, and code as one word
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *PAGES, *(ROOT / "bench").rglob("*.md")])
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
#: A command that a page shows with a prompt, in a block of code.
_COMMAND = re.compile(r"(?m)^ *\$ (?:.*\| )?fanout ([^|\n]*)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)`(?: (test_\w+))?")


def read_links(page: Path) -> list[str]:
    """Return the targets of all links of a page."""
    return _LINK.findall(_CODE.sub("`code`", page.read_text(encoding="utf-8")))


def heading_anchors(page: Path) -> set[str]:
    """Return the anchors of all headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a page, without code blocks, tables and headings."""
    text = re.sub(r"```.*?```|<!--.*?-->|(?<=\n\n)(?:    [^\n]*\n)+", "\n\n", text, flags=re.DOTALL)
    sentences = []
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[*\-|#>]|\d+\.) )", text):
        if not block.lstrip().startswith(("|", "#")):
            plain = re.sub(r"^\s*(?:[*\->]|\d+\.)\s+", "", block.strip())
            plain = re.sub(r"`[^`]*`", "code", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", plain))
            sentences += re.split(r"(?<=[.!?])[)\"*]*\s+", " ".join(plain.split()))
    return [sentence for sentence in sentences if sentence]


@cache
def names_of_tests(path: Path) -> set[str]:
    """Return the names of all functions of a test file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= LONGEST_README


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_a_sentence_of_the_docs_is_short(page: Path) -> None:
    sentences = split_sentences(page.read_text(encoding="utf-8"))
    assert [each for each in sentences if len(each.split()) > LONGEST_SENTENCE] == []


def test_sentences_are_split_and_long_ones_are_found() -> None:
    text = "# A heading\n\nOne two. fanout `a b c` [x y](z).\n\n| a | table |\n\n* An item\n  of three.\n\n```\ncode. here\n```\n"
    assert split_sentences(text) == ["One two.", "fanout code x y.", "An item of three."]


def test_the_index_links_every_page() -> None:
    linked = set(read_links(ROOT / "docs" / "index.md"))
    assert not [page.name for page in PAGES if page.name != "index.md" and page.name not in linked]


def test_the_readme_links_the_index() -> None:
    assert "docs/index.md" in read_links(ROOT / "README.md")


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    dead = []
    for link in read_links(page):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in heading_anchors(target)):
            dead.append(link)
    assert not dead


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    missing = [
        f"{path} {name}".strip()
        for path, name in _TEST.findall(page.read_text(encoding="utf-8"))
        if not (ROOT / path).exists() or (name and name not in names_of_tests(ROOT / path))
    ]
    assert not missing


def test_every_command_that_a_page_shows_is_valid() -> None:
    commands = [command for page in DOCUMENTS for command in _COMMAND.findall(page.read_text(encoding="utf-8"))]
    assert len(commands) > 15
    for command in commands:
        parse_arguments(shlex.split(command))
