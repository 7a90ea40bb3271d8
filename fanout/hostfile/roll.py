"""The hosts of a hostfile while it is being read: their order, their groups, what each group says, who is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fanout.hostfile.attributes import Fields, Reading, fill, known_keys
from fanout.hostfile.problems import Problems, Spot, nearest
from fanout.hostfile.ranges import MOST_HOSTS
from fanout.hosts import Host, HostFile

_UNTAGGED = ("all", "ungrouped")  # Ansible's words for everybody and for nobody


@dataclass(slots=True)
class _Entry:
    name: str
    fields: Fields
    spot: Spot
    groups: dict[str, None] = field(default_factory=dict)
    bare: bool = True


class Roll:
    """Filled line by line by whichever reader understands the file; ``finish`` makes the values that travel.

    Order is rank, so it is the order in which names are first met. A name met again inside another group, with
    nothing said about it, joins that group; met again in any other way it is a duplicate.
    """

    def __init__(self, source: str, problems: Problems) -> None:
        self.source = source
        self.problems = problems
        self._entries: dict[str, _Entry] = {}
        self._parents: dict[str, dict[str, Spot]] = {}
        self._said: dict[str, Fields] = {}
        self._groups: dict[str, None] = {}
        self._left_out: list[tuple[str, Spot]] = []
        self._notes: dict[str, tuple[Spot, int, str]] = {}

    def add(self, name: str, fields: Fields, spot: Spot, group: str = "") -> None:
        key = name.casefold()
        known = self._entries.get(key)
        if known is not None and _ssh_port(known.fields) != _ssh_port(fields):
            self.note(
                "ports",
                spot,
                f"{name} is there with several ports: this host is called {name}:{fields.get('port', 22)}",
            )
            fields = {**fields, "hostname": fields.get("hostname", name), "port": _ssh_port(fields)}
            name = f"{name}:{fields['port']}"
            key = name.casefold()
            known = self._entries.get(key)
        if known is None:
            if len(self._entries) >= MOST_HOSTS:
                self.problems.add(spot, f"more than {MOST_HOSTS:,} hosts")
                return
            self._entries[key] = known = _Entry(name, fields, spot)
        elif not group or group in known.groups or fields:
            where = f"line {known.spot.line}" if known.spot.file == spot.file else str(known.spot.origin)
            as_there = "" if known.name == name else f" as {known.name}"
            self.problems.add(
                spot, f"{name} is already on {where}{as_there}", "one entry a host; slots=2 for two processes"
            )
            return
        if group:
            known.groups[group] = None
            self._groups[group] = None

    def group(self, name: str) -> None:
        """A section has begun: the group exists even if nobody is in it."""
        self._groups[name] = None

    def child(self, parent: str, name: str, spot: Spot) -> None:
        """Everybody of group ``name`` is also in ``parent``."""
        self._parents.setdefault(name, {})[parent] = spot
        self._groups[parent] = None

    def mention(self, name: str, spot: Spot) -> None:
        """A group is referred to: it must turn out to exist."""
        self._parents.setdefault(name, {}).setdefault("", spot)

    def say(self, group: str, fields: Fields) -> None:
        """What holds for everybody in a group, unless a host says otherwise; "" and "all" are everybody."""
        self._said[group] = fill(fields, self._said.get(group, {}))

    def leave_out(self, name: str, spot: Spot) -> None:
        self._left_out.append((name, spot))

    def note(self, kind: str, spot: Spot, text: str) -> None:
        """Something to tell the user once, however many lines it is true of."""
        first, count, said = self._notes.get(kind, (spot, 0, text))
        self._notes[kind] = (first, count + 1, said)

    def note_reading(self, reading: Reading, spot: Spot) -> None:
        """What is unusual in the attributes of one host."""
        for key in reading.unknown:
            guess = nearest(key.lower(), known_keys())
            self.note(
                f"key {key}", spot, f"unknown attribute {key!r} is kept but not used" + (f"; {guess}" if guess else "")
            )
        for key in reading.withheld:
            self.note(f"secret {key}", spot, f"{key} is not read: fanout logs in by key or agent (see ~/.ssh/config)")
        if reading.counted_gpus:
            count = reading.counted_gpus
            self.note(
                "gpus", spot, f"gpus={count} is read as a count; the one GPU number {count} is written gpus=[{count}]"
            )

    def finish(self) -> HostFile:
        """Everything gathered as values; raises ``HostfileError`` if anything was wrong."""
        self._check_groups()
        kept = self._without_left_out()
        if not self._entries and not self.problems:
            self.problems.add(
                Spot(file=self.source, line=1), "no host in it", "write one host a line, e.g.: gpu01 slots=8"
            )
        elif not kept and not self.problems:
            self.problems.add(Spot(file=self.source, line=1), "every host is left out", "remove a ^host line")
        self.problems.check()
        ancestry = {name: tuple(self._ancestors(name)) for name in self._groups}
        hosts = tuple(self._host(entry, ancestry) for entry in kept)
        return HostFile(source=self.source, hosts=hosts, notes=tuple(self._told_notes()))

    def _host(self, entry: _Entry, ancestry: dict[str, tuple[str, ...]]) -> Host:
        fields = entry.fields
        if entry.groups:
            near = list(dict.fromkeys([*entry.groups, *(up for name in entry.groups for up in ancestry[name])]))
            for name in near:
                if name in self._said:
                    fields = fill(fields, self._said[name])
            tags = tuple(name for name in near if name not in _UNTAGGED)
            fields = fill({**fields, "tags": fields.get("tags", ())}, {"tags": tags})
        for everybody in ("all", ""):
            if everybody in self._said:
                fields = fill(fields, self._said[everybody])
        return Host(name=entry.name, origin=entry.spot.origin, **fields)

    def _ancestors(self, name: str) -> Iterator[str]:
        """The groups that ``name`` lies in, nearest first; a circle is walked once."""
        seen, layer = {name}, [name]
        while layer:
            layer = [up for low in layer for up in self._parents.get(low, ()) if up and up not in seen]
            layer = list(dict.fromkeys(layer))
            seen.update(layer)
            yield from layer

    def _check_groups(self) -> None:
        for name, parents in self._parents.items():
            if name in self._groups or name in _UNTAGGED:
                continue
            fix = nearest(name, self._groups) or f"begin the group with a line [{name}]"
            self.problems.add(next(iter(parents.values())), f"no group {name!r} in this file", fix)

    def _without_left_out(self) -> list[_Entry]:
        gone: set[str] = set()
        for name, spot in self._left_out:
            if name.casefold() in self._entries:
                gone.add(name.casefold())
            else:
                known = (entry.name for entry in self._entries.values())
                self.problems.add(spot, f"{name} is to be left out but is not in the file", nearest(name, known))
        return [entry for key, entry in self._entries.items() if key not in gone]

    def _told_notes(self) -> Iterator[str]:
        for spot, count, text in self._notes.values():
            more = f" (and {count - 1:,} more)" if count > 1 else ""
            yield f"{spot.origin}: {text}{more}"


def _ssh_port(fields: Fields) -> int:
    """Return the port that tells two containers behind one address apart; where none is given it is ssh's own."""
    return int(fields.get("port") or 22)
