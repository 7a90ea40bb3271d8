"""Flight recorder dumps as values: the progress of each rank in each process group, and the collective it waits in.

The summaries come from hosts, or from files of unknown origin, so the parsers check the shape of every value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fanout.model.frozen import frozen

Frames = tuple[tuple[str, int, str], ...]


@frozen
class Collective:
    """One collective as a rank recorded it: ``number`` is torch's within the group; frames are innermost first."""

    number: int
    op: str
    inputs: tuple[tuple[int, ...], ...] = ()
    outputs: tuple[tuple[int, ...], ...] = ()
    dtypes: tuple[str, ...] = ()
    state: str = ""
    frames: Frames = ()


@frozen
class GroupProgress:
    """Progress of one rank in one process group. ``waits`` is the first collective that is not complete.

    ``members`` are global ranks; empty if the backend does not record them (gloo).
    """

    group: str
    title: str
    members: tuple[int, ...] = ()
    enqueued: int = 0
    completed: int = 0
    waits: Collective | None = None
    last: Collective | None = None


@frozen
class FlightDump:
    """One dump. ``world`` is the number of ranks of its run, 0 if unknown; ``whole``: nothing was overwritten."""

    host: str  # "" if unknown
    rank: int
    path: str
    world: int = 0
    whole: bool = True
    courses: tuple[GroupProgress, ...] = ()


class DumpCollection:
    """The dumps of all hosts. If a file is read again, the later result replaces the earlier one."""

    def __init__(self) -> None:
        self.flights: dict[tuple[str, str], FlightDump] = {}  # by host and path
        self.looked: set[str] = set()  # hosts that were searched for dumps
        self.unread: dict[str, None] = {}  # sentences

    def add_dumps(self, host: str, entries: Sequence[Any]) -> None:
        """Add the reader's results for the files of a host ("": unknown host)."""
        self.looked.add(host)
        self.flights.update(((host, flight.path), flight) for flight in parse_dumps(host, entries))
        self.unread.update(
            (f"{host}: not read: {why}" if host else f"not read: {why}", None) for why in list_unreadable(entries)
        )


def parse_dumps(host: str, entries: Sequence[Any]) -> Iterator[FlightDump]:
    """Yield the readable dumps of an answer."""
    for entry in entries:
        try:
            yield FlightDump(
                host=host,
                rank=int(entry["rank"]),
                path=str(entry["path"])[:300],
                world=int(entry["world"]),
                whole=bool(entry["whole"]),
                courses=tuple(_parse_progress(each) for each in entry["groups"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            continue


def list_unreadable(entries: Sequence[Any]) -> Iterator[str]:
    """Yield ``PATH: reason`` for each unreadable file."""
    for entry in entries:
        if isinstance(entry, Mapping) and entry.get("untold"):
            yield f"{entry.get('path')}: {entry['untold']}"


def _parse_progress(entry: Mapping[str, Any]) -> GroupProgress:
    name, desc = str(entry["name"])[:80], str(entry["desc"])[:80]
    return GroupProgress(
        group=name,
        title="the default group" if desc == "default_pg" else f"group {name if desc in ('', 'undefined') else desc}",
        members=tuple(sorted(int(rank) for rank in entry["ranks"] or ())),
        enqueued=int(entry["enqueued"]),
        completed=int(entry["completed"]),
        waits=_parse_collective(entry["waits"]) if entry["waits"] else None,
        last=_parse_collective(entry["last"]) if entry["last"] else None,
    )


def _parse_collective(entry: Mapping[str, Any]) -> Collective:
    return Collective(
        number=int(entry["seq"]),
        op=str(entry["op"])[:80],
        inputs=_parse_sizes(entry["inputs"]),
        outputs=_parse_sizes(entry["outputs"]),
        dtypes=tuple(str(name)[:20] for name in entry["dtypes"]),
        state=str(entry["state"]),
        frames=tuple((str(file), int(line), str(name)) for file, line, name in entry["frames"]),
    )


def _parse_sizes(sizes: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(size) for size in each) for each in sizes)
