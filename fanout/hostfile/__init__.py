"""Hostfile parser: read any known dialect; return hosts in rank order, or report all mistakes at once."""

from fanout.errors import HostfileError
from fanout.hostfile.choose import select
from fanout.hostfile.problems import Slip
from fanout.hostfile.ranges import expand_set
from fanout.hostfile.reader import parse
from fanout.hostfile.show import as_dicts, dump, explain, show
from fanout.hostfile.source import Source, load, parsed, read

__all__ = ["Source", "as_dicts", "dump", "expand", "explain", "load", "parse", "parsed", "read", "select", "show"]


def expand(expression: str) -> list[str]:
    """Expand a node set: ``gpu[01-03]!gpu02`` -> gpu01 gpu03. Raise ``HostfileError`` for an invalid or empty set."""
    try:
        names = expand_set(expression)
    except Slip as slip:
        raise HostfileError(f"{expression!r}: {slip.what}", hint=slip.fix) from None
    if not names:
        raise HostfileError(f"{expression!r}: no host is left in this set")
    return names
