"""Key bindings of the live view: run the action of each key, and build the row that lists them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fanout.logs.line_filters import FOLDS, parse_show
from fanout.logs.pipeline import LogPipeline
from fanout.model.errors import UsageError
from fanout.model.subscriber import Viewing

HELP = (
    "f      fold equal lines: off, exact, similar (numbers may differ)",
    "a      show all ranks; again: rank 0, and warnings and errors of all",
    "0-9    show only this rank  r  show some ranks: type 0,8-15, Enter",
    "e      print the last error again in full",
    "p      post-mortem: print the diagnosis so far",
    "q      quiet: show only errors; again: show the log",
    "Ctrl-Z suspend fanout, not the run; the lease keeps running",
)
CTRL_C_HELP = {
    "run": "Ctrl-C stop the run on all hosts; again: kill it",
    "attach": "Ctrl-C leave; the run continues (`fanout stop` stops it)",
    "replay": "Ctrl-C quit the replay",
}
DETACH_HELP = "d      detach: fanout exits, the run continues"
_ENTER, _ESCAPE, _ERASE = ("\r", "\n"), "\x1b", ("\x7f", "\b")


class KeyBindings:
    """Key bindings that change the log pipeline. ``note`` prints a message; ``detach`` is None if detach is impossible."""

    def __init__(
        self,
        flow: LogPipeline,
        *,
        note: Callable[[str], None],
        last_error: Callable[[], None],
        preview: Callable[[], Sequence[str]] | None = None,
        detach: Callable[[], None] | None = None,
        viewing: Viewing = "run",
    ) -> None:
        self.viewing = viewing
        self._flow, self._note, self._last_error = flow, note, last_error
        self._preview, self._detach = preview, detach
        self._typed: str | None = None  # the ranks typed so far, after the key r
        self.quiet = False

    @property
    def key_hint(self) -> str:
        """Return the row of keys; it has at most 79 columns."""
        if self._typed is not None:
            return f"ranks to show, such as 0,8-15: {self._typed}_   (Enter; Esc: cancel)"
        other = "smart" if self._flow.line_filter.show == "all" else "all"
        ranks, leave = ("r ranks", "  d detach") if self._detach is not None else ("0-9 r ranks", "")
        loud = "loud" if self.quiet else "quiet"
        ctrl_c = {"run": "stop", "attach": "leave", "replay": "quit"}[self.viewing]
        if self.viewing == "attach":
            leave = ""  # Ctrl-C detaches too
        return f"? help  ^C {ctrl_c}{leave}  a {other}  {ranks}  f fold  e error  p why  q {loud}"

    def use_pipeline(self, flow: LogPipeline) -> None:
        """Use the log pipeline of the next attempt, with the ranks and the folding that the user chose."""
        flow.line_filter.show, flow.folding.mode = self._flow.line_filter.show, self._flow.folding.mode
        self._flow = flow

    def handle_key(self, key: str) -> None:
        """Run the action of one key; ignore unknown keys."""
        if self._typed is not None:
            self._edit_ranks(key)
        elif key.isdecimal() and key.isascii():
            self._show_ranks(key)
        elif key == "r":
            self._typed = ""
        elif key in _ACTIONS:
            _ACTIONS[key](self)

    def _edit_ranks(self, key: str) -> None:
        assert self._typed is not None
        if key == _ESCAPE:
            self._typed = None
        elif key in _ENTER:
            typed, self._typed = self._typed, None
            if typed:
                self._show_ranks(typed)
        elif key in _ERASE:
            self._typed = self._typed[:-1]
        elif key in "0123456789,-" and len(self._typed) < 40:
            self._typed += key

    def _show_ranks(self, ranks: str) -> None:
        try:
            wanted = parse_show(ranks)
        except UsageError as error:
            self._note(str(error).removeprefix("--show "))
            return
        self._flow.line_filter.show = wanted
        what = f"showing rank {ranks}" if ranks.isdecimal() else f"showing ranks {ranks}"
        planned = self._flow.line_filter.planned_ranks
        if planned is not None and not isinstance(wanted, str) and min(wanted) >= planned:
            there = f"ranks 0-{planned - 1}" if planned > 1 else "rank 0 only"
            self._note(f"{what}, but this run has {there} (a: show all ranks)")
        else:
            self._note(f"{what} (a: show all ranks)" if ranks.isdecimal() else what)

    def print_help(self) -> None:
        leave = (DETACH_HELP,) if self._detach is not None and self.viewing == "run" else ()
        for line in (*HELP, CTRL_C_HELP[self.viewing], *leave):
            self._note(line)

    def cycle_folding(self) -> None:
        folding = self._flow.folding
        folding.mode = FOLDS[(FOLDS.index(folding.mode) + 1) % len(FOLDS)]
        self._note(f"folding: {folding.mode}")

    def toggle_all_ranks(self) -> None:
        chooser = self._flow.line_filter
        chooser.show = "smart" if chooser.show == "all" else "all"
        if not self._flow.streams.parts:
            self._note("showing every line: each host has one stream, not one for each rank")
        else:
            self._note(
                "showing all ranks" if chooser.show == "all" else "showing rank 0, and warnings and errors of all"
            )

    def print_last_error(self) -> None:
        if self._flow.last_error is None:
            self._note("no error so far")
        else:
            self._last_error()

    def print_diagnosis(self) -> None:
        for line in self._preview() if self._preview is not None else ("no diagnosis is available",):
            self._note(line)

    def toggle_quiet(self) -> None:
        self.quiet = not self.quiet
        self._note("quiet: errors only (q shows the log again)" if self.quiet else "showing the log again")

    def detach_view(self) -> None:
        if self._detach is not None:
            self._detach()


_ACTIONS: dict[str, Callable[[KeyBindings], None]] = {
    "?": KeyBindings.print_help,
    "h": KeyBindings.print_help,
    "f": KeyBindings.cycle_folding,
    "a": KeyBindings.toggle_all_ranks,
    "e": KeyBindings.print_last_error,
    "p": KeyBindings.print_diagnosis,
    "q": KeyBindings.toggle_quiet,
    "d": KeyBindings.detach_view,
}
