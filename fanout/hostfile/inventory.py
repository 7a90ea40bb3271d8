"""YAML and JSON inventories: a list of hosts, groups with defaults, or Ansible's ``hosts``/``vars``/``children``."""

from __future__ import annotations

import re

from fanout.hostfile import ranktable
from fanout.hostfile.attributes import Reading, finish, read_attribute
from fanout.hostfile.entries import Entries
from fanout.hostfile.masking import MASK
from fanout.hostfile.names import TAG
from fanout.hostfile.problems import Slip, Spot, nearest
from fanout.hostfile.ranges import MOST_HOSTS
from fanout.hostfile.roll import Roll
from fanout.hostfile.text import TextReader
from fanout.hostfile.tree import Items, Leaf, Misread, Node, Table, as_word, grow

_HOSTS = ("hosts",)
_DEFAULTS = ("defaults", "vars")
_GROUPS = ("groups", "children")
_WORDS = (*_HOSTS, *_DEFAULTS, *_GROUPS)
_NAMES = ("host", "name", "hostname", "ip", "address", "node_ip", "ip_address")  # the first key present counts
_VALUE = re.compile(r"([:-][ \t]+).*")
_ANSIBLE = re.compile(r"(?m)^[ \t]*[\"']?(?:ansible_\w+|vars|children)[\"']?[ \t]*:")


