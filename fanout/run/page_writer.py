"""HTML page of a run: written once, or rewritten while the run is active, for ``fanout report --html FILE [--follow]``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from fanout.model.errors import LauncherError
from fanout.model.exit_status import ExitStatus
from fanout.record import follow
from fanout.record.index import list_attempt_paths, split_attempt_path
from fanout.record.recorded_attempts import find_next_attempt, find_reported_attempt, read_attempt_records
from fanout.run.command_context import CommandContext
from fanout.run.page_attempt import PageAttempt
from fanout.run.page_file import PageFile
from fanout.text.units import format_size
from fanout.ui.attempt_table import render_attempts
from fanout.ui.html.page import fill_template
from fanout.ui.html.page_head import RecordStage

REWRITE_SECONDS = 5.0
MOST_CPU = 0.05  # share of one core for rewrites: a page that takes long to build is rewritten less often


def write_page(file: PageFile, paths: Sequence[str], context: CommandContext) -> int:
    """Write the page with these attempts; return 0. Raises UsageError or LauncherError."""
    built = {path: _build_final_json(path, context) for path in paths}
    try:
        size = file.write(_fill_page(built, find_reported_attempt(paths), live=None))
    except OSError as error:
        raise LauncherError(f"--html {file.name}: {error.strerror}") from None
    context.process.print_message(f"wrote {file.name} ({format_size(size)}): open it in a browser")
    return ExitStatus.SUCCESS


def follow_page(file: PageFile, paths: Sequence[str], context: CommandContext) -> int:
    """Rewrite the page until the run ends; return 0, or 130 after Ctrl-C. Raises UsageError or LauncherError."""
    follower = PageFollower(file, context)
    try:
        end = follower.follow_run(paths)
    except KeyboardInterrupt:
        follower.end_updates()
        context.process.print_message(f"left; {file.name} is no longer updated")
        return ExitStatus.INTERRUPTED
    if follower.trouble:
        raise LauncherError(f"--html {file.name}: {follower.trouble}: the page is not complete")
    name = end.recorded.heading.run_id
    if end.find_stage() is RecordStage.ENDED:
        context.process.print_message(f"run {name} has ended; {file.name} is complete")
    else:
        context.process.print_message(
            f"run {name}: no process writes its record: the launcher died. To resume it:  fanout attach {name}"
        )
    return ExitStatus.SUCCESS


class PageFollower:
    """Writer of the page of an active run. ``trouble`` is why the last write failed, "" if it did not."""

    def __init__(self, file: PageFile, context: CommandContext) -> None:
        self.trouble = ""
        self._file, self._context = file, context
        self._built: dict[str, str] = {}  # directory of each attempt -> its newest data as JSON
        self._shown = ""  # the attempt that the page shows first
        self._due = 0.0

    def follow_run(self, paths: Sequence[str]) -> PageAttempt:
        """Write the page of the run again and again until its record has its end; return the last attempt."""
        for path in paths[:-1]:
            self._built[path] = _build_final_json(path, self._context)
        following: str | None = paths[-1]
        while following is not None:
            attempt = PageAttempt(following, self._context)
            self._follow_attempt(attempt)
            following = find_next_attempt(attempt.recorded.path)
            self._built[attempt.recorded.path] = attempt.build_final_json(
                RecordStage.ENDED if following is not None else attempt.find_stage()
            )
        self._shown = find_reported_attempt([*self._built])
        self._write(live=None)
        return attempt

    def end_updates(self) -> None:
        """Write the page as it is for the last time, so that browsers stop loading it again."""
        if self._shown:
            self._write(live={"written": time.time(), "every": 0})

    def _follow_attempt(self, attempt: PageAttempt) -> None:
        """Read the attempt to its end. The first page comes when all earlier events are read."""
        is_current = False
        for event in follow.follow_events(attempt.recorded):
            if event is not None:
                attempt.add_event(event)
            is_current = is_current or event is None
            if is_current and time.monotonic() >= self._due:
                self._rewrite(attempt)

    def _rewrite(self, attempt: PageAttempt) -> None:
        """Write the page of an active run, and plan the next time."""
        if attempt.find_stage() is not RecordStage.ACTIVE:
            return  # the last page follows
        began = time.process_time()
        self._built[attempt.recorded.path] = attempt.build_active_json()
        self._shown = attempt.recorded.path
        used = time.process_time() - began
        every = max(REWRITE_SECONDS, used / MOST_CPU)
        self._write(live={"written": time.time(), "every": every})
        used = time.process_time() - began
        self._due = time.monotonic() + max(REWRITE_SECONDS, used / MOST_CPU)

    def _write(self, live: Mapping[str, Any] | None) -> None:
        """Write the page. If that fails, report it once; the next write tries again. Raises UsageError."""
        try:
            self._file.write(_fill_page(self._built, self._shown, live=live))
        except OSError as error:
            if not self.trouble:
                self._context.process.print_message(f"--html {self._file.name}: {error.strerror}; trying again")
            self.trouble = str(error.strerror)
        else:
            self.trouble = ""


def _build_final_json(path: str, context: CommandContext) -> str:
    """Return the data of an attempt, from its whole record."""
    attempt = PageAttempt(path, context)
    attempt.read_all_events()
    stage = attempt.find_stage()
    return attempt.build_active_json() if stage is RecordStage.ACTIVE else attempt.build_final_json(stage)


def _fill_page(built: Mapping[str, str], shown: str, *, live: Mapping[str, Any] | None) -> str:
    """Return the page with all attempts. ``live`` has when it was written and when the next write follows."""
    run, number = split_attempt_path(next(iter(built)))
    is_whole = number == 0 and len(list_attempt_paths(run)) > 1 and len(built) > 1
    lines = render_attempts(read_attempt_records(run)) if is_whole else []
    others = [text for path, text in built.items() if path != shown]
    return fill_template(built[shown], others, live=live, attempt_lines=lines)
