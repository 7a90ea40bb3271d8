"""Rate limit of the screen: readable output is complete, and a flood is cut at line ends and counted."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from fanout.logs.rate_limit import RateLimiter
from fanout.model.events import Chunk, Tick
from fanout.ui.live_view import LiveView
from tests.histories import T0, History
from tests.ui.goldens import build_heading


def chunk(data: bytes, at: float = T0) -> Chunk:
    return Chunk(at=at, host="h1", stream=0, offset=0, data=data)


def test_ten_thousand_lines_a_second_are_shown_whole() -> None:
    valve = RateLimiter()
    for tick in range(500):
        event = chunk(
            b"step 1234 | loss 2.3456 | grad norm 0.789 | lr 3.0e-4 | 12345 tokens/s\n" * 100, T0 + tick / 100
        )
        assert valve.limit_event(event) is event
    assert valve.skipped == 0
    assert valve.limit_event(Tick(at=T0)) == Tick(at=T0)


@given(st.lists(st.binary(max_size=300) | st.lists(st.binary(max_size=8), max_size=400).map(b"\n".join), max_size=20))
def test_every_line_of_a_flood_is_shown_whole_or_counted(pieces: list[bytes]) -> None:
    """For any chunks, the output is the input without some whole lines."""
    valve = RateLimiter(rate=1000.0)
    out = [bytes(event.data) for piece in pieces if isinstance(event := valve.limit_event(chunk(piece)), Chunk)]
    before, after = b"".join(pieces).split(b"\n"), b"".join(out).split(b"\n")
    assert valve.skipped == len(before) - len(after)
    assert before[-1] == after[-1]
    rest = iter(before)
    assert all(line in rest for line in after)  # in their order


def test_a_flood_on_screen_is_bounded_and_has_a_count_of_hidden_lines() -> None:
    run = History("h1").connect_hosts().start_hosts()
    for number in range(50):
        run.add_output("h1", b"".join(b"line %d\n" % (number * 10_000 + each) for each in range(10_000)))
    out = io.StringIO()
    view = LiveView(build_heading(("h1",)), stdout=out, colour=False, size=lambda: (100, 30))
    run.play_events(view)
    view.close()
    shown = out.getvalue()
    assert "lines not shown" in shown
    assert "line 499999" in shown
    assert shown.count("\n") < 60_000


def flood(valve: RateLimiter, text: bytes, seconds: float) -> list[bytes]:
    """Return what is shown of 20 MB/s of ``text``."""
    piece = (text * (131072 // len(text) + 1))[:131072]
    events = [
        valve.limit_event(chunk(piece, T0 + tick * 131072 / 20e6)) for tick in range(int(seconds * 20e6 / 131072))
    ]
    return [event.data for event in events if isinstance(event, Chunk)]


def test_a_lasting_flood_has_a_tenth_of_the_rate_and_later_the_whole_rate() -> None:
    valve = RateLimiter()
    line = b"step 1234 | loss 2.3456 | grad norm 0.789 | lr 3.0e-4 | 12345 tokens/s\n"
    flood(valve, line, 1.0)
    shown = sum(map(len, flood(valve, line, 5.0)))
    assert 0.02 * 5 * 1_600_000 < shown < 0.15 * 5 * 1_600_000
    calm = chunk(line * 100, T0 + 60)
    assert valve.limit_event(calm) is calm


def test_the_first_error_line_in_hidden_output_is_shown() -> None:
    valve = RateLimiter()
    flood(valve, b"all is well, step after step after step\n", 1.0)
    calm = b"all is well, step after step after step\n" * 2000
    out = valve.limit_event(chunk(calm + b"[rank5]: RuntimeError: no\nmore of it\n" + calm, T0 + 1.01))
    assert isinstance(out, Chunk)
    assert b"\n[rank5]: RuntimeError: no\nmore of it\n" in out.data
    assert len(out.data) < 10_000
