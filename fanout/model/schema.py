"""Schemas: the types, ranges and lengths of values from outside, written as data. Pure.

A dict is the schema of an object with these keys: "name?" may be absent, and other keys may hold any bounded value. The
classes below are the schemas of everything else. ``check_value`` raises ``InvalidValue``, which names the field.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

MOST_ITEMS = 10_000
LONGEST_TEXT = 1 << 20
DEEPEST = 24
LARGEST = 1 << 63
MOST_VALUES = 200_000  # in one text


class InvalidValue(ValueError):
    """An invalid value: ``field`` names it, ``problem`` states what is wrong."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem

    def build_for_parent(self, parent: str) -> InvalidValue:
        """Return the same problem with the name of the value that contains the field."""
        joint = "." if parent and self.field and self.field[0] not in "[ " else ""
        return InvalidValue(f"{parent}{joint}{self.field}", self.problem)


@dataclass(frozen=True, slots=True)
class Text:
    """Text of at most ``most`` characters. If ``among`` is not empty, only these texts are allowed."""

    most: int = 1 << 16
    among: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number from ``low`` to ``high``."""

    low: int = -LARGEST
    high: int = LARGEST


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number from ``low`` to ``high``."""

    low: float = -1e300
    high: float = 1e300


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""


@dataclass(frozen=True, slots=True)
class Nullable:
    """null, or a value that ``kind`` allows."""

    kind: Any


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of ``least`` to ``most`` items of one ``kind``."""

    kind: Any
    most: int = MOST_ITEMS
    least: int = 0


@dataclass(frozen=True, slots=True)
class TupleOf:
    """A list with exactly these items."""

    kinds: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object of at most ``most`` items with any keys. Values are of one ``kind``; ``key`` is the schema of keys."""

    kind: Any
    most: int = MOST_ITEMS
    key: Any = Text()


@dataclass(frozen=True, slots=True)
class OneOf:
    """A value that any of these allows."""

    kinds: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Anything:
    """Any JSON value whose depth, lengths and numbers are bounded."""


@dataclass(frozen=True, slots=True)
class CheckedLater:
    """Any value: the receiver checks it with a schema of its own, which depends on other fields."""


def check_value(schema: Any, value: Any, field: str = "") -> None:
    """Raise ``InvalidValue`` unless ``value`` conforms to the schema. ``field`` is the name of the value in the error."""
    try:
        _CHECKS[type(schema)](schema, value, 0)
    except InvalidValue as error:
        raise error.build_for_parent(field) from None


def _check_item(schema: Any, value: Any, depth: int, field: str) -> None:
    """Check a value within another. The name is joined only for an error: every message of every host is checked."""
    if depth > DEEPEST:
        raise InvalidValue(field, f"is nested more than {DEEPEST} deep")
    try:
        _CHECKS[type(schema)](schema, value, depth)
    except InvalidValue as error:
        raise error.build_for_parent(str(field)[:40]) from None


def _check_text(schema: Text, value: Any, depth: int) -> None:
    if not isinstance(value, str):
        raise InvalidValue("", f"is {_describe_kind(value)}, not text")
    if len(value) > schema.most:
        raise InvalidValue("", f"has {len(value)} characters, more than {schema.most}")
    if schema.among and value not in schema.among:
        raise InvalidValue("", f"is {value[:40]!r}, not one of {', '.join(schema.among)}")


def _check_flag(schema: Flag, value: Any, depth: int) -> None:
    if not isinstance(value, bool):
        raise InvalidValue("", f"is {_describe_kind(value)}, not true or false")


def _check_number(schema: Integer | Number, value: Any, depth: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int if isinstance(schema, Integer) else (int, float)):
        raise InvalidValue("", f"is {_describe_kind(value)}, not a {'whole ' * isinstance(schema, Integer)}number")
    if not math.isfinite(value) if isinstance(value, float) else abs(value) > LARGEST:
        raise InvalidValue("", "is a number that is too large or not finite")
    if not schema.low <= value <= schema.high:
        raise InvalidValue("", f"is {value}, not between {schema.low} and {schema.high}")


def _check_nullable(schema: Nullable, value: Any, depth: int) -> None:
    if value is not None:
        _CHECKS[type(schema.kind)](schema.kind, value, depth)


def _check_object(schema: dict[str, Any], value: Any, depth: int) -> None:
    kinds, required = _list_keys(schema)
    _check_mapping(value, MOST_ITEMS)
    for key, item in value.items():
        _check_item(kinds.get(key, _ANYTHING), item, depth + 1, key)
    for key in required:
        if key not in value:
            raise InvalidValue(key, "is missing")


