"""``--env-file``: what a .env file of the field means, and the line of each mistake."""

from __future__ import annotations

import pytest

from fanout.model.errors import UsageError
from fanout.run.env_file import parse_env_file

FIELD = r"""# a comment
export NCCL_DEBUG=INFO
NCCL_SOCKET_IFNAME="eth0"   # the interface
NCCL_IB_HCA=mlx5_0 # one rail
SAID="say \"hi\""
LITERAL='$HOME stays'
HASH=a#b
EMPTY=
SPACED = two words
MOTTO="first
second"
LD_LIBRARY_PATH=/opt/lib:$LD_LIBRARY_PATH
CACHE="${HOME}/cache"
TODAY=$(date)
PRICE=5$
"""


def test_a_file_of_the_field() -> None:
    read = parse_env_file(FIELD, "ds.env")
    assert dict(read.pairs) == {
        "NCCL_DEBUG": "INFO",
        "NCCL_SOCKET_IFNAME": "eth0",
        "NCCL_IB_HCA": "mlx5_0",
        "SAID": 'say "hi"',
        "LITERAL": "$HOME stays",
        "HASH": "a#b",
        "EMPTY": "",
        "SPACED": "two words",
        "MOTTO": "first\nsecond",
        "LD_LIBRARY_PATH": "/opt/lib:$LD_LIBRARY_PATH",
        "CACHE": "${HOME}/cache",
        "TODAY": "$(date)",
        "PRICE": "5$",
    }
    assert read.warnings == (
        "ds.env:12: LD_LIBRARY_PATH: $LD_LIBRARY_PATH is not expanded; ranks get it literally",
        "ds.env:13: CACHE: ${HOME} is not expanded; ranks get it literally",
        "ds.env:14: TODAY: $(date) is not expanded; ranks get it literally",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A=1\n\n\nhunter2 is no assignment\n", "x.env:4: not NAME=VALUE"),
        ('A=1\nB="hunter2\n', "x.env:2: not NAME=VALUE"),
        ("# why\n\n1A=hunter2\n", "x.env:3: '1A' is not a name for an environment variable"),
        ("A=1\nhunter2\n", "x.env:2: not NAME=VALUE"),
        ("export B\n", "x.env:1: not NAME=VALUE"),
    ],
)
def test_a_mistake_is_named_by_its_line_and_never_shows_a_value(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_env_file(text, "x.env")
    assert str(caught.value) == says
    assert "hunter2" not in str(caught.value) + caught.value.hint


def test_line_ends_of_windows_and_a_mark_at_the_start_do_not_count() -> None:
    assert parse_env_file("A=1\r\nB='2'\r\n", "x.env").pairs == (("A", "1"), ("B", "2"))
