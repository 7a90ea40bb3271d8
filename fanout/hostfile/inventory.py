"""YAML and JSON inventories: a list of hosts, groups with defaults, or Ansible's ``hosts``/``vars``/``children``."""

from __future__ import annotations

import re

from fanout.hostfile import rank_table
from fanout.hostfile.attributes import HostAttributes, read_attribute, reconcile_fields
from fanout.hostfile.host_list_builder import HostListBuilder
from fanout.hostfile.host_spec import HostSpecReader
from fanout.hostfile.masking import MASK
from fanout.hostfile.name_grammar import TAG
from fanout.hostfile.node_sets import MOST_HOSTS
from fanout.hostfile.plain_text import TextReader
from fanout.hostfile.problems import ParseError, SourceSpan
from fanout.hostfile.yaml_tree import Items, Leaf, Node, Table, YamlError, parse_yaml, to_word
from fanout.text.suggest import suggest_nearest

_HOSTS = ("hosts",)
_DEFAULTS = ("defaults", "vars")
_GROUPS = ("groups", "children")
_WORDS = (*_HOSTS, *_DEFAULTS, *_GROUPS)
_NAMES = ("host", "name", "hostname", "ip", "address", "node_ip", "ip_address")  # the first key present counts
_VALUE = re.compile(r"([:-][ \t]+).*")
_ANSIBLE = re.compile(r"(?m)^[ \t]*[\"']?(?:ansible_\w+|vars|children)[\"']?[ \t]*:")


