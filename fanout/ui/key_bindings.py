"""Key bindings of the live view: run the action of each key."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fanout.logs.line_filters import FOLDS, parse_show
from fanout.logs.pipeline import LogPipeline
from fanout.model.errors import UsageError
from fanout.model.subscriber import Viewing
from fanout.ui.key_hints import ENTRY_MODES, InterruptKey, KeyOptions, build_hint, find_interrupt_key, list_help
from fanout.ui.key_parser import Key
from fanout.ui.run_condition import RunCondition
from fanout.ui.view_facts import ReplayControls, StackSource
from fanout.ui.view_state import Mode, ViewState

MOST_TYPED = 60
WAITING_TEXT = ("asking all ranks for their stacks; the run is not affected",)
_RANK_CHARACTERS = frozenset("0123456789,-")


class KeyBindings:
    """Key bindings. They change the view's state and the log pipeline, and call the functions of the caller.

    ``note`` prints a message, ``show_matches`` the recent lines that pass the filters now. ``detach`` and ``stop`` are None
    if they are impossible.
    """

    def __init__(
        self,
        flow: LogPipeline,
        state: ViewState,
        *,
        hosts: Sequence[str],
        note: Callable[[str], None],
        last_error: Callable[[], None],
        show_matches: Callable[[str], None] = lambda what: None,
        preview: Callable[[], Sequence[str]] | None = None,
        detach: Callable[[], None] | None = None,
        stop: Callable[[], None] | None = None,
        stacks: StackSource | None = None,
        replay: ReplayControls | None = None,
        viewing: Viewing = "run",
    ) -> None:
        self.state, self._flow, self._hosts = state, flow, hosts
        self._note, self._last_error, self._show_matches = note, last_error, show_matches
        self._preview, self._detach, self._stop = preview, detach, stop
        self._stacks, self._replay = stacks, replay
        self._viewing = viewing
        self._interrupts, self._interrupt_key = 0, InterruptKey(effect="stop")

    def build_hint(self, condition: RunCondition, interrupts: int, width: int) -> str:
        """Return the row of hints for a run that the user has interrupted so often. The keys do this from now on."""
        self._interrupts = interrupts
        self._interrupt_key = find_interrupt_key(self.options, condition)
        return build_hint(self.state, self.options, condition, width)

    @property
    def options(self) -> KeyOptions:
        """Return what the keys can do now."""
        line_filter = self._flow.line_filter
        return KeyOptions(
            viewing=self._viewing,
            can_detach=self._detach is not None,
            can_stop=self._stop is not None,
            has_stacks=self._stacks is not None,
            is_filtered=bool(line_filter.host or line_filter.text or self.state.quiet)
            or not isinstance(line_filter.show, str),
            interrupts=self._interrupts,
        )

    def use_pipeline(self, flow: LogPipeline, hosts: Sequence[str]) -> None:
        """Use the log pipeline and the hosts of the next attempt, with the filters and the folding that the user chose."""
        before, after = self._flow.line_filter, flow.line_filter
        after.show, after.text, flow.folding.mode = before.show, before.text, self._flow.folding.mode
        after.host = before.host if before.host in hosts else ""
        self.state.selected = self.state.selected if self.state.selected in hosts else ""
        self._flow, self._hosts = flow, hosts

    def handle_key(self, key: Key) -> None:
        """Run the action of one key; ignore unknown keys."""
        state = self.state
        if key.name == "paste":
            self._handle_paste(key.text)
        elif state.mode is Mode.OVERLAY:
            self._close_overlay()
        elif state.mode is Mode.QUIT:
            self._answer_question(key)
        elif state.mode in ENTRY_MODES:
            self._edit_entry(key)
        elif key.name.isdecimal() and key.name.isascii():
            self._show_ranks(key.name)
        elif self._replay is not None and key.name in _REPLAY_ACTIONS:
            _REPLAY_ACTIONS[key.name](self, self._replay)
        elif key.name in _ACTIONS and (key.alone or key.name not in _ONLY_ALONE):
            _ACTIONS[key.name](self)

    def update_stacks(self) -> None:
        """Show the stacks in the overlay once they have arrived."""
        if self.state.waits_for_stacks and self._stacks is not None and self._stacks.lines is not None:
            self.state.overlay, self.state.waits_for_stacks = self._stacks.lines, False

    # -- modes

    def _handle_paste(self, text: str) -> None:
        """Insert pasted text where the user types; elsewhere ignore it."""
        state = self.state
        if state.mode in ENTRY_MODES:
            for char in text.partition("\n")[0].partition("\r")[0]:
                self._type_character(char)
        else:
            self._note("pasted text is ignored; / opens a filter for text")

    def _close_overlay(self) -> None:
        self.state.mode, self.state.overlay, self.state.waits_for_stacks = Mode.LOG, (), False

    def _open_overlay(self, lines: Sequence[str]) -> None:
        self.state.mode, self.state.overlay = Mode.OVERLAY, lines

    def _answer_question(self, key: Key) -> None:
        """Carry out the answer to the question before leaving; any other key goes back."""
        if not key.alone:
            return
        self.state.mode = Mode.LOG
        if (self._viewing == "attach" and key.name in ("y", "q", "enter")) or (
            self._viewing == "run" and key.name == "d"
        ):
            self.detach_view()
        elif key.name == "s" and self._stop is not None:
            for _ in range(self._interrupt_key.presses):
                self._stop()

    def _open_entry(self, mode: Mode) -> None:
        self.state.mode, self.state.typed = mode, self._flow.line_filter.text if mode is Mode.TEXT else ""

    def _edit_entry(self, key: Key) -> None:
        state = self.state
        if key.name == "escape":
            if state.mode is Mode.TEXT:
                self._flow.line_filter.text = ""
            state.mode = Mode.LOG
        elif key.name == "enter":
            mode, state.mode = state.mode, Mode.LOG
            _ENTRY_ENDS[mode](self, state.typed)
        elif key.name == "erase":
            state.typed = state.typed[:-1]
            self._filter_while_typing()
        elif len(key.name) == 1:
            self._type_character(key.name)

    def _type_character(self, char: str) -> None:
        state = self.state
        fits = char in _RANK_CHARACTERS if state.mode is Mode.RANKS else char.isprintable()
        if fits and len(state.typed) < MOST_TYPED:
            state.typed += char
            self._filter_while_typing()

    def _filter_while_typing(self) -> None:
        if self.state.mode is Mode.TEXT:
            self._flow.line_filter.text = self.state.typed

    # -- what the log shows

    def _show_text(self, text: str) -> None:
        self._flow.line_filter.text = text
        if text:
            self._show_matches(f"with {text!r}")

    def _show_ranks(self, ranks: str) -> None:
        if not ranks:
            return
        try:
            wanted = parse_show(ranks)
        except UsageError as error:
            self._note(str(error).removeprefix("--show "))
            return
        self._flow.line_filter.show, self._flow.line_filter.host = wanted, ""
        what = f"rank {ranks}" if ranks.isdecimal() else f"ranks {ranks}"
        planned = self._flow.line_filter.planned_ranks
        if planned is not None and not isinstance(wanted, str) and min(wanted) >= planned:
            there = f"ranks 0-{planned - 1}" if planned > 1 else "rank 0 only"
            self._note(f"showing {what}, but this run has {there} (a: show all ranks)")
        else:
            self._show_matches(f"of {what}")

    def _show_host(self, host: str) -> None:
        self._flow.line_filter.host, self.state.selected = host, ""
        self._show_matches(f"of {host}")

    def _find_host(self, typed: str) -> None:
        """Show the host with this name, or the only host whose name contains it."""
        found = [host for host in self._hosts if typed == host] or [host for host in self._hosts if typed in host]
        if not typed:
            return
        if len(found) == 1:
            self._show_host(found[0])
        else:
            self._note(
                f"{len(found)} hosts have {typed!r} in their name" if found else f"no host has {typed!r} in its name"
            )

    def _move_selection(self, step: int) -> None:
        hosts = list(self._hosts)
        before = self.state.selected or self._flow.line_filter.host
        at = hosts.index(before) + step if before in hosts else (0 if step > 0 else len(hosts) - 1)
        self.state.selected = hosts[at % len(hosts)]

    def show_selected_host(self) -> None:
        if self.state.selected:
            self._show_host(self.state.selected)

    def go_back(self) -> None:
        """Undo the newest limit of the log: the selection, the host, the text, the ranks, then the rest."""
        line_filter = self._flow.line_filter
        if self.state.selected:
            self.state.selected = ""
        elif line_filter.host:
            line_filter.host = ""
        elif line_filter.text:
            line_filter.text = ""
        else:
            line_filter.show, self.state.quiet = "smart", False

    def cycle_folding(self) -> None:
        folding = self._flow.folding
        folding.mode = FOLDS[(FOLDS.index(folding.mode) + 1) % len(FOLDS)]

    def toggle_all_ranks(self) -> None:
        line_filter = self._flow.line_filter
        line_filter.show, line_filter.host = "smart" if line_filter.show == "all" else "all", ""
        if not self._flow.streams.parts:
            self._note("showing every line: each host has one stream, not one for each rank")

    def toggle_quiet(self) -> None:
        self.state.quiet = not self.state.quiet

    # -- what is printed and asked

    def show_help(self) -> None:
        self._open_overlay(list_help(self.options))

    def show_stacks(self) -> None:
        if self._stacks is None:
            self._note("the stacks of the ranks cannot be read here")
            return
        self._stacks.request_stacks()
        self._open_overlay(WAITING_TEXT)
        self.state.waits_for_stacks = True

    def show_diagnosis(self) -> None:
        self._open_overlay(self._preview() if self._preview is not None else ("no diagnosis is available",))

    def print_last_error(self) -> None:
        if self._flow.last_error is None:
            self._note("no error so far")
        else:
            self._last_error()

    def ask_to_quit(self) -> None:
        """Ask before leaving; a replay ends at once, because nothing is lost."""
        if self._viewing == "replay":
            self.detach_view()
        else:
            self.state.mode = Mode.QUIT

    def detach_view(self) -> None:
        if self._detach is not None:
            self._detach()


_ONLY_ALONE = ("d", "q")  # they leave, so a key among others does not count
_ACTIONS: dict[str, Callable[[KeyBindings], None]] = {
    "?": KeyBindings.show_help,
    "/": lambda keys: keys._open_entry(Mode.TEXT),
    "r": lambda keys: keys._open_entry(Mode.RANKS),
    "h": lambda keys: keys._open_entry(Mode.HOST),
    " ": lambda keys: keys.state.pause(),
    "up": lambda keys: keys._move_selection(-1),
    "down": lambda keys: keys._move_selection(1),
    "enter": KeyBindings.show_selected_host,
    "escape": KeyBindings.go_back,
    "f": KeyBindings.cycle_folding,
    "a": KeyBindings.toggle_all_ranks,
    "o": KeyBindings.toggle_quiet,
    "e": KeyBindings.print_last_error,
    "p": KeyBindings.show_diagnosis,
    "s": KeyBindings.show_stacks,
    "q": KeyBindings.ask_to_quit,
    "d": KeyBindings.detach_view,
}
_REPLAY_ACTIONS: dict[str, Callable[[KeyBindings, ReplayControls], None]] = {
    " ": lambda keys, replay: replay.toggle_pause(),
    "left": lambda keys, replay: replay.seek_by(-10.0),
    "right": lambda keys, replay: replay.seek_by(10.0),
    "[": lambda keys, replay: keys._note(replay.seek_to_event(-1)),
    "]": lambda keys, replay: keys._note(replay.seek_to_event(1)),
    "home": lambda keys, replay: replay.seek_to_start(),
    "end": lambda keys, replay: replay.seek_to_end(),
    "+": lambda keys, replay: replay.change_speed(True),
    "=": lambda keys, replay: replay.change_speed(True),
    "-": lambda keys, replay: replay.change_speed(False),
}
_ENTRY_ENDS: dict[Mode, Callable[[KeyBindings, str], None]] = {
    Mode.RANKS: KeyBindings._show_ranks,
    Mode.TEXT: KeyBindings._show_text,
    Mode.HOST: KeyBindings._find_host,
}
