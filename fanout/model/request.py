"""Request: the command line as one value. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

from fanout.model.frozen import frozen


@frozen
class HostFilters:
    """Host selection flags: DeepSpeed's include and exclude, node sets, a count, a tag."""

    include: str = ""
    exclude: str = ""
    nodes: str = ""
    without: str = ""
    nnodes: str = ""
    tag: str = ""

    @classmethod
    def take_from(cls, values: dict[str, Any]) -> HostFilters:
        """Return the flags in ``values``, a dict from name to value, and remove them there."""
        names = [each.name for each in fields(cls) if each.name in values]
        return cls(**{name: values.pop(name) or "" for name in names})


@frozen
class Request:
    """Parsed command line. ``flags`` are settings by name, ``given`` are the command's own options.

    ``head`` has fanout's flags as the user typed them. ``literal``: ``--`` stands before TASK, so no word is a mistake.
    """

    verb: str
    hosts: str = ""
    task: tuple[str, ...] = ()
    filters: HostFilters = field(default_factory=HostFilters)
    flags: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    head: tuple[str, ...] = ()
    literal: bool = False
    notes: tuple[str, ...] = ()  # warnings about the command line
