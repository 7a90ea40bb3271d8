"""Hostfiles: reads any known dialect, and returns the hosts in rank order or all problems at once.

It may import model and text. Start in source.py, then read parse.py.
"""

from fanout.hostfile.host_filters import select_hosts, select_spares
from fanout.hostfile.node_sets import expand_node_set
from fanout.hostfile.parse import parse_hostfile
from fanout.hostfile.problems import ParseError
from fanout.hostfile.render import dump_hostfile, explain_lines, render_hosts, to_dicts
from fanout.hostfile.source import HostSource, describe_task_file, load_source, parse_source, read_host_list
from fanout.model.errors import HostfileError

__all__ = [
    "HostSource",
    "describe_task_file",
    "dump_hostfile",
    "expand_hosts",
    "explain_lines",
    "load_source",
    "parse_hostfile",
    "parse_source",
    "read_host_list",
    "render_hosts",
    "select_hosts",
    "select_spares",
    "to_dicts",
]


def expand_hosts(expression: str) -> list[str]:
    """Expand a node set: ``gpu[01-03]!gpu02`` -> gpu01 gpu03. Raise ``HostfileError`` for an invalid or empty set."""
    try:
        names = expand_node_set(expression)
    except ParseError as error:
        raise HostfileError(f"{expression!r}: {error.what}", hint=error.fix) from None
    if not names:
        raise HostfileError(f"{expression!r}: no host is left in this set")
    return names
