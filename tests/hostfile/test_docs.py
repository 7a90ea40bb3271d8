"""docs/hostfiles.md: its examples behave as it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fanout.hostfile import expand_hosts, parse_hostfile
from fanout.model.errors import HostfileError
from tests.hostfile.reading import read_refusal

TEXT = (Path(__file__).parents[2] / "docs" / "hostfiles.md").read_text()


def test_the_message_in_the_guide_is_the_message() -> None:
    """The guide prints the refusal of that file."""
    assert read_refusal("gpu01 slots=8\ngpu04:128\n\n\ngpu01 slots=4\n") in TEXT


def test_ranges_of_the_guide_expand_as_documented() -> None:
    """This covers each row of the table with a plain result."""
    rows = re.findall(r"^\| `(\w+\[[^`\s]*\])` \| ((?:\w+ )+\w+)[;,]? ?.*\|$", TEXT, re.MULTILINE)
    assert len(rows) >= 3
    for written, result in rows:
        assert expand_hosts(written) == [word for word in result.split() if word.startswith("gpu")]


@pytest.mark.parametrize("line", re.findall(r"^\| `([^`]+)` \| refused", TEXT, re.MULTILINE))
def test_lines_that_the_guide_calls_refused_are_refused(line: str) -> None:
    """This covers the table of ambiguous lines."""
    with pytest.raises(HostfileError):
        parse_hostfile(line.encode(), file="h.txt")


def test_the_blocks_of_the_guide_are_read() -> None:
    """The sections and the YAML example are whole files, except for the include."""
    blocks = re.findall(r"```(?:yaml)?\n(.*?)```", TEXT, re.DOTALL)
    sections = next(block for block in blocks if block.startswith("[a100]"))
    found = parse_hostfile(sections.encode(), file="h.txt", load=lambda path: b"more1\n")
    assert [(host.name, host.slots) for host in found.hosts] == [
        ("gpu01", 8), ("gpu02", 8), ("gpu04", 8), ("titan", 2), ("more1", None),
    ]  # fmt: skip
    yaml = next(block for block in blocks if block.startswith("defaults:"))
    assert [host.name for host in parse_hostfile(yaml.encode(), file="h.yaml").hosts] == [
        "gpu01",
        "gpu02",
        "gpu03",
        "gpu04",
        "titan1",
        "titan2",
    ]
