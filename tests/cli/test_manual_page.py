"""Manual pages: they are those of the option table, and groff formats them without a warning."""

from __future__ import annotations

import subprocess

import pytest

from tests.cli.manual_page import DIRECTORY, build_pages, escape_text


def test_pages_are_written_from_the_tables() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in DIRECTORY.iterdir()}
    assert written == build_pages(), "make options writes them"


def test_dashes_and_dots_are_escaped() -> None:
    assert escape_text(".x --a 'b' C:\\d") == r"\&.x \-\-a \(aqb\(aq C:\ed"


def format_pages(*names: str) -> str:
    argv = ["groff", "-man", "-Tutf8", "-ww", "-P-cbou", *(str(DIRECTORY / name) for name in names)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.process
def test_groff_formats_all_pages_without_a_warning() -> None:
    text = format_pages(*build_pages())
    assert "fanout exec [FLAGS] HOSTS -- COMMAND" in text


@pytest.mark.process
def test_page_of_a_command_has_its_shared_options() -> None:
    text = format_pages("fanout-run.1")
    for words in ("fanout-run - ", "--max-restarts N", "--pick", "--lease"):
        assert words in text
