"""Reading a mapping into a dataclass: unknown names get the nearest known one, wrong types get one line."""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from .errors import FieldError

T = TypeVar("T")
MOST = 2**31  # no count here is larger, and what is made of them still fits where it must


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name that is closest to ``name``; "" if none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def convert(where: str, value: Any, wanted: Any) -> Any:
    """Return ``value`` as the annotation ``wanted``: a whole float is an int, ``1e-5`` in YAML (a string there) is a float."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Union or origin is types.UnionType:
        if value is None:
            return None
        wanted = next(a for a in arguments if a is not type(None))
        return convert(where, value, wanted)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise FieldError(where, f"must be a list, not {value!r}")
        return tuple(convert(f"{where}[{i}]", item, arguments[0]) for i, item in enumerate(value))
    if wanted is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif wanted is int and not isinstance(value, bool) and isinstance(value, int | float):
        if abs(value) >= MOST:
            raise FieldError(where, f"must be below {MOST}, not {value}")
        if value == value // 1:
            return int(value)
    elif (wanted is bool and isinstance(value, bool)) or (
        wanted is str and isinstance(value, str) and "\0" not in value
    ):
        return value
    elif wanted is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # --train.output_dir 7
    kind = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[wanted]
    raise FieldError(where, f"must be {kind}, not {value!r}")


def show(value: Any) -> str:
    """Return ``value`` as YAML and JSON write it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def refuse_others(field: str, value: Any, allowed: Iterable[Any], reason: str) -> None:
    """Raise a FieldError unless ``value`` is one of ``allowed``, of which the first is recommended."""
    allowed = list(allowed)
    if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed):
        raise FieldError(field, f"can only be {show(allowed[0])} here, not {show(value)}: {reason}")


def read_into(
    cls: type[T], values: Mapping[str, Any], where: str, *, idle: Iterable[str] = ()
) -> tuple[T, list[str], list[str]]:
    """Return ``cls`` from ``values``, one warning for each unknown name, and the ``idle`` names that were given.

    ``idle`` are names that are known from other trainers but do nothing here.
    """
    hints = typing.get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    idle = set(idle)
    taken: dict[str, Any] = {}
    warnings: list[str] = []
    unused: list[str] = []
    for name, value in values.items():
        if name in known:
            taken[name] = convert(f"{where}{name}", value, hints[name])
        elif name in idle:
            unused.append(f"{where}{name}")
        else:
            warnings.append(f"unknown field {where}{name} is ignored{nearest(str(name), [*known, *idle])}")
    return cls(**taken), warnings, unused
