"""Manual page: it is that of the option table, and groff formats it without a warning."""

from __future__ import annotations

import subprocess

import pytest

from tests.cli.manual_page import PAGE, escape_text, format_page


def test_page_is_written_from_the_tables() -> None:
    assert PAGE.read_text(encoding="utf-8") == format_page(), "make options writes it"


def test_dashes_and_dots_are_escaped() -> None:
    assert escape_text(".x --a 'b' C:\\d") == r"\&.x \-\-a \(aqb\(aq C:\ed"


@pytest.mark.process
def test_groff_formats_the_page_without_a_warning() -> None:
    argv = ["groff", "-man", "-Tutf8", "-ww", "-P-cbou", str(PAGE)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--max-restarts N" in done.stdout
    assert "fanout exec [FLAGS] HOSTS -- COMMAND" in done.stdout
