"""YAML tree of plain strings with line numbers: no tags, no type conversion, bounded depth and size.

Scalars keep their text (``0123`` and ``no`` stay as they are); the attribute parser interprets them. The tree is built
from parser events, not with a loader. So a thousand nested brackets are an error and not a crash, an alias costs
nothing until it is used, and a tag is never resolved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Union

from fanout.hostfile.problems import ParseError

DEEPEST = 32
MOST_NODES = 1_000_000

Node = Union["Leaf", "Items", "Table"]


class YamlError(Exception):
    """The text is not supported YAML; ``line`` and ``column`` count from 0."""

    def __init__(self, what: str, fix: str = "", *, line: int, column: int = 0) -> None:
        super().__init__(what)
        self.what, self.fix, self.line, self.column = what, fix, line, column


@dataclass(slots=True, kw_only=True)
class Leaf:
    """A scalar as written in the file."""

    line: int
    column: int
    text: str
    plain: bool

    @property
    def is_null(self) -> bool:
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(slots=True, kw_only=True)
class Items:
    """A sequence."""

    line: int
    column: int
    nodes: list[Node] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Table:
    """A mapping in file order; ``<<`` is merged."""

    line: int
    column: int
    pairs: dict[str, tuple[Leaf, Node]] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.pairs

    def __iter__(self) -> Iterator[tuple[str, Leaf, Node]]:
        for key, (leaf, node) in self.pairs.items():
            yield key, leaf, node


def parse_yaml(text: str) -> Node | None:
    """Parse the first document into a tree; None if it is empty. Raise a YAML error if it is invalid."""
    import yaml  # lazily: a plain hostfile does not need it

    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            builder.add_event(event, type(event).__name__)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = error.problem or error.context or "not valid YAML"
        line, column = (mark.line, mark.column) if mark else (0, 0)
        raise YamlError(f"not YAML: {what}", _advise_yaml(what), line=line, column=column) from None
    except yaml.YAMLError as error:
        raise YamlError(f"not YAML: {str(error).splitlines()[0]}", line=0) from None
    return builder.root


def _advise_yaml(what: str) -> str:
    return "indent with spaces, not with tabs" if "\\t" in what or "token" in what else ""


class _Builder:
    """Builder that takes parser events one by one and keeps open collections on a stack."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[tuple[Items | Table, Leaf | None]] = []
        self._anchors: dict[str, Node] = {}
        self._documents = 0
        self._nodes = 0

    def add_event(self, event: Any, kind: str) -> None:
        line, column = (event.start_mark.line, event.start_mark.column) if event.start_mark else (0, 0)
        if kind == "DocumentStartEvent":
            self._documents += 1
            if self._documents > 1:
                raise YamlError("a second document", "put all hosts before the second '---'", line=line)
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            done, key = self._open.pop()
            if key is not None:
                raise YamlError("a key without a value", line=line)
            if isinstance(done, Table) and "<<" in done:
                _merge_keys(done)
        elif kind == "AliasEvent":
            if event.anchor not in self._anchors:
                raise YamlError(f"no anchor &{event.anchor}", line=line, column=column)
            self._place_node(self._anchors[event.anchor], line, column)
        elif kind in ("ScalarEvent", "SequenceStartEvent", "MappingStartEvent"):
            self._begin_node(event, kind, line, column)

    def _begin_node(self, event: Any, kind: str, line: int, column: int) -> None:
        if event.tag is not None:
            raise YamlError(f"the tag {event.tag} has no meaning here", "delete it", line=line, column=column)
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise YamlError("more entries than a hostfile can have", line=line)
        node: Node
        if kind == "ScalarEvent":
            node = Leaf(line=line, column=column, text=event.value, plain=event.style is None or event.style == "")
            node.plain = bool(event.implicit[0])
        elif kind == "SequenceStartEvent":
            node = Items(line=line, column=column)
        else:
            node = Table(line=line, column=column)
        self._place_node(node, line, column)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        if not isinstance(node, Leaf):
            if len(self._open) >= DEEPEST:
                raise YamlError(f"nested more than {DEEPEST} deep", line=line, column=column)
            self._open.append((node, None))

    def _place_node(self, node: Node, line: int, column: int) -> None:
        if not self._open:
            self.root = node
            return
        holder, key = self._open[-1]
        if isinstance(holder, Items):
            holder.nodes.append(node)
        elif key is None:
            if not isinstance(node, Leaf):
                raise YamlError("a key that is not plain text", line=line, column=column)
            if node.text in holder:
                first = holder.pairs[node.text][0].line + 1
                raise YamlError(f"{node.text!r} is already on line {first}", "keep one", line=line, column=column)
            self._open[-1] = (holder, node)
        else:
            holder.pairs[key.text] = (key, node)
            self._open[-1] = (holder, None)


def _merge_keys(table: Table) -> None:
    leaf, node = table.pairs.pop("<<")
    for source in node.nodes if isinstance(node, Items) else [node]:
        if not isinstance(source, Table):
            raise YamlError("'<<' takes a mapping", line=leaf.line, column=leaf.column)
        for key, pair in source.pairs.items():
            table.pairs.setdefault(key, pair)


def to_word(key: str, node: Node) -> str:
    """Convert an attribute value to text syntax: ``[2, 3]`` -> ``[2,3]``. Raise a parse error for other values."""
    if isinstance(node, Leaf):
        return "" if node.is_null else node.text
    if isinstance(node, Items) and all(isinstance(item, Leaf) for item in node.nodes):
        inner = ",".join(item.text for item in node.nodes if isinstance(item, Leaf))
        return f"[{inner}]" if key.lower() in ("gpus", "slots", "nproc") else inner
    raise ParseError(f"{key} takes one value", f"write {key}: VALUE")
