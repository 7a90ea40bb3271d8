"""What all views share: the heading of a run, the shape of a view, and the one decision how to show.

Nothing here reads the environment or asks a terminal: the caller hands both in, so that the decision is a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from fanout.errors import UsageError
from fanout.events import Event
from fanout.state import RunState
from fanout.views.sanitise import clean

Mode = Literal["live", "plain", "json"]
Viewing = Literal["run", "attach", "replay"]  # what Ctrl-C does depends on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What is known of a run before it begins; ``ranks`` is host -> (node rank, processes or None)."""

    run_id: str
    title: str
    hosts: tuple[str, ...]
    log_dir: str | None = None
    ranks: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)


class View(Protocol):
    """A subscriber: called after every event with the state that already includes it, from one thread.

    ``broken`` turns True when nobody reads the output any more (``fanout run … | head``): the caller should end the
    run in order. ``note`` says a sentence of the caller's in the view's own way.
    """

    @property
    def broken(self) -> bool: ...

    def __call__(self, event: Event, state: RunState) -> None: ...

    def note(self, text: str) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How to show: which view, whether in colour, and whether symbols beyond ASCII can be shown."""

    mode: Mode
    colour: bool
    unicode: bool


def choose(
    environ: Mapping[str, str],
    *,
    isatty: bool,
    encoding: str | None = "utf-8",
    output: str = "auto",
    color: str = "auto",
) -> Look:
    """How to show on a stdout that is (or is not) a terminal, with this environment and these two flags.

    Colour and cursor movement are decided apart: FORCE_COLOR colours a pipe, but never makes it a terminal.
    """
    return Look(
        mode=_mode(environ, isatty=isatty, output=output),
        colour=_colour(environ, isatty=isatty, color=color),
        unicode=_is_utf8(encoding) and not no_symbols(environ),
    )


def _is_utf8(encoding: str | None) -> bool:
    return (encoding or "").lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig", "cp65001")


def no_symbols(environ: Mapping[str, str]) -> bool:
    """Did the user say that ASCII is all there is? Python takes C for UTF-8; who says nothing, in a container, means that."""
    said = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := environ.get(name, ""))), "")
    return said in ("C", "POSIX")


def _mode(environ: Mapping[str, str], *, isatty: bool, output: str) -> Mode:
    dumb = environ.get("TERM", "") in ("", "dumb", "unknown")
    if output == "json":
        return "json"
    if output == "plain":
        return "plain"
    if output == "live":
        if not isatty or dumb:
            raise UsageError(
                "--output live needs a terminal that can move its cursor, and stdout is none",
                hint="leave --output out, or use --output plain",
            )
        return "live"
    if output != "auto":
        raise UsageError(f"--output {output}: unknown", hint="one of auto, live, plain, json")
    in_ci = any(environ.get(name, "") not in ("", "0", "false") for name in ("CI", "GITHUB_ACTIONS"))
    return "live" if isatty and not dumb and not in_ci else "plain"


def _colour(environ: Mapping[str, str], *, isatty: bool, color: str) -> bool:
    if color in ("always", "never"):
        return color == "always"
    if color != "auto":
        raise UsageError(f"--color {color}: unknown", hint="one of auto, always, never")
    if environ.get("NO_COLOR"):
        return False
    if any(environ.get(name, "") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return isatty and environ.get("CLICOLOR") != "0" and environ.get("TERM", "") not in ("", "dumb", "unknown")


def label(host: str, stream: str) -> str:
    """Who says a line: ``gpu01``, for a rank's streams ``gpu01:5``, for any other stream ``gpu01:name``."""
    if not stream:
        return host
    name = clean(stream, colour=False)
    return (
        f"{host}:{name.removeprefix('rank ').replace(' err', '', 1)}" if name.startswith("rank ") else f"{host}:{name}"
    )
