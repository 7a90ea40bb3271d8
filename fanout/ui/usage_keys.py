"""Keys of the view of hosts' usage: its state, the action of each key, the row of hints and the help. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from fanout.sharing.host_usage import HostUsage
from fanout.sharing.usage_order import SORTS, UsageFilter
from fanout.text.table import count_columns
from fanout.ui.key_bindings import MOST_TYPED
from fanout.ui.key_parser import Key


class UsageMode(Enum):
    """What the keys mean now."""

    TABLE = "table"
    HELP = "help"
    TEXT = "text to show"
    HOST = "host to show"
    USER = "user to show"


ENTRY_MODES = (UsageMode.TEXT, UsageMode.HOST, UsageMode.USER)
HELP = (
    "GPUS     one block per GPU: its load in the colour of its user; . or · is free, ✗ does not answer",
    "up down  select a host; Enter shows only this host, Esc goes back",
    "h        show one host: type its name",
    "/        show only hosts, users, runs and commands with a text; Esc clears it",
    "u        show only one user: type the name; an empty name shows all",
    "f        show only hosts with a free GPU; again: all",
    "s        sort by the next value: {sorts}",
    "g        show every host as one cell; again: as rows",
    "space    pause the display; again: continue",
    "q        quit, as Ctrl-C does",
)


@dataclass(slots=True, kw_only=True)
class UsageViewState:
    """State that the keys change. ``as_grid``: None chooses by the number of hosts."""

    chosen: UsageFilter = field(default_factory=UsageFilter)
    mode: UsageMode = UsageMode.TABLE
    typed: str = ""
    selected: str = ""
    paused: bool = False
    as_grid: bool | None = None
    has_quit: bool = False


class UsageKeys:
    """Actions of the keys. ``shown`` returns the hosts on the screen, in order."""

    def __init__(self, state: UsageViewState, shown: Callable[[], Sequence[HostUsage]]) -> None:
        self.state, self._shown = state, shown

    def handle_key(self, key: Key) -> None:
        """Run the action of one key; ignore unknown keys."""
        state = self.state
        if state.mode is UsageMode.HELP:
            state.mode = UsageMode.TABLE
        elif state.mode in ENTRY_MODES:
            self._edit_entry(key)
        elif key.name in _ACTIONS:
            _ACTIONS[key.name](self)

    def _edit_entry(self, key: Key) -> None:
        state = self.state
        if key.name == "escape":
            state.mode, state.typed = UsageMode.TABLE, ""
        elif key.name == "enter":
            mode, typed = state.mode, state.typed
            state.mode, state.typed = UsageMode.TABLE, ""
            self._accept_entry(mode, typed)
        elif key.name == "erase":
            state.typed = state.typed[:-1]
        else:
            text = key.text if key.name == "paste" else key.name if len(key.name) == 1 else ""
            state.typed = (state.typed + "".join(char for char in text if char.isprintable()))[:MOST_TYPED]

    def _accept_entry(self, mode: UsageMode, typed: str) -> None:
        chosen = self.state.chosen
        if mode is UsageMode.TEXT:
            self.state.chosen = replace(chosen, text=typed)
        elif mode is UsageMode.USER:
            self.state.chosen = replace(chosen, users=(typed,) if typed else ())
        else:
            names = [host.host for host in self._shown()]
            found = [name for name in names if name == typed] or [name for name in names if typed and typed in name]
            if len(found) == 1:
                self.state.chosen = replace(chosen, host=found[0])

    def open_entry(self, mode: UsageMode) -> None:
        """Let the user type a text, a host or a user."""
        self.state.mode, self.state.typed = mode, ""

    def move_selection(self, step: int) -> None:
        """Select the next or the previous host on the screen."""
        names = [host.host for host in self._shown()]
        if names:
            before = self.state.selected
            at = names.index(before) + step if before in names else (0 if step > 0 else len(names) - 1)
            self.state.selected = names[at % len(names)]

    def show_selected(self) -> None:
        """Show only the selected host."""
        if self.state.selected:
            self.state.chosen = replace(self.state.chosen, host=self.state.selected)

    def go_back(self) -> None:
        """Undo the newest limit: the host, the selection, the text, the users, then the rest."""
        state, chosen = self.state, self.state.chosen
        if chosen.host:
            state.chosen = replace(chosen, host="")
        elif state.selected:
            state.selected = ""
        elif chosen.text:
            state.chosen = replace(chosen, text="")
        else:
            state.chosen = replace(chosen, users=(), only_free=False)

    def toggle_free(self) -> None:
        """Show only hosts with a free GPU, or all."""
        self.state.chosen = replace(self.state.chosen, only_free=not self.state.chosen.only_free)

    def cycle_sort(self) -> None:
        """Sort by the next value."""
        at = SORTS.index(self.state.chosen.sort)
        self.state.chosen = replace(self.state.chosen, sort=SORTS[(at + 1) % len(SORTS)])

    def toggle_grid(self, is_grid: bool) -> None:
        """Show cells instead of rows, or rows instead of cells."""
        self.state.as_grid = not is_grid

    def set_mode(self, mode: UsageMode) -> None:
        """Change what the keys mean."""
        self.state.mode = mode

    def toggle_pause(self) -> None:
        """Pause the display, or continue."""
        self.state.paused = not self.state.paused

    def quit_view(self) -> None:
        """Leave the view."""
        self.state.has_quit = True


_ACTIONS: dict[str, Callable[[UsageKeys], None]] = {
    "?": lambda keys: keys.set_mode(UsageMode.HELP),
    "/": lambda keys: keys.open_entry(UsageMode.TEXT),
    "h": lambda keys: keys.open_entry(UsageMode.HOST),
    "u": lambda keys: keys.open_entry(UsageMode.USER),
    "up": lambda keys: keys.move_selection(-1),
    "left": lambda keys: keys.move_selection(-1),
    "down": lambda keys: keys.move_selection(1),
    "right": lambda keys: keys.move_selection(1),
    "enter": UsageKeys.show_selected,
    "escape": UsageKeys.go_back,
    "f": UsageKeys.toggle_free,
    "s": UsageKeys.cycle_sort,
    "g": lambda keys: keys.toggle_grid(bool(keys.state.as_grid)),
    " ": UsageKeys.toggle_pause,
    "q": UsageKeys.quit_view,
}


def list_usage_help() -> list[str]:
    """Return the help: one line per key."""
    return [line.replace("{sorts}", ", ".join(SORTS)) for line in HELP]


def build_usage_hint(state: UsageViewState, width: int) -> str:
    """Return the row of keys that work now, the most important first; keys that do not fit are dropped."""
    if state.mode is UsageMode.HELP:
        return "any key closes this"
    if state.mode in ENTRY_MODES:
        return f"{state.mode.value}: {state.typed}_   Enter; Esc: cancel"
    chosen = state.chosen
    is_limited = bool(chosen.host or chosen.text or chosen.users or chosen.only_free or state.selected)
    hints = [
        "? help",
        "q quit",
        *(["Esc back"] if is_limited else []),
        *(["Enter one host"] if state.selected and not chosen.host else ["↑↓ host"]),
        "f free",
        "u user",
        "s sort",
        "/ filter",
        "space resume" if state.paused else "space pause",
        "g grid",
    ]
    row = ""
    for hint in hints:
        longer = f"{row}  {hint}" if row else hint
        if count_columns(longer) <= width - 2:
            row = longer
    return row


def describe_choice(state: UsageViewState) -> list[str]:
    """Return what limits the view, for the title: ``user alice``, ``free only``, ``by temp``, ``PAUSED``."""
    chosen = state.chosen
    parts = [f"host {chosen.host}"] if chosen.host else []
    parts += [f"user {','.join(chosen.users)}"] if chosen.users else []
    parts += [f"/{chosen.text}"] if chosen.text else []
    parts += ["free only"] if chosen.only_free else []
    parts += [f"by {chosen.sort}"] if chosen.sort != "file" else []
    return [*parts, *(["PAUSED"] if state.paused else [])]
