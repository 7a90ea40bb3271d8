"""Folding of equal lines: shorter, but nothing lost and nobody's own order changed."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from fanout.events import StreamOpened
from fanout.views.folding import Folding, together
from fanout.views.plain import Plain
from fanout.views.streams import Say
from fanout.views.wishes import wishes
from tests.histories import T0, History
from tests.views.goldens import heading


def says(*lines: tuple[str, str]) -> list[Say]:
    return [Say(host, 0, host, "line", text) for host, text in lines]


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abc"), st.floats(0, 0.3)), max_size=40))
def test_unfolded_every_speaker_said_what_it_said_in_its_order(lines: list[tuple[str, str, float]]) -> None:
    folding, now, shown = Folding("xyz", {}), 0.0, []
    for host, text, later in lines:
        now += later
        shown += folding.take(says((host, text)), now)
    shown += folding.finish()
    for host in "xyz":
        mine = [say.text for say in shown if host in say.speaker.replace("[", "").replace("]", "").split(",")]
        assert mine == [text for name, text, _ in lines if name == host]
    assert sum(say.voices for say in shown) == len(lines)


def test_equal_lines_within_the_window_are_one() -> None:
    folding = Folding(("h1", "h2", "h3"), {})
    assert folding.take(says(("h1", "other"), ("h1", "same"), ("h2", "same"), ("h3", "same")), 0.0) == []
    out = folding.take([], 0.3)
    assert [(say.speaker, say.text, say.voices) for say in out] == [("h1", "other", 1), ("h[1-3]", "same", 3)]


def test_with_one_speaker_nothing_waits() -> None:
    assert len(Folding(("h1",), {}).take(says(("h1", "a"), ("h1", "a")), 0.0)) == 2


def test_labels_of_many_are_short() -> None:
    parts = {f"gpu{n:02d}": {str(rank) for rank in range(8)} for n in range(1, 5)}
    everyone = [(host, rank) for host in parts for rank in sorted(parts[host])]
    assert together(everyone, parts) == "gpu[01-04]:*"
    assert together([("gpu01", "0"), ("gpu01", "1"), ("gpu02", "5")], parts) == "gpu01:[0-1],gpu02:5"
    assert together([("gpu01", ""), ("gpu02", "")], {}) == "gpu[01-02]"


def test_the_plain_view_folds_where_it_is_asked_to() -> None:
    run = History("a1", "a2").link().start()
    for host in run.hosts:
        for rank in (0, 1):
            run.add(StreamOpened(at=T0, host=host, stream=rank + 1, name=f"rank {rank}"))
            run.say(host, b"NCCL version 2\n", stream=rank + 1)
    out = io.StringIO()
    view = Plain(heading(run.hosts), stdout=out, stderr=io.StringIO(), wishes=wishes(show="all", fold="exact"))
    run.say("a2", b"only here\n", stream=2).wait(0.1).play(view)
    assert out.getvalue() == ""  # the window is not over
    view.close()
    assert out.getvalue() == "a[1-2]:* | NCCL version 2  ×4\na2:1 | only here\n"
