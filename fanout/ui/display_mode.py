"""Views: the interface of a view, the heading of a run, and the choice of view and colours.

The caller passes the environment and the facts about the terminal, so this module is pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TextIO

from fanout.model.errors import UsageError
from fanout.model.frozen import frozen
from fanout.model.settings import Settings

Mode = Literal["live", "plain", "json", "silent"]
SILENT = "silent"  # the value of Settings.output for a caller of the Python API; the option has no such choice


@frozen
class DisplayMode:
    """Choice of the view, of colour, and of symbols beyond ASCII."""

    mode: Mode
    colour: bool
    unicode: bool


def choose_display_mode(
    environ: Mapping[str, str],
    *,
    isatty: bool,
    encoding: str | None = "utf-8",
    settings: Settings | None = None,
) -> DisplayMode:
    """Choose the view, colour and symbols from the environment, the settings (by default: none) and the stream.

    Colour is independent of the view: FORCE_COLOR colours a pipe, but does not select the live view for it.
    Raises UsageError if ``--output`` is "live" and stdout is not a capable terminal.
    """
    settings = settings or Settings()
    return DisplayMode(
        mode=_choose_view(environ, isatty=isatty, output=settings.output),
        colour=_wants_colour(environ, isatty=isatty, color=settings.color),
        unicode=_is_utf8(encoding) and not is_ascii_locale(environ),
    )


def choose_text_style(environ: Mapping[str, str], stream: TextIO, settings: Settings) -> DisplayMode:
    """Choose colour and symbols for text on this stream, as ``--color`` and the environment have it."""
    return DisplayMode(
        mode="plain",
        colour=_wants_colour(environ, isatty=stream.isatty(), color=settings.color),
        unicode=_is_utf8(getattr(stream, "encoding", None)) and not is_ascii_locale(environ),
    )


def _is_utf8(encoding: str | None) -> bool:
    return (encoding or "").lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig", "cp65001")


def is_ascii_locale(environ: Mapping[str, str]) -> bool:
    """Return whether the locale is C or POSIX, which means ASCII. Without a locale, as in a container, it is UTF-8."""
    locale_name = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := environ.get(name, ""))), "")
    return locale_name in ("C", "POSIX")


def _choose_view(environ: Mapping[str, str], *, isatty: bool, output: str) -> Mode:
    dumb = environ.get("TERM", "") in ("", "dumb", "unknown")
    if output == SILENT:
        return "silent"
    if output == "json":
        return "json"
    if output == "plain":
        return "plain"
    if output == "live":
        if not isatty or dumb:
            raise UsageError(
                "--output live needs a terminal with cursor control, and stdout is not one",
                hint="omit --output, or use --output plain",
            )
        return "live"
    in_ci = any(environ.get(name, "") not in ("", "0", "false") for name in ("CI", "GITHUB_ACTIONS"))
    return "live" if isatty and not dumb and not in_ci else "plain"


def _wants_colour(environ: Mapping[str, str], *, isatty: bool, color: str) -> bool:
    if color in ("always", "never"):
        return color == "always"
    if environ.get("NO_COLOR"):
        return False
    if any(environ.get(name, "") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return isatty and environ.get("CLICOLOR") != "0" and environ.get("TERM", "") not in ("", "dumb", "unknown")
