"""Texts about the keys: the row of hints, the help, and the question before leaving. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from fanout.model.frozen import frozen
from fanout.model.subscriber import Viewing
from fanout.text.table import count_columns
from fanout.ui.run_condition import RunCondition
from fanout.ui.view_state import Mode, ViewState

MOST_COLUMNS = 79
_ENTRY_HINTS = {
    Mode.RANKS: ("ranks to show, such as 0,8-15: ", "   Enter; Esc: cancel"),
    Mode.TEXT: ("text to show: ", "   Enter; Esc: clear"),
    Mode.HOST: ("host to show: ", "   Enter; Esc: cancel"),
}
ENTRY_MODES = tuple(_ENTRY_HINTS)
_BEFORE_START = (RunCondition.CONNECTING, RunCondition.STARTING)
_ENDING = (RunCondition.STOPPING, RunCondition.FAILING, RunCondition.VERIFYING, RunCondition.ENDED)


@frozen
class KeyOptions:
    """What the keys can do in this view. ``interrupts`` is how often the user has interrupted the run."""

    viewing: Viewing = "run"
    can_detach: bool = False
    can_stop: bool = False
    has_stacks: bool = False
    is_filtered: bool = False
    interrupts: int = 0


@frozen
class InterruptKey:
    """What Ctrl-C does now, and how often the user presses it for that."""

    effect: str
    presses: int = 1

    def __str__(self) -> str:
        return f"{' '.join(['^C'] * self.presses)} {self.effect}"


def build_hint(state: ViewState, options: KeyOptions, condition: RunCondition, width: int) -> str:
    """Return the row of keys that work now, the most important first; keys that do not fit are dropped."""
    if state.mode in ENTRY_MODES:
        return _build_entry(state, width - 2)
    if state.mode is Mode.QUIT:
        return _fit_question(*_build_question(options, condition), width - 2)
    if state.mode is Mode.OVERLAY:
        return "any key closes this"
    hints = _list_replay_hints(state) if options.viewing == "replay" else _list_hints(state, options, condition)
    return _fit_hints(hints, min(width - 2, MOST_COLUMNS))


def _fit_hints(hints: Sequence[str], width: int) -> str:
    row = ""
    for hint in hints:
        longer = f"{row}  {hint}" if row else hint
        if count_columns(longer) <= width:
            row = longer
    return row


def find_interrupt_key(options: KeyOptions, condition: RunCondition) -> InterruptKey:
    """Return what Ctrl-C does now: the first one stops the run, the second kills it, and the third leaves it."""
    if options.viewing != "run":
        return InterruptKey(effect={"attach": "leave", "replay": "quit"}[options.viewing])
    if condition not in (RunCondition.STOPPING, RunCondition.VERIFYING):
        return InterruptKey(effect="stop")
    if condition is RunCondition.STOPPING and options.interrupts < 2:  # the first failure may have stopped it
        return InterruptKey(effect="kill now", presses=2 - options.interrupts)
    return InterruptKey(effect="leave unverified", presses=max(1, 3 - options.interrupts))


def _list_hints(state: ViewState, options: KeyOptions, condition: RunCondition) -> list[str]:
    """Return the hints of an active run, the most important first."""
    stays = options.viewing == "run" and condition not in _ENDING
    return [
        "? help",
        *([] if condition is RunCondition.ENDED else [str(find_interrupt_key(options, condition))]),
        *(["Esc back"] if options.is_filtered or state.selected else []),
        *(["space resume"] if state.paused else []),
        *(["d detach"] if options.can_detach and stays else []),
        "q quit",
        "/ filter",
        *([] if state.paused else ["space pause"]),
        *(["s stacks"] if options.has_stacks and condition not in (*_BEFORE_START, *_ENDING) else []),
        "p why",
        "a all",
        "↑↓ host",
        "r ranks",
        "f fold",
        "e error",
    ]


def _list_replay_hints(state: ViewState) -> list[str]:
    return [
        "? help",
        "q quit",
        "space pause",
        "←→ 10 s",
        "[ ] event",
        "+ - speed",
        "/ filter",
        "p why",
        "a all",
        "↑↓ host",
    ]


def _build_entry(state: ViewState, width: int) -> str:
    """Return what the user types; on a narrow terminal, without explanations and with the end of a long text."""
    before, after = _ENTRY_HINTS[state.mode]
    for text in (f"{before}{state.typed}_{after}", f"{before}{state.typed}_"):
        if count_columns(text) <= width:
            return text
    short = before.partition(" ")[0]
    typed = state.typed
    while typed and count_columns(f"{short}: {typed}_") > width:
        typed = typed[1:]
    return f"{short}: {typed}_"


def _build_question(options: KeyOptions, condition: RunCondition) -> tuple[str, list[tuple[str, str]]]:
    """Return the question before leaving, and its answers: the key with its name, and what follows."""
    back = ("Esc back", "")
    if options.viewing == "attach":
        return "leave?", [("y leave", ", the run continues"), back]
    if condition in _ENDING:
        stops = options.can_stop and condition is not RunCondition.ENDED
        stop = [(f"s {find_interrupt_key(options, condition).effect}", "")] if stops else []
        return "the run is ending:", [*stop, back]
    detach = [("d detach", ", the run continues")] if options.can_detach else []
    return "leave?", [*detach, *([("s stop", " the run")] if options.can_stop else []), back]


def _fit_question(question: str, answers: Sequence[tuple[str, str]], width: int) -> str:
    """Return the question with all answers; on a narrow terminal, with their names only."""
    full = f"{question}  {'   '.join(name + more for name, more in answers)}"
    if count_columns(full) <= width:
        return full
    names = "  ".join(name for name, _ in answers)
    return f"{question}  {names}" if count_columns(f"{question}  {names}") <= width else names


def list_help(options: KeyOptions) -> list[str]:
    """Return the help: one line per key."""
    replay = options.viewing == "replay"
    lines = [
        "/        show only lines with a text; Esc clears it",
        "space    pause the replay" if replay else "space    pause the log; new lines are counted and follow later",
        "up down  select a host; Enter shows only this host, Esc goes back",
        "h        show one host: type its name",
        "0-9  r   show one rank; r: type ranks such as 0,8-15",
        "a        show all ranks; again: rank 0, and warnings and errors of all",
        "f        fold equal lines: off, exact, similar (numbers may differ)",
        "o        show only errors; again: show the log",
        "e        print the last error again in full",
        "p        show the diagnosis so far",
        *(["s        show the stacks of all ranks; the run is not affected"] if options.has_stacks else []),
        "Esc      show what is shown by default",
    ]
    if replay:
        lines += [
            "← →      10 seconds back or forward; Home, End: start, end with the report",
            "[ ]      event before or after: start, failure, connection lost, hang, stop",
            "+ -      faster or slower",
        ]
    leave = {
        "run": [
            "q        leave: asks first",
            "Ctrl-C   stop the run on all hosts; again: kill it; once more: leave it",
        ],
        "attach": ["q        leave: asks first", "Ctrl-C   leave; the run continues (fanout stop stops it)"],
        "replay": ["q        quit the replay, as Ctrl-C does"],
    }[options.viewing]
    if options.can_detach and options.viewing == "run":
        leave.append("d        detach: fanout exits, the run continues")
    if not replay:
        leave.append("Ctrl-Z   suspend fanout, not the run; the lease keeps running")
    return [*lines, *leave]
