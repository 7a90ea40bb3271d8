"""Texts about processes that outlived train.sh, calls that start processes elsewhere, and hosts that trained alone."""

from __future__ import annotations

import re

from fanout.model.events import BackgroundEnd, BackgroundFound
from fanout.model.hosts import fold_names
from fanout.model.outcome import RunOutcome
from fanout.model.rank_groups import find_separate_groups
from fanout.model.state import RunState
from fanout.text.sanitize import to_single_line
from fanout.text.units import count_noun

_WRAPPER = re.compile(r"(?:ba|da|z|k)?sh|python[\d.]*|setsid|nohup|env")
MOST_PROCESSES = 8  # of all hosts in one report

_HEADS: dict[BackgroundEnd, str] = {
    "waited": "train.sh returned before its background processes; the run waited for",
    "ended": "train.sh left running; the keeper ended",
    "kept": "train.sh left running; they still run",
}

_KEEP = " (to keep such processes: --background keep, or start them in the foreground, as ray start --block does)"


def describe_background(state: RunState) -> list[str]:
    """Return the lines of a report about background processes: what was done with which, and how to stop them."""
    lines = []
    for how, head in _HEADS.items():
        found = [(host.name, host.background[how]) for host in state.all_hosts if how in host.background]
        named = [f"{host}: {text}" for host, event in found for text in _list_processes(event)]
        if named:
            lines += [f"{head}:", *(f"  {text}" for text in named[:MOST_PROCESSES])]
        if len(named) > MOST_PROCESSES:
            lines.append(f"  and {len(named) - MOST_PROCESSES} more")
        if how == "kept":
            lines += [f"to stop them on {host}, type there: kill {event.keeper}" for host, event in found]
    return lines


def describe_separate_groups(state: RunState) -> list[str]:
    """Return a line for the report if every host trained alone; [] if not."""
    hosts = find_separate_groups(state)
    if not hosts:
        return []
    return [
        f"{fold_names(hosts)} each had a rank 0: every host trained as a group of its own (fanout check names the cause)"
    ]


def warn_of_separate_groups(state: RunState) -> str:
    """Return a warning for a run that trains while every host is a group of its own; "" if it is not so."""
    hosts = find_separate_groups(state) if state.first_step_at is not None else ()
    if not hosts:
        return ""
    return f"{fold_names(hosts)} each have a rank 0: every host trains as a group of its own (fanout check names the cause)"


def describe_outside_calls(outcome: RunOutcome) -> str:
    """Return the calls by which train.sh started processes elsewhere: fanout verified nothing there."""
    return f"train.sh calls {', '.join(outcome.outside_calls[:8])}: what that starts is not verified"


def describe_found(event: BackgroundFound, *, failed: bool) -> str:
    """Return a message without pids, equal on all hosts; "" for kept processes, which only the report names.

    ``failed``: train.sh or its launcher failed, so its processes are ended with each value of --background.
    """
    commands = [text.partition(" ")[2].partition(" ")[2] for text in _list_processes(event)]
    if not commands or event.how == "kept":
        return ""
    if event.how == "waited":
        return f": train.sh returned, and its background process still runs: waiting for {_get_program(commands[0])}"
    text = f": the keeper ended {count_noun(len(commands), 'process')} that train.sh left running: {_get_program(commands[0])}"
    return text if failed else text + _KEEP


def _get_program(command: str) -> str:
    """Return the program of a command line without its shell, interpreter and arguments, which differ between hosts."""
    words = [word for word in command.split() if not word.startswith("-")]
    names = [word.rpartition("/")[2] for word in words] or [command]
    return next((name for name in names if not _WRAPPER.fullmatch(name)), names[0])[:80]


def _list_processes(event: BackgroundFound) -> list[str]:
    return [to_single_line(line) for line in event.processes.splitlines() if line.strip()]