class InventoryReader:
    """Reader that adds the hosts of one YAML tree to the host list."""

    def __init__(
        self, builder: HostListBuilder, file: str, text_reader: TextReader, lines: list[str], text: str
    ) -> None:
        self._builder = builder
        self._file = file
        self._lines = lines
        self._text_reader = text_reader
        self._ansible = _ANSIBLE.search(text) is not None
        self._entries = HostSpecReader(builder, ansible=self._ansible)
        self._visits = 0

    def read(self, text: str, section: str) -> None:
        try:
            tree = parse_yaml(text)
            if found := rank_table.list_servers(tree):
                self._read_rank_table(section, found)
            elif isinstance(tree, Table) and not any(word in tree for word in _WORDS) and _has_groups(tree):
                for name, leaf, node in tree:
                    self._read_named_group(name, leaf, node, parent=section)
            elif tree is not None and not (isinstance(tree, Leaf) and tree.is_null):
                self._read_group(section, tree)
        except YamlError as error:
            line = self._get_line(error.line)
            self._builder.problems.add_problem(
                SourceSpan(self._file, error.line + 1, line, error.column), error.what, error.fix
            )

    def _read_rank_table(self, group: str, found: list[tuple[Leaf, int]]) -> None:
        """Add the servers of HCCL's rank table, with one process for each device."""
        for leaf, devices in found:
            try:
                reading = HostAttributes()
                if devices:
                    reading.set_field("slots", "device", devices)
                self._entries.add_hosts(leaf.text, 0, reading, self._build_span(leaf), group)
            except ParseError as error:
                self._add_problem(leaf, error.what, error.fix)
        self._builder.add_note(
            "rank table",
            self._build_span(found[0][0]),
            "an HCCL rank table: each server_id is a host, its devices are its slots",
        )

    def _read_named_group(self, name: str, leaf: Leaf, node: Node, *, parent: str) -> None:
        if not TAG.fullmatch(name):
            self._add_problem(
                leaf, f"{name!r} is not a group name", "a letter or '_' first, then letters, digits, '.', '-', '_'"
            )
            return
        self._builder.add_group(name)
        if parent:
            self._builder.add_child_group(parent, name, self._build_span(leaf))
        if not (isinstance(node, Leaf) and node.is_null):
            self._read_group(name, node)

    def _read_group(self, name: str, node: Node) -> None:
        """Read a group: a list of hosts, or a mapping with hosts, defaults and groups."""
        self._count_visit(node)
        if not isinstance(node, Table) or not any(word in node for word in _WORDS):
            self._read_hosts(name, node)
            return
        for key, leaf, value in node:
            if isinstance(value, Leaf) and value.is_null:
                continue
            if key in _HOSTS:
                self._read_hosts(name, value)
            elif key in _DEFAULTS:
                self._read_defaults(name, leaf, value)
            elif key in _GROUPS:
                self._read_subgroups(name, leaf, value)
            else:
                self._add_problem(
                    leaf,
                    f"{key!r} is not part of a group",
                    suggest_nearest(key, _WORDS) or f"a group has {', '.join(_WORDS)}",
                )

    def _read_subgroups(self, name: str, leaf: Leaf, node: Node) -> None:
        if isinstance(node, Table):
            for child, at, value in node:
                self._read_named_group(child, at, value, parent=name)
        elif isinstance(node, Items) and all(isinstance(item, Leaf) for item in node.nodes):
            for item in node.nodes:
                if isinstance(item, Leaf):
                    self._builder.add_child_group(name, item.text, self._build_span(item))
        else:
            self._add_problem(leaf, "write groups as NAME: {hosts: …}", "")

    def _read_defaults(self, name: str, leaf: Leaf, node: Node) -> None:
        if not isinstance(node, Table):
            self._add_problem(leaf, f"{leaf.text} takes a mapping", f"write {leaf.text}: {{slots: 8}}")
            return
        try:
            reading = self._read_attributes(node, skip="")
            self._builder.set_defaults(name, reconcile_fields(reading, reading.fields))
            self._builder.note_attributes(reading, self._build_span(leaf))
        except ParseError as error:
            self._add_problem(leaf, error.what, error.fix)

    def _read_hosts(self, group: str, node: Node) -> None:
        self._count_visit(node)
        if isinstance(node, Items):
            for item in node.nodes:
                self._count_visit(item)
                if isinstance(item, Leaf):
                    self._read_line_entry(group, item)
                elif isinstance(item, Table):
                    self._read_item(group, item)
                else:
                    self._add_problem(item, "a list inside the list of hosts", "write one host per item")
        elif isinstance(node, Table):
            for name, leaf, value in node:
                self._count_visit(value)
                self._read_host(group, name, leaf, value)
        else:
            self._read_line_entry(group, node)

    def _read_line_entry(self, group: str, leaf: Leaf) -> None:
        """Read a text item as a line of a plain hostfile: ``- gpu[01-04] slots=8``."""
        span = self._build_span(leaf)
        if not leaf.text.strip() or leaf.is_null:
            self._add_problem(leaf, "a host name is missing")
            return
        try:
            self._text_reader.read_entry(leaf.text.strip(), span, group)
        except ParseError as error:
            self._add_problem(leaf, error.what, error.fix)

    def _read_item(self, group: str, table: Table) -> None:
        """Read ``{host: gpu01, slots: 8}`` or ``gpu01: {slots: 8}``."""
        key = next((name for name in _NAMES if name in table), None)
        if key is not None:
            _, value = table.pairs[key]
            if isinstance(value, Leaf) and not value.is_null:
                self._read_host(group, value.text, value, table, skip=key)
            else:
                self._add_problem(table, f"{key}: takes a name", f"write {key}: gpu01")
        elif len(table.pairs) == 1:
            ((name, leaf, value),) = table
            self._read_host(group, name, leaf, value)
        else:
            self._add_problem(table, "an item without a host", "write - host: gpu01")

    def _read_host(self, group: str, name: str, leaf: Leaf, node: Node, *, skip: str = "") -> None:
        try:
            reading = HostAttributes()
            if isinstance(node, Table):
                reading = self._read_attributes(node, skip=skip)
            elif not isinstance(node, Leaf):
                raise ParseError(f"{name} takes attributes", f"write {name}: {{slots: 8}}")
            elif not node.is_null and not node.text.isdigit():
                raise ParseError(f"{name} as a host takes a count or attributes", "write hosts: [gpu01, gpu02]")
            elif not node.is_null:
                read_attribute(reading, "slots", node.text)
            self._entries.add_hosts(name.strip(), 0, reading, self._build_span(leaf), group)
        except ParseError as error:
            self._add_problem(leaf, error.what, error.fix)

    def _read_attributes(self, table: Table, *, skip: str) -> HostAttributes:
        """Parse the attributes of a mapping. Report an error at the line of its attribute."""
        reading = HostAttributes()
        for key, leaf, node in table:
            if key == skip:
                continue
            self._count_visit(node)
            try:
                self._read_attribute(reading, key, node)
            except ParseError as error:
                self._add_problem(leaf, error.what, error.fix)
        return reading

    def _read_attribute(self, reading: HostAttributes, key: str, node: Node) -> None:
        if isinstance(node, Table):
            if key == "env":
                for name, _, value in node:
                    read_attribute(reading, f"env.{name}", to_word(name, value))
                return
            if self._ansible:
                return  # a structured variable of an Ansible playbook
        elif self._ansible and isinstance(node, Items) and key not in ("gpus", "slots", "nproc"):
            return
        read_attribute(reading, key, to_word(key, node), ansible=self._ansible)

    def _count_visit(self, node: Node) -> None:
        """Count visited nodes, so that nested aliases cannot make a short file endless."""
        self._visits += 1
        if self._visits > 20 * MOST_HOSTS:
            raise YamlError("more entries than a hostfile can have", line=node.line, column=node.column)

    def _add_problem(self, node: Node, what: str, fix: str = "") -> None:
        self._builder.problems.add_problem(self._build_span(node), what, fix)

    def _build_span(self, node: Node) -> SourceSpan:
        width = len(node.text) if isinstance(node, Leaf) else 1
        return SourceSpan(self._file, node.line + 1, self._get_line(node.line), node.column, width)

    def _get_line(self, number: int) -> str:
        """Return the line for an error; below ``env:`` without the value."""
        line = self._lines[number] if 0 <= number < len(self._lines) else ""
        indent = _count_indent(line)
        above = next((each for each in self._lines[:number][::-1] if each.strip() and _count_indent(each) < indent), "")
        if above.strip() == "env:":
            return _VALUE.sub(rf"\1{MASK}", line)
        return line


def _count_indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _has_groups(table: Table) -> bool:
    """Return whether the values of a mapping are groups, not attributes of hosts."""
    return any(
        isinstance(node, Items) or (isinstance(node, Table) and any(word in node for word in _WORDS))
        for _, _, node in table
    )
