"""Host list builder: collect hosts, groups, group defaults and exclusions while a hostfile is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fanout.hostfile.attributes import Fields, HostAttributes, apply_defaults, list_known_keys
from fanout.hostfile.node_sets import MOST_HOSTS
from fanout.hostfile.problems import Problems, SourceSpan
from fanout.model.hosts import Host, HostFile
from fanout.text.suggest import suggest_nearest

_UNTAGGED = ("all", "ungrouped")  # Ansible's groups of all hosts and of hosts without a group


@dataclass(slots=True)
class _Entry:
    name: str
    fields: Fields
    span: SourceSpan
    groups: dict[str, None] = field(default_factory=dict)
    bare: bool = True


class HostListBuilder:
    """Host list under construction. The reader of the dialect fills it; the last step builds the hosts.

    The order of first appearance is the rank. A name that appears again in another group without attributes joins that
    group; any other second appearance is a duplicate.
    """

    def __init__(self, source: str, problems: Problems) -> None:
        self.source = source
        self.problems = problems
        self._entries: dict[str, _Entry] = {}
        self._parents: dict[str, dict[str, SourceSpan]] = {}
        self._defaults: dict[str, Fields] = {}
        self._groups: dict[str, None] = {}
        self._left_out: list[tuple[str, SourceSpan]] = []
        self._notes: dict[str, tuple[SourceSpan, int, str]] = {}

    def add_host(self, name: str, fields: Fields, span: SourceSpan, group: str = "") -> None:
        key = name.casefold()
        known = self._entries.get(key)
        if known is not None and _get_ssh_port(known.fields) != _get_ssh_port(fields):
            self.add_note(
                "ports",
                span,
                f"{name} occurs with several ports: this host is named {name}:{fields.get('port', 22)}",
            )
            fields = {**fields, "hostname": fields.get("hostname", name), "port": _get_ssh_port(fields)}
            name = f"{name}:{fields['port']}"
            key = name.casefold()
            known = self._entries.get(key)
        if known is None:
            if len(self._entries) >= MOST_HOSTS:
                self.problems.add_problem(span, f"more than {MOST_HOSTS:,} hosts")
                return
            self._entries[key] = known = _Entry(name, fields, span)
        elif not group or group in known.groups or fields:
            where = f"line {known.span.line}" if known.span.file == span.file else str(known.span.origin)
            as_there = "" if known.name == name else f" as {known.name}"
            self.problems.add_problem(
                span, f"{name} is already on {where}{as_there}", "one entry per host; slots=2 for two processes"
            )
            return
        if group:
            known.groups[group] = None
            self._groups[group] = None

    def add_group(self, name: str) -> None:
        """Add a group; it exists even without hosts."""
        self._groups[name] = None

    def add_child_group(self, parent: str, name: str, span: SourceSpan) -> None:
        """Make all hosts of group ``name`` members of ``parent``."""
        self._parents.setdefault(name, {})[parent] = span
        self._groups[parent] = None

    def require_group(self, name: str, span: SourceSpan) -> None:
        """Record a reference to a group, which must exist at the end."""
        self._parents.setdefault(name, {}).setdefault("", span)

    def set_defaults(self, group: str, fields: Fields) -> None:
        """Set defaults for the hosts of a group; "" and "all" are all hosts."""
        self._defaults[group] = apply_defaults(fields, self._defaults.get(group, {}))

    def exclude_host(self, name: str, span: SourceSpan) -> None:
        self._left_out.append((name, span))

    def add_note(self, kind: str, span: SourceSpan, text: str) -> None:
        """Add a note that is printed once, with the number of lines that it applies to."""
        first, count, first_text = self._notes.get(kind, (span, 0, text))
        self._notes[kind] = (first, count + 1, first_text)

    def note_attributes(self, reading: HostAttributes, span: SourceSpan) -> None:
        """Add notes about unusual attributes of one host."""
        for key in reading.unknown:
            guess = suggest_nearest(key.lower(), list_known_keys())
            self.add_note(
                f"key {key}", span, f"unknown attribute {key!r} is kept but not used" + (f"; {guess}" if guess else "")
            )
        for key in reading.withheld:
            self.add_note(
                f"secret {key}",
                span,
                f"{key} is ignored: fanout logs in with a key or an ssh agent (see ~/.ssh/config)",
            )
        if reading.counted_gpus:
            count = reading.counted_gpus
            self.add_note(
                "gpus",
                span,
                f"gpus={count} is read as a count; for the single GPU with id {count} write gpus=[{count}]",
            )

    def build_hostfile(self) -> HostFile:
        """Build the hostfile value. Raise ``HostfileError`` if there were problems."""
        self._check_groups()
        kept = self._drop_excluded()
        if not self._entries and not self.problems:
            self.problems.add_problem(
                SourceSpan(file=self.source, line=1), "no host found", "write one host per line, e.g.: gpu01 slots=8"
            )
        elif not kept and not self.problems:
            self.problems.add_problem(
                SourceSpan(file=self.source, line=1), "every host is left out", "remove a ^host line"
            )
        self.problems.raise_if_any()
        ancestry = {name: tuple(self._walk_ancestors(name)) for name in self._groups}
        hosts = tuple(self._build_host(entry, ancestry) for entry in kept)
        return HostFile(source=self.source, hosts=hosts, notes=tuple(self._render_notes()))

    def _build_host(self, entry: _Entry, ancestry: dict[str, tuple[str, ...]]) -> Host:
        fields = entry.fields
        if entry.groups:
            near = list(dict.fromkeys([*entry.groups, *(up for name in entry.groups for up in ancestry[name])]))
            for name in near:
                if name in self._defaults:
                    fields = apply_defaults(fields, self._defaults[name])
            tags = tuple(name for name in near if name not in _UNTAGGED)
            fields = apply_defaults({**fields, "tags": fields.get("tags", ())}, {"tags": tags})
        for group in ("all", ""):
            if group in self._defaults:
                fields = apply_defaults(fields, self._defaults[group])
        return Host(name=entry.name, origin=entry.span.origin, **fields)

    def _walk_ancestors(self, name: str) -> Iterator[str]:
        """Yield the groups that contain ``name``, nearest first; a cycle is walked once."""
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
            fix = suggest_nearest(name, self._groups) or f"begin the group with a line [{name}]"
            self.problems.add_problem(next(iter(parents.values())), f"no group {name!r} in this file", fix)

    def _drop_excluded(self) -> list[_Entry]:
        excluded: set[str] = set()
        for name, span in self._left_out:
            if name.casefold() in self._entries:
                excluded.add(name.casefold())
            else:
                known = (entry.name for entry in self._entries.values())
                self.problems.add_problem(
                    span, f"{name} is excluded with ^ but is not in the file", suggest_nearest(name, known)
                )
        return [entry for key, entry in self._entries.items() if key not in excluded]

    def _render_notes(self) -> Iterator[str]:
        for span, count, text in self._notes.values():
            more = f" (and {count - 1:,} more)" if count > 1 else ""
            yield f"{span.origin}: {text}{more}"


def _get_ssh_port(fields: Fields) -> int:
    """Return the port, which separates containers behind one address; 22 if none is given."""
    return int(fields.get("port") or 22)
