"""Frozen classes behave like a frozen dataclass with slots and keyword arguments."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

import pytest

from fanout.model.frozen import frozen

Value = TypeVar("Value")


@frozen
class Base:
    """A class with a field."""

    host: str


@frozen
class Sample(Base):
    """A class with each kind of field."""

    port: int = 22
    names: tuple[str, ...] = ()
    table: dict[str, int] = field(default_factory=dict)
    note: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardBase:
    """The same with the decorator of the standard library."""

    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard(StandardBase):
    """The same with the decorator of the standard library."""

    port: int = 22
    names: tuple[str, ...] = ()
    table: dict[str, int] = field(default_factory=dict)
    note: str = field(default="", compare=False, repr=False)


@frozen
class Converted:
    """A class that converts what it received."""

    ranks: tuple[int, ...]

    def __post_init__(self) -> None:
        """Convert a list to a tuple."""
        object.__setattr__(self, "ranks", tuple(self.ranks))


@frozen
class Box(Generic[Value]):
    """A generic class."""

    value: Value


@frozen
class Empty:
    """A class without a field."""


def test_it_has_the_fields_of_the_standard_decorator() -> None:
    mine, standard = Sample(host="h1"), Standard(host="h1")
    assert is_dataclass(Sample)
    assert [(one.name, one.default, one.kw_only) for one in fields(mine)] == [
        (one.name, one.default, one.kw_only) for one in fields(standard)
    ]
    assert asdict(mine) == asdict(standard) == {"host": "h1", "port": 22, "names": (), "table": {}, "note": ""}
    assert repr(mine) == repr(standard).replace("Standard", "Sample")
    assert not hasattr(mine, "__dict__")


def test_instances_with_equal_fields_are_equal_and_have_the_same_hash() -> None:
    assert Sample(host="h1", note="a") == Sample(host="h1", note="b")
    assert Sample(host="h1") != Sample(host="h2")
    other: Any = Standard(host="h1")
    assert Sample(host="h1") != other
    assert Base(host="h1") != Sample(host="h1")
    assert len({Base(host="h1"), Base(host="h1"), Base(host="h2")}) == 2
    assert Empty() == Empty()
    assert hash(Empty()) == hash(Empty())
    with pytest.raises(TypeError, match="unhashable"):
        hash(Sample(host="h1"))  # its table is a dict


def test_every_instance_gets_its_own_default_of_a_factory() -> None:
    one, other = Sample(host="h1"), Sample(host="h1")
    one.table["a"] = 1
    assert other.table == {}


def test_no_field_can_be_changed_or_deleted() -> None:
    sample: Any = Sample(host="h1")
    with pytest.raises(FrozenInstanceError, match="cannot change field 'port' of Sample"):
        sample.port = 23
    with pytest.raises(FrozenInstanceError):
        del sample.port
    with pytest.raises((FrozenInstanceError, AttributeError)):
        sample.unknown = 1
    assert replace(sample, port=23) == Sample(host="h1", port=23)


def test_wrong_arguments_are_named() -> None:
    make: Any = Sample
    with pytest.raises(TypeError, match=r"^Sample\(\) lacks host$"):
        make(port=1)
    with pytest.raises(TypeError, match=r"^Sample\(\) has no color, size$"):
        make(host="h1", size=1, color=2)
    with pytest.raises(TypeError):
        make("h1")


def test_a_class_can_finish_its_own_initialization() -> None:
    given: Any = [1, 2]
    assert Converted(ranks=given).ranks == (1, 2)


def test_a_copy_and_a_pickle_are_equal_to_their_source() -> None:
    sample = Sample(host="h1", table={"a": 1})
    assert copy.copy(sample) == copy.deepcopy(sample) == pickle.loads(pickle.dumps(sample)) == sample


def test_a_generic_class_and_patterns_work() -> None:
    match Box(value=3):
        case Box(value=int() as found):
            assert found == 3
        case _:
            pytest.fail("it does not match")
