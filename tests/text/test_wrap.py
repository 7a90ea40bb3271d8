"""Messages on a terminal: prose breaks between words, quoted lines and commands stay whole."""

from __future__ import annotations

from fanout.text.wrap import wrap_message

HOSTFILE_ERROR = """two.txt:1: 'gpu02' may be a second host, a user or a note
    gpu01 gpu02
          ^^^^^
  write gpu01,gpu02 for two hosts, or put # before a comment"""


def test_a_message_breaks_between_words() -> None:
    text = "gpu02: link lost (no heartbeat for 15 s); train.sh keeps running; reconnecting"
    assert wrap_message(text, 60) == (
        "fanout: gpu02: link lost (no heartbeat for 15 s); train.sh\n        keeps running; reconnecting"
    )
    assert wrap_message(text, None) == f"fanout: {text}"


def test_quoted_lines_below_a_message_stay_whole() -> None:
    lines = wrap_message(HOSTFILE_ERROR, 50).split("\n")
    assert lines[2:4] == ["    gpu01 gpu02", "          ^^^^^"]
    assert lines[4:] == ["  write gpu01,gpu02 for two hosts, or put # before", "    a comment"]


def test_commands_stay_whole() -> None:
    command = "fanout attach 20261130-125552-edaa89b94fd4"
    assert wrap_message(f"left; the run goes on:  {command}", 60).split("\n")[-1] == f"        {command}"
    assert wrap_message(f"detached\n        {command} {'x' * 60}", 60).split("\n")[1:] == [
        f"        {command} {'x' * 60}"
    ]
    assert wrap_message(f"        {command}", 60) == f"        {command}"
