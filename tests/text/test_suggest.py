"""Suggestions for mistyped words."""

from __future__ import annotations

import pytest

from fanout.text.suggest import suggest_nearest


@pytest.mark.parametrize(
    ("word", "hint"), [("gpu1", "did you mean 'gpu01'?"), ("gpu01", "did you mean 'gpu01'?"), ("login", "")]
)
def test_the_nearest_known_word_is_suggested(word: str, hint: str) -> None:
    assert suggest_nearest(word, ["gpu01", "head"]) == hint


def test_a_word_to_type_has_no_quotes() -> None:
    assert suggest_nearest("opensh", ["openssh", "ssh", "local"], quoted=False) == "did you mean openssh?"
