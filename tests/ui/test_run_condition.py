"""The condition of a run, for every kind of history, and at every moment of it."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from fanout.model.actions import Abandon, Kill, Release, Stop
from fanout.model.events import Event, Interrupted, StreamOpened
from fanout.model.policy import Policy, decide_actions
from fanout.model.state import RunState, apply_event
from fanout.ui.key_hints import KeyOptions, find_interrupt_key
from fanout.ui.live_view import LiveView
from fanout.ui.run_condition import Observations, RunCondition, find_run_status, format_seconds
from tests import histories
from tests.histories import History
from tests.ui import run_states
from tests.ui.goldens import Terminal, build_heading, same_as_golden
from tests.ui.run_states import STATES, TITLES
from tests.ui.test_key_bindings import Stacks
from tests.ui.test_view_screens import TypedKeys

SIZES = ((80, 24), (100, 30), (140, 40))


def show_state(name: str, columns: int, rows: int, *, unicode: bool = True) -> Terminal:
    """Return a terminal with the live view of a run in this state."""
    run, out = STATES[name](), io.StringIO()
    heading = replace(
        build_heading(run.hosts),
        ranks={host: (node, 2) for node, host in enumerate(run.hosts)},
        lease=run_states.LEASE,
        connect_timeout=run_states.CONNECT_TIMEOUT,
    )
    facts = run_states.build_view_facts(name)
    size = columns, rows
    keys = {"keyboard": TypedKeys(), "detach": lambda: None, "stop": lambda: None, "stacks": Stacks()}
    live = LiveView(heading, stdout=out, size=lambda: size, clock=lambda: 0.0, unicode=unicode, **keys, **facts)  # type: ignore[arg-type]
    run.play_events(live)
    live.draw_frame(force=True)
    terminal = Terminal(columns, rows)
    terminal.feed_text(out.getvalue())
    return terminal


def find_block(terminal: Terminal) -> list[str]:
    """Return the rows of the block, without the log above it."""
    seen = terminal.seen
    return seen[next(at for at, line in enumerate(seen) if "  00:" in line or line.startswith(" 00:")) :]


@pytest.mark.parametrize(("columns", "rows"), SIZES)
@pytest.mark.parametrize("name", STATES)
def test_every_state_has_its_screen(name: str, columns: int, rows: int) -> None:
    """The title ends with the state, and a time left stands there only while the steps advance."""
    terminal = show_state(name, columns, rows)
    block = find_block(terminal)
    assert block[0].endswith(TITLES[name])
    assert any(line.endswith(" s left") and "step" in line for line in block[1:]) == (name in run_states.WITH_TIME)
    assert max(map(len, block)) < columns
    same_as_golden(f"state-{name}-{columns}x{rows}", "\n".join(terminal.seen[-rows:]) + "\n")


@pytest.mark.parametrize("size", [(40, 10), (40, 24), (60, 12), (79, 8)])
@pytest.mark.parametrize("name", STATES)
def test_small_terminal_shows_the_condition(name: str, size: tuple[int, int]) -> None:
    columns, rows = size
    terminal = show_state(name, columns, rows)
    word = TITLES[name].split("  ")[0].split()[0]
    assert any(word in line for line in terminal.seen)
    assert not any(line.startswith("  ") and len(line) >= columns for line in terminal.seen[-max(2, rows // 3) :])


@pytest.mark.parametrize("name", STATES)
def test_state_is_readable_in_ascii(name: str) -> None:
    assert "\n".join(show_state(name, 80, 24, unicode=False).seen).isascii()


EFFECTS: dict[str, tuple[type, ...]] = {"stop": (Stop, Release), "kill now": (Kill,), "leave unverified": (Abandon,)}


@pytest.mark.parametrize("name", sorted({*STATES} - {"ended"}))
def test_ctrl_c_does_in_each_state_what_the_hint_states_and_not_with_fewer_presses(name: str) -> None:
    run = STATES[name]()
    state = run.play_events()
    status = find_run_status(build_heading(run.hosts), state, Observations())
    key = find_interrupt_key(KeyOptions(interrupts=len(state.interrupts)), status.condition)
    for press in range(1, key.presses + 1):
        state = apply_event(state, Interrupted(at=state.now, signal=2))
        follows = any(isinstance(action, EFFECTS[key.effect]) for action in decide_actions(Policy(), state))
        assert follows == (press == key.presses), (str(key), press)


@pytest.mark.parametrize("name", sorted(histories.TYPICAL))
def test_condition_never_goes_back_to_an_earlier_part_of_the_run(name: str) -> None:
    """A run that ends never counts as running again."""
    run, found = histories.TYPICAL[name](), []

    def note_condition(event: Event, state: RunState) -> None:
        found.append(find_run_status(build_heading(run.hosts), state, Observations()).condition)

    run.play_events(note_condition)
    order = {
        RunCondition.CONNECTING: 0,
        RunCondition.STARTING: 1,
        RunCondition.ENDING: 3,
        RunCondition.FAILING: 4,
        RunCondition.STOPPING: 5,
        RunCondition.VERIFYING: 6,
        RunCondition.ENDED: 7,
    }
    places = [order.get(condition, 2) for condition in found]
    assert places == sorted(places)
    assert found[-1] is RunCondition.ENDED


def test_host_with_rank_streams_is_past_the_rendezvous() -> None:
    run = run_states.build_rendezvous()
    run.add_events(StreamOpened(at=run.at, host="gpu04", stream=1, name="rank 6")).add_output("gpu01", b"x\n")
    status = find_run_status(build_heading(run.hosts), run.play_events(), Observations())
    assert status.condition is RunCondition.RUNNING


def test_run_that_prints_rarely_is_not_silent() -> None:
    """A line every 20 seconds is usual for this run; 50 seconds without one are still within three pauses."""
    run = History("a", "b").connect_hosts().start_hosts()
    for _ in range(4):
        run.add_output("a", b"x\n").add_output("b", b"x\n").pass_time(20.0)
    heading = build_heading(run.hosts)
    assert find_run_status(heading, run.pass_time(30.0).play_events(), Observations()).condition is RunCondition.RUNNING
    assert find_run_status(heading, run.pass_time(15.0).play_events(), Observations()).condition is RunCondition.SILENT


def test_stop_that_waits_for_an_unreachable_host_names_it() -> None:
    run = run_states.build_disconnected()
    run.stop_hosts("time limit", *run.hosts, reason="time-limit").end_hosts("gpu01", "gpu02", "gpu04").pass_time(1.0)
    status = find_run_status(build_heading(run.hosts), run.play_events(), Observations())
    assert str(status) == "STOPPING  waiting for gpu03, no connection"


def test_run_without_lease_states_no_lease() -> None:
    run = run_states.build_disconnected()
    status = find_run_status(build_heading(run.hosts), run.play_events(), Observations())
    assert str(status) == "DISCONNECTED gpu03"


def test_seconds_change_at_most_once_a_second() -> None:
    assert [format_seconds(value) for value in (-1, 0.9, 8.99, 240.5, 3700)] == [
        "0 s",
        "0 s",
        "8 s",
        "240 s",
        "1 h 1 min",
    ]
