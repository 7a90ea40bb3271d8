"""Keys and pasted text in the bytes of a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.ui.key_parser import PASTE_BEGIN, PASTE_END, Key, KeyParser


def parse_names(*reads: str) -> list[str]:
    """Return the names of the keys in these reads; "" is a read without data."""
    parser, out = KeyParser(), []
    for read in reads:
        out += [key.name for key in (parser.parse_text(read) if read else parser.flush())]
    return out


@pytest.mark.parametrize(
    ("reads", "names"),
    [
        (("a",), ["a"]),
        (("\x1b[A",), ["up"]),
        (("\x1b", "[B"), ["down"]),
        (("\x1bOC\x1b[D",), ["right", "left"]),
        (("\x1b[H\x1b[F",), ["home", "end"]),
        (("\x1b[1~\x1b[4~",), ["home", "end"]),
        (("\x1b", ""), ["escape"]),
        (("\r",), ["enter"]),
        (("\x7f",), ["erase"]),
        (("\x1b[<0;10;5M?",), ["?"]),
        (("\x1b[<35;199;47M" * 9,), []),
        (("jj",), ["j", "j"]),
        (("\x1b[A" * 30,), ["up"] * 30),
        (("fffffff",), ["f"] * 7),
        (("日",), ["日"]),
    ],
)
def test_keys_have_names(reads: tuple[str, ...], names: list[str]) -> None:
    assert parse_names(*reads) == names


def test_marked_paste_is_one_key() -> None:
    parser = KeyParser()
    keys = parser.parse_text(f"a{PASTE_BEGIN}d\nq\x03{PASTE_END}b")
    assert keys == [Key("a", alone=False), Key("paste", "d\nq\x03", alone=False), Key("b", alone=False)]


@given(st.text(st.characters(exclude_characters="\x1b"), max_size=40), st.integers(1, 7))
def test_marked_paste_in_pieces_is_the_same(text: str, size: int) -> None:
    parser, found = KeyParser(), []
    data = PASTE_BEGIN + text + PASTE_END
    for at in range(0, len(data), size):
        found += parser.parse_text(data[at : at + size])
    assert [(key.name, key.text) for key in found] == [("paste", text)]


@pytest.mark.parametrize("text", ["ls -d\n", "d\nd\nq\n", "fanout stop 1\n"])
def test_burst_of_characters_is_a_paste(text: str) -> None:
    assert KeyParser().parse_text(text) == [Key("paste", text)]


def test_rest_of_a_burst_is_no_key_until_a_pause() -> None:
    assert parse_names("cd /data; ls -", "d", "q", "", "d") == ["paste", "paste", "paste", "d"]


def test_keys_of_one_read_are_not_alone() -> None:
    assert [key.alone for key in KeyParser().parse_text("cd")] == [False, False]
    assert KeyParser().parse_text("d")[0].alone