def _list_keys(schema: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the kind of each key, and the required keys."""
    known = _KEYS.get(id(schema))
    if known is None:
        kinds = {name.removesuffix("?"): kind for name, kind in schema.items()}
        known = _KEYS[id(schema)] = schema, kinds, tuple(name for name in schema if not name.endswith("?"))
    return known[1:]


def _check_list(schema: ListOf, value: Any, depth: int) -> None:
    if not isinstance(value, (list, tuple)):
        raise InvalidValue("", f"is {_describe_kind(value)}, not a list")
    if len(value) > schema.most:
        raise InvalidValue("", f"has {len(value)} items, more than {schema.most}")
    if len(value) < schema.least:
        raise InvalidValue("", f"has {len(value)} items, not {schema.least} or more")
    for number, item in enumerate(value):
        _check_item(schema.kind, item, depth + 1, f"[{number}]")


def _check_tuple(schema: TupleOf, value: Any, depth: int) -> None:
    if not isinstance(value, (list, tuple)):
        raise InvalidValue("", f"is {_describe_kind(value)}, not a list")
    if len(value) != len(schema.kinds):
        raise InvalidValue("", f"has {len(value)} items, not {len(schema.kinds)}")
    for number, (kind, item) in enumerate(zip(schema.kinds, value, strict=True)):
        _check_item(kind, item, depth + 1, f"[{number}]")


def _check_map(schema: MapOf, value: Any, depth: int) -> None:
    for key, item in _check_mapping(value, schema.most).items():
        _check_item(schema.key, key, depth + 1, " (a key)")
        _check_item(schema.kind, item, depth + 1, key)


def _check_either(schema: OneOf, value: Any, depth: int) -> None:
    for kind in schema.kinds:
        try:
            _CHECKS[type(kind)](kind, value, depth)
            return
        except InvalidValue as error:
            last = error
    raise last


def _check_anything(schema: Anything, value: Any, depth: int) -> None:
    match value:
        case None | bool():
            return
        case int() | float():
            _check_number(_ANY_NUMBER, value, depth)
        case str():
            _check_text(_ANY_TEXT, value, depth)
        case list() | tuple():
            _check_list(_ANY_LIST, value, depth)
        case _:
            for key, item in _check_mapping(value, MOST_ITEMS).items():
                _check_item(schema, item, depth + 1, key)


def _check_mapping(value: Any, most: int) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidValue("", f"is {_describe_kind(value)}, not an object")
    if len(value) > most:
        raise InvalidValue("", f"has {len(value)} keys, more than {most}")
    return value


_ANYTHING, _ANY_NUMBER, _ANY_TEXT = Anything(), Number(), Text(LONGEST_TEXT)
_ANY_LIST = ListOf(_ANYTHING)

#: The check of each kind of schema.
_CHECKS: dict[type, Callable[[Any, Any, int], None]] = {
    dict: _check_object,
    Text: _check_text,
    Integer: _check_number,
    Number: _check_number,
    Flag: _check_flag,
    Nullable: _check_nullable,
    OneOf: _check_either,
    ListOf: _check_list,
    TupleOf: _check_tuple,
    MapOf: _check_map,
    Anything: _check_anything,
    CheckedLater: lambda schema, value, depth: None,
}
#: By the id of an object's schema: the schema, which so keeps its id, the kind of each key, and the required keys.
_KEYS: dict[int, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {}


def _describe_kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case _:
            return "an object"


def parse_json(text: str | bytes, schema: Any) -> Any:
    """Parse a JSON text and return its value if it conforms to the schema. Raises InvalidValue for every other text."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MOST_VALUES:
        raise InvalidValue("", f"has more than {MOST_VALUES} values")
    try:
        value = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise InvalidValue("", f"is not JSON ({str(error)[:80]})") from None
    check_value(schema, value)
    return value


# -- the schema of a dataclass, from its annotations

_PLAIN: dict[Any, Any] = {int: Integer(), float: Number(), str: Text(LONGEST_TEXT), bool: Flag(), Any: Anything()}


_KNOWN: dict[Any, dict[str, Any]] = {}


def schema_of(kind: Any) -> dict[str, Any]:
    """Return the schema of a dataclass as a JSON object, in which tuples are lists. An ``Annotated`` type names its own."""
    if kind in _KNOWN:
        return _KNOWN[kind]
    hints, schema = get_type_hints(kind, include_extras=True), _KNOWN.setdefault(kind, {})
    for field in fields(kind):
        optional = field.default is not MISSING or field.default_factory is not MISSING
        schema[field.name + "?" * optional] = _schema_of_annotation(hints[field.name])
    return schema


def select_fields(kind: Any, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a dataclass that a JSON object has, by name."""
    return {field.name: record[field.name] for field in fields(kind) if field.name in record}


def _schema_of_annotation(hint: Any) -> Any:
    if hint in _PLAIN:
        return _PLAIN[hint]
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return schema_of(hint)
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return args[1]
    if origin in (Union, types.UnionType):
        known = [_schema_of_annotation(each) for each in args if each is not types.NoneType]
        kind = known[0] if len(known) == 1 else OneOf(tuple(known))
        return Nullable(kind) if types.NoneType in args else kind
    if origin is tuple:
        return (
            ListOf(_schema_of_annotation(args[0]))
            if args[-1] is Ellipsis
            else TupleOf(tuple(map(_schema_of_annotation, args)))
        )
    if origin is Literal:
        return Text(among=args)
    return (
        MapOf(_schema_of_annotation(args[1]))
        if isinstance(origin, type) and issubclass(origin, Mapping)
        else Anything()
    )
