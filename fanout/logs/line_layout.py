"""Line layout: choose which numbers of a log line are its step, its loss, its speed and its times.

A layout follows from the texts between the numbers alone, so it fits each later line with the same texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from fanout.logs.number_roles import NumberContext, Role, Unit, get_context, is_other_speed

_NO_TRAINING_BAR = re.compile(
    r"data ?set|\b(?:split|tokeni[sz]|map\b|filter|(?:down|up)?load(?:ing)?\b|fetch|shards?\b|files?\b|writ|saving|generat|packing"
    r"|compil|checksum|preprocess|prompts?\b|val\b|eval|valid|test|predict|sanity|capturing|weights|resolving)"
)
_TRAINING_BAR = re.compile(r"train|epoch|episode|step|iter|batch|fit|progress|updat|loss")
_WORD = re.compile(r"[a-z]{2}")
_RANK_PREFIX = re.compile(r"\[?(?:default|rank)\s?\d{1,6}\]?:?")
_STEP_ORDER = (Role.STEP, Role.ITERATION, Role.BAR, Role.BATCH, Role.UNNAMED)
_ROLE_OF_UNIT = {
    Unit.TOKENS: Role.SPEED, Unit.SAMPLES: Role.SAMPLES, Unit.STEP_SECONDS: Role.STEP_SECONDS,
    Unit.STEP_MILLISECONDS: Role.STEP_MILLISECONDS, Unit.STEPS_PER_SECOND: Role.STEPS_PER_SECOND,
    Unit.MILLISECONDS: Role.STEP_MILLISECONDS,
}  # fmt: skip


class LineLayout(NamedTuple):
    """Places of the metrics of a line among its texts and numbers; 0 means that the line has none."""

    step: int = 0
    total: int = 0
    loss: int = 0
    speed: int = 0
    speed_scale: float = 1.0
    samples: int = 0
    step_time: int = 0
    step_time_unit: Role = Role.STEP_SECONDS
    time_left: int = 0
    epoch: int = 0
    epochs: int = 0
    is_bar: bool = False
    is_fixed: bool = True  # it follows from the texts alone, and not from the form of a number


LONGEST_COUNT = 15  # digits
NO_METRICS = LineLayout()


def find_layout(parts: Sequence[str]) -> LineLayout:
    """Return the layout of a line, which is given as texts and numbers in turn."""
    line = _LayoutBuilder(parts)
    context = get_context(parts[0])
    for at in range(1, len(parts), 2):
        before, context = context, get_context(parts[at + 1])
        if before.evaluates and not line.has_training:
            return NO_METRICS._replace(is_fixed=line.is_fixed)
        if before.role is not Role.NONE or context.unit is not Unit.NONE:
            line.add_number(at, before, context)
    return line.build_layout()


def parse_count(text: str) -> int | None:
    """Return a count: ``1,234``, ``9.0``; None if the text is no count."""
    text = text.replace(",", "").removesuffix(".0")
    return int(text) if text.isdigit() and len(text) <= LONGEST_COUNT else None


class _LayoutBuilder:
    """Places that were found so far in one line. The first number of a role counts."""

    def __init__(self, parts: Sequence[str]) -> None:
        self.is_fixed = True
        self._parts = parts
        self._places: dict[Role, int] = {}
        self._steps: dict[Role, tuple[int, int]] = {}  # role -> place of the step, place of its total
        self._speed_scale = 1.0
        self._is_rejected = False
        self._bar_is_unknown = False

    @property
    def has_training(self) -> bool:
        """Return whether a step or a loss was found, so that an evaluation named later is another value of the line."""
        return bool(self._steps) or Role.LOSS in self._places

    def add_number(self, at: int, before: NumberContext, after: NumberContext) -> None:
        """Add the number at this place, by the texts before and after it."""
        role = Role.BAR if after.unit is Unit.COUNT else before.role
        if role is Role.AFTER_RULE:
            role = Role.BAR if after.joins else Role.TIME_LEFT if after.unit is Unit.SECONDS else Role.NONE
        if role is Role.TIME_LEFT and after.unit is Unit.STEPS_PER_SECOND:
            role = Role.NONE  # rich leaves the time left out at the end: ``0:00:00 •  165.51it/s``
        if role is Role.TIME_LEFT:
            self._places.setdefault(role, at)
        elif ":" in self._parts[at]:
            self.is_fixed = self.is_fixed and role in (Role.NONE, Role.UNNAMED)
        elif role in _STEP_ORDER:
            self._add_step(role, at, before, after)
        elif role is Role.EPOCH or (role is Role.PASS and self._parts[at + 1].startswith(" [")):
            self._add_epoch(at, after)
        elif role in (Role.LOSS, Role.OTHER_LOSS):
            if after.unit is not Unit.PERCENT and (role is Role.LOSS or before.names or self._steps):
                self._places.setdefault(role, at)
        elif role is Role.SAMPLES:
            self._places[role] = at  # the newest value stands behind the average
        elif role not in (Role.NONE, Role.PASS):
            self._add_named(role, at, after)
        if role in (Role.NONE, Role.UNNAMED):
            self._add_by_unit(at, after, is_named=role is Role.NONE)

    def _add_named(self, role: Role, at: int, after: NumberContext) -> None:
        if after.unit is Unit.MILLISECONDS and role in (Role.STEP_SECONDS, Role.TIME):
            role = Role.STEP_MILLISECONDS
        self._set_place(role, at, after)

    def _set_place(self, role: Role, at: int, after: NumberContext) -> None:
        if role is Role.SPEED and role not in self._places:
            self._speed_scale = after.scale
        self._places.setdefault(role, at)

    def _add_by_unit(self, at: int, after: NumberContext, *, is_named: bool) -> None:
        """Add a number that only its unit names: ``38.1k tok/s``, ``2.40s/it``."""
        if after.unit is Unit.DATA:
            self._is_rejected = self._is_rejected or Role.BAR in self._steps
            return
        role = _ROLE_OF_UNIT.get(after.unit)
        if role is None or (role is Role.SPEED and is_other_speed(self._parts[at - 1])):
            return
        if is_named and after.role is role and at + 2 < len(self._parts):
            return  # ``lr 3e-4 tok/s 9027``: the name of the next number
        if after.unit is not Unit.MILLISECONDS or self._parts[at - 1].strip() == "|":
            self._set_place(role, at, after)

    def _add_epoch(self, at: int, after: NumberContext) -> None:
        if Role.EPOCH not in self._places:
            self._places[Role.EPOCH] = at
            if after.joins and self._is_count(at + 2):
                self._places[Role.TOTAL_EPOCHS] = at + 2

    def _add_step(self, role: Role, at: int, before: NumberContext, after: NumberContext) -> None:
        if before.joins or (role is Role.UNNAMED and (not after.joins or self._is_date(at))):
            return
        if not self._is_count(at):
            return
        total = at + 2 if after.joins and self._is_count(at + 2) else 0
        if role is Role.BAR:
            label = self._parts[: at if after.unit is Unit.COUNT else at - 2 if before.role is Role.BAR else at - 1]
            self._judge_bar(_RANK_PREFIX.sub("", "".join(label).lower()))
        if not before.plural or total:
            self._steps.setdefault(role, (at, total))
        elif role not in self._steps:
            self._places.setdefault(Role.PLURAL, at)

    def _judge_bar(self, label: str) -> None:
        """Reject the bar of an evaluation, a data set or a download; one with an unknown name needs a loss."""
        if _NO_TRAINING_BAR.search(label):
            self._is_rejected = True
        elif not _TRAINING_BAR.search(label) and _WORD.search(label):
            self._bar_is_unknown = True

    def _is_count(self, at: int) -> bool:
        """Return whether the number at this place is a count. If it is not, another line of this form may have one."""
        is_count = at < len(self._parts) and parse_count(self._parts[at]) is not None
        self.is_fixed = self.is_fixed and is_count
        return is_count

    def _is_date(self, at: int) -> bool:
        """Return whether ``n/m`` at this place is part of a date."""
        parts = self._parts
        if get_context(parts[at + 3]).joins:
            return True
        if at + 4 >= len(parts) or parts[at + 3].strip(" ,T"):
            return False
        self.is_fixed = False
        return ":" in parts[at + 4]

    def build_layout(self) -> LineLayout:
        """Return the places of the metrics."""
        places = self._places
        loss = places.get(Role.LOSS, places.get(Role.OTHER_LOSS, 0))
        nothing = NO_METRICS._replace(is_fixed=self.is_fixed)
        if self._is_rejected or (self._bar_is_unknown and not loss):
            return nothing
        epoch = places.get(Role.EPOCH, 0)
        if Role.SUMMARY in places:
            return nothing._replace(epoch=epoch)
        role, step, total = self._choose_step(loss)
        layout = nothing._replace(
            speed=places.get(Role.SPEED, 0),
            speed_scale=self._speed_scale,
            epoch=epoch,
            epochs=places.get(Role.TOTAL_EPOCHS, 0),
        )
        if not step and not loss:
            return layout
        unit = self._find_step_time_unit()
        return layout._replace(
            step=step,
            total=total,
            loss=loss,
            samples=places.get(Role.SAMPLES, 0),
            step_time=places.get(unit, 0),
            step_time_unit=unit,
            time_left=places.get(Role.TIME_LEFT, 0),
            is_bar=role is Role.BAR,
        )

    def _choose_step(self, loss: int) -> tuple[Role | None, int, int]:
        """Return the best step and its total: one with a total comes first, then the order of the roles."""
        found = [role for role in _STEP_ORDER if role in self._steps and (loss or self._stands_alone(role))]
        stated = self._places.get(Role.TOTAL, 0)
        for role in sorted(found, key=lambda role: (role is Role.UNNAMED, not self._steps[role][1])):
            step, total = self._steps[role]
            return role, step, total or stated
        if Role.PLURAL in self._places and (loss or stated):
            return Role.STEP, self._places[Role.PLURAL], stated
        return None, 0, 0

    def _stands_alone(self, role: Role) -> bool:
        """Return whether this step needs no loss beside it: it has a name, and no sentence follows it."""
        step, total = self._steps[role]
        if role is Role.UNNAMED or (role is Role.BATCH and not total) or get_context(self._parts[step - 1]).in_remark:
            return False
        end = (total or step) + 1
        is_last = end + 1 >= len(self._parts) or len(self._parts[end].split()) > 2
        return role is Role.BAR or bool(self._places) or not (is_last and get_context(self._parts[end]).ends_in_prose)

    def _find_step_time_unit(self) -> Role:
        """Return the role of the number that states the time of a step."""
        for role in (Role.STEP_SECONDS, Role.STEP_MILLISECONDS, Role.STEPS_PER_SECOND):
            if role in self._places:
                return role
        return Role.TIME if Role.DATA_TIME in self._places else Role.STEP_SECONDS