class InventoryReader:
    """Reader that adds the hosts of one YAML tree to the host list."""

    def __init__(self, roll: Roll, file: str, text_reader: TextReader, lines: list[str], text: str) -> None:
        self._roll = roll
        self._file = file
        self._lines = lines
        self._text_reader = text_reader
        self._ansible = _ANSIBLE.search(text) is not None
        self._entries = Entries(roll, ansible=self._ansible)
        self._visits = 0

    def read(self, text: str, section: str) -> None:
        try:
            tree = grow(text)
            if found := ranktable.servers(tree):
                self._rank_table(section, found)
            elif isinstance(tree, Table) and not any(word in tree for word in _WORDS) and _holds_groups(tree):
                for name, leaf, node in tree:
                    self._named_group(name, leaf, node, parent=section)
            elif tree is not None and not (isinstance(tree, Leaf) and tree.is_null):
                self._group(section, tree)
        except Misread as error:
            line = self._line(error.line)
            self._roll.problems.add(Spot(self._file, error.line + 1, line, error.column), error.what, error.fix)

    def _rank_table(self, group: str, found: list[tuple[Leaf, int]]) -> None:
        """Add the servers of HCCL's rank table, with one process for each device."""
        for leaf, devices in found:
            try:
                reading = Reading()
                if devices:
                    reading.put("slots", "device", devices)
                self._entries.enlist(leaf.text, 0, reading, self._spot(leaf), group)
            except Slip as slip:
                self._tell(leaf, slip.what, slip.fix)
        self._roll.note(
            "rank table",
            self._spot(found[0][0]),
            "an HCCL rank table: each server_id is a host, its devices are its slots",
        )

    def _named_group(self, name: str, leaf: Leaf, node: Node, *, parent: str) -> None:
        if not TAG.fullmatch(name):
            self._tell(
                leaf, f"{name!r} is not a group name", "a letter or '_' first, then letters, digits, '.', '-', '_'"
            )
            return
        self._roll.group(name)
        if parent:
            self._roll.child(parent, name, self._spot(leaf))
        if not (isinstance(node, Leaf) and node.is_null):
            self._group(name, node)

    def _group(self, name: str, node: Node) -> None:
        """Read a group: a list of hosts, or a mapping with hosts, defaults and groups."""
        self._visit(node)
        if not isinstance(node, Table) or not any(word in node for word in _WORDS):
            self._hosts(name, node)
            return
        for key, leaf, value in node:
            if isinstance(value, Leaf) and value.is_null:
                continue
            if key in _HOSTS:
                self._hosts(name, value)
            elif key in _DEFAULTS:
                self._defaults(name, leaf, value)
            elif key in _GROUPS:
                self._subgroups(name, leaf, value)
            else:
                self._tell(
                    leaf, f"{key!r} is not part of a group", nearest(key, _WORDS) or f"a group has {', '.join(_WORDS)}"
                )

    def _subgroups(self, name: str, leaf: Leaf, node: Node) -> None:
        if isinstance(node, Table):
            for child, at, value in node:
                self._named_group(child, at, value, parent=name)
        elif isinstance(node, Items) and all(isinstance(item, Leaf) for item in node.nodes):
            for item in node.nodes:
                if isinstance(item, Leaf):
                    self._roll.child(name, item.text, self._spot(item))
        else:
            self._tell(leaf, "write groups as NAME: {hosts: …}", "")

    def _defaults(self, name: str, leaf: Leaf, node: Node) -> None:
        if not isinstance(node, Table):
            self._tell(leaf, f"{leaf.text} takes a mapping", f"write {leaf.text}: {{slots: 8}}")
            return
        try:
            reading = self._reading(node, skip="")
            self._roll.say(name, finish(reading, reading.fields))
            self._roll.note_reading(reading, self._spot(leaf))
        except Slip as slip:
            self._tell(leaf, slip.what, slip.fix)

    def _hosts(self, group: str, node: Node) -> None:
        self._visit(node)
        if isinstance(node, Items):
            for item in node.nodes:
                self._visit(item)
                if isinstance(item, Leaf):
                    self._line_entry(group, item)
                elif isinstance(item, Table):
                    self._item(group, item)
                else:
                    self._tell(item, "a list inside the list of hosts", "write one host per item")
        elif isinstance(node, Table):
            for name, leaf, value in node:
                self._visit(value)
                self._host(group, name, leaf, value)
        else:
            self._line_entry(group, node)

    def _line_entry(self, group: str, leaf: Leaf) -> None:
        """Read a text item as a line of a plain hostfile: ``- gpu[01-04] slots=8``."""
        spot = self._spot(leaf)
        if not leaf.text.strip() or leaf.is_null:
            self._tell(leaf, "a host name is missing")
            return
        try:
            self._text_reader.entry(leaf.text.strip(), spot, group)
        except Slip as slip:
            self._tell(leaf, slip.what, slip.fix)

    def _item(self, group: str, table: Table) -> None:
        """Read ``{host: gpu01, slots: 8}`` or ``gpu01: {slots: 8}``."""
        key = next((name for name in _NAMES if name in table), None)
        if key is not None:
            _, value = table.pairs[key]
            if isinstance(value, Leaf) and not value.is_null:
                self._host(group, value.text, value, table, skip=key)
            else:
                self._tell(table, f"{key}: takes a name", f"write {key}: gpu01")
        elif len(table.pairs) == 1:
            ((name, leaf, value),) = table
            self._host(group, name, leaf, value)
        else:
            self._tell(table, "an item without a host", "write - host: gpu01")

    def _host(self, group: str, name: str, leaf: Leaf, node: Node, *, skip: str = "") -> None:
        try:
            reading = Reading()
            if isinstance(node, Table):
                reading = self._reading(node, skip=skip)
            elif not isinstance(node, Leaf):
                raise Slip(f"{name} takes attributes", f"write {name}: {{slots: 8}}")
            elif not node.is_null and not node.text.isdigit():
                raise Slip(f"{name} as a host takes a count or attributes", "write hosts: [gpu01, gpu02]")
            elif not node.is_null:
                read_attribute(reading, "slots", node.text)
            self._entries.enlist(name.strip(), 0, reading, self._spot(leaf), group)
        except Slip as slip:
            self._tell(leaf, slip.what, slip.fix)

    def _reading(self, table: Table, *, skip: str) -> Reading:
        """Parse the attributes of a mapping. Report an error at the line of its attribute."""
        reading = Reading()
        for key, leaf, node in table:
            if key == skip:
                continue
            self._visit(node)
            try:
                self._attribute(reading, key, node)
            except Slip as slip:
                self._tell(leaf, slip.what, slip.fix)
        return reading

    def _attribute(self, reading: Reading, key: str, node: Node) -> None:
        if isinstance(node, Table):
            if key == "env":
                for name, _, value in node:
                    read_attribute(reading, f"env.{name}", as_word(name, value))
                return
            if self._ansible:
                return  # a structured variable of an Ansible playbook
        elif self._ansible and isinstance(node, Items) and key not in ("gpus", "slots", "nproc"):
            return
        read_attribute(reading, key, as_word(key, node), ansible=self._ansible)

    def _visit(self, node: Node) -> None:
        """Count visited nodes, so that nested aliases cannot make a short file endless."""
        self._visits += 1
        if self._visits > 20 * MOST_HOSTS:
            raise Misread("more entries than a hostfile can have", line=node.line, column=node.column)

    def _tell(self, node: Node, what: str, fix: str = "") -> None:
        self._roll.problems.add(self._spot(node), what, fix)

    def _spot(self, node: Node) -> Spot:
        width = len(node.text) if isinstance(node, Leaf) else 1
        return Spot(self._file, node.line + 1, self._line(node.line), node.column, width)

    def _line(self, number: int) -> str:
        """Return the line for an error; below ``env:`` without the value."""
        line = self._lines[number] if 0 <= number < len(self._lines) else ""
        indent = _indent(line)
        above = next((each for each in self._lines[:number][::-1] if each.strip() and _indent(each) < indent), "")
        if above.strip() == "env:":
            return _VALUE.sub(rf"\1{MASK}", line)
        return line


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _holds_groups(table: Table) -> bool:
    """Return whether the values of a mapping are groups, not attributes of hosts."""
    return any(
        isinstance(node, Items) or (isinstance(node, Table) and any(word in node for word in _WORDS))
        for _, _, node in table
    )
