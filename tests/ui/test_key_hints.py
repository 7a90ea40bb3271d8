"""The hints about keys, and the answers of the question before leaving: the keys do what the screen states."""

from __future__ import annotations

import pytest

from fanout.model.subscriber import Viewing
from fanout.ui.run_condition import RunCondition
from tests.ui.test_key_bindings import Replay, Stacks, View


@pytest.mark.parametrize(
    ("viewing", "condition", "words", "absent"),
    [
        ("run", RunCondition.RUNNING, ("^C stop", "d detach", "q quit", "s stacks"), ()),
        ("run", RunCondition.STOPPING, ("^C ^C kill now",), ("d detach", "s stacks")),
        ("run", RunCondition.VERIFYING, ("^C ^C ^C leave unverified",), ("^C stop", "d detach", "s stacks")),
        ("run", RunCondition.CONNECTING, ("^C stop", "d detach"), ("s stacks",)),
        ("run", RunCondition.FAILING, ("^C stop",), ("d detach",)),
        ("attach", RunCondition.RUNNING, ("^C leave",), ("^C stop", "d detach, ")),
        ("replay", RunCondition.RUNNING, ("q quit", "←→ 10 s", "[ ] event"), ("^C stop", "s stacks")),
    ],
)
def test_hints_match_what_the_keys_do(
    viewing: Viewing, condition: RunCondition, words: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    replay = Replay() if viewing == "replay" else None
    view = View(detach=True, stop=viewing == "run", stacks=Stacks(), viewing=viewing, replay=replay)
    hint = view.read_hint(condition)
    assert all(word in hint for word in words)
    assert not any(word in hint for word in absent)
    for width in range(20, 200, 7):
        assert len(view.read_hint(condition, width)) <= min(79, width - 2)
    help_text = "\n".join(view.press_keys("?").state.overlay)
    assert all(len(line) < 78 for line in view.state.overlay)
    assert ("Ctrl-C   stop" in help_text, "Ctrl-C   leave" in help_text) == (viewing == "run", viewing == "attach")


@pytest.mark.parametrize(
    ("condition", "interrupts", "word", "stops"),
    [
        (RunCondition.RUNNING, 0, "s stop", 1),
        (RunCondition.FAILING, 0, "s stop", 1),
        (RunCondition.STOPPING, 0, "s kill now", 2),
        (RunCondition.STOPPING, 1, "s kill now", 1),
        (RunCondition.STOPPING, 2, "s leave unverified", 1),
        (RunCondition.VERIFYING, 1, "s leave unverified", 2),
    ],
)
def test_answer_s_does_what_the_question_offers(
    condition: RunCondition, interrupts: int, word: str, stops: int
) -> None:
    view = View(detach=True, stop=True).press_keys("q")
    assert word in view.read_hint(condition, interrupts=interrupts)
    assert view.press_keys("s").stopped == stops
