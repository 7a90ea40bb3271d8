"""Number roles: what the text around a number in a log line makes of it: a step, a loss, a speed, a time left.

A log line is a sequence of numbers with texts between them. The end of a text names the number after it
(``loss: ``, ``/global_step=``), and its beginning is the unit of the number before it (``it/s, ``). So one table of
names and units covers every library. Lines of one program repeat their texts, so the results are kept.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import NamedTuple


class Role(Enum):
    """Meaning of the number after a text."""

    NONE = auto()
    STEP = auto()
    ITERATION = auto()
    BATCH = auto()  # a step only if the line has a loss
    UNNAMED = auto()  # ``[7/90]``: a step only if the line has a loss
    BAR = auto()  # the count of a progress bar
    TOTAL = auto()
    PLURAL = auto()  # ``steps``: a step only if the line has a loss
    EPOCH = auto()
    TOTAL_EPOCHS = auto()
    PASS = auto()  # ``Train: 3 [``: an epoch if a bracket follows
    LOSS = auto()
    OTHER_LOSS = auto()  # ``pg_loss``: the loss of the line if no other is in it
    SPEED = auto()
    SAMPLES = auto()
    STEP_SECONDS = auto()
    STEP_MILLISECONDS = auto()
    STEPS_PER_SECOND = auto()
    TIME = auto()  # ``time``: that of a step only beside ``data``, or in milliseconds
    DATA_TIME = auto()
    TIME_LEFT = auto()
    AFTER_RULE = auto()  # behind ``━━━``: the count of a bar, or a time left
    SUMMARY = auto()  # the line sums up a run that has ended


class Unit(Enum):
    """Unit of the number before a text."""

    NONE = auto()
    TOKENS = auto()  # a second
    SAMPLES = auto()
    STEP_SECONDS = auto()
    STEP_MILLISECONDS = auto()
    STEPS_PER_SECOND = auto()
    MILLISECONDS = auto()
    SECONDS = auto()
    PERCENT = auto()
    COUNT = auto()  # ``30it [``: the count of a bar without a total
    DATA = auto()  # a second: files, bytes, or examples of a data set


class NumberContext(NamedTuple):
    """Text between two numbers: the role of the number after it, and the unit of the number before it."""

    role: Role
    unit: Unit = Unit.NONE
    scale: float = 1.0  # k or M before the unit, or behind a number
    joins: bool = False  # ``/`` or ``of``: the number after it is the total of the number before it
    names: bool = False  # a colon or an equals sign names the number after it
    plural: bool = False  # the name is in the plural
    in_remark: bool = False  # the number is in round brackets behind words
    evaluates: bool = False  # the text announces an evaluation
    ends_in_prose: bool = False  # the text starts like a sentence


KEPT = 4096  # texts whose contexts are kept
_HEAD, _TAIL = 24, 80  # characters of a long text that count
_STRIPPED = " \t'\"=:[(<>→-*`"
_CUT = re.compile(r"[|,;{}\[\]()<>•=:→\t]|\s-+\s|\s{3,}")
_CALL = re.compile(r"(?:(?:np|numpy|torch)\.)?(?:float|int|bfloat|tensor|array)\d{0,3}\($")
_WORDS = re.compile(r"[^a-z0-9]+")
_PER = re.compile(r"/(?=s(?:ec(?:onds?)?)?(?![a-z])|gpu|device|rank|chip)|(?<=time)/(?=step|it)|(?<=sec)/(?=step|it)")
_EVALUATION = re.compile(
    r"(?<![a-z0-9/._-])(?:eval|evaluat[a-z]{1,4}|valid|validat[a-z]{1,4}|val|test|testing|predict[a-z]{0,4}|sanity)(?![\w./-])"
)
_UNIT = re.compile(
    r"(?P<scale>[km](?=\s?tok))?\s?(?:(?P<tokens>tok(?:en)?s?\s?/\s?s)|(?P<samples>(?:samples?|seqs?|imgs?|images?)/s)"
    r"|(?P<data>(?:examples|ex|files?|shards?|docs?|rows?|[kmgt]?i?b)/s(?![a-z]))"
    r"|(?P<msstep>ms/(?:step|it|batch))|(?P<sstep>s(?:ec)?/(?:it|step|ba|batch|iter)(?![a-z]))"
    r"|(?P<steps>(?:it|steps?|ba|batch|iter|batches)/s)|(?P<count>(?:it|steps?|ba|batch) \[)|(?P<ms>ms(?![a-z/]))"
    r"|(?P<s>s(?![a-z/]))|(?P<percent>%))"
)
_UNITS = {
    "tokens": Unit.TOKENS, "samples": Unit.SAMPLES, "data": Unit.DATA, "msstep": Unit.STEP_MILLISECONDS,
    "sstep": Unit.STEP_SECONDS, "steps": Unit.STEPS_PER_SECOND, "count": Unit.COUNT, "ms": Unit.MILLISECONDS,
    "s": Unit.SECONDS, "percent": Unit.PERCENT,
}  # fmt: skip
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6}
_JOINS = re.compile(r"\s*(?:/|of)\s*$")
_REMARK = re.compile(r"[a-z0-9]\s\([^()]{0,40}$")
_PROSE = re.compile(r"\s*[A-Za-z]|\s:\s")

# Words that may stand before the name of a step, and names of a step.
_BESIDE_STEP = {
    "global",
    "current",
    "train",
    "training",
    "trainer",
    "completed",
    "optimizer",
    "optim",
    "model",
    "rank",
    "info",
    "z",  # of a time in UTC
}
_STEP_WORDS = {
    "step": Role.STEP, "steps": Role.STEP, "iteration": Role.ITERATION, "iter": Role.ITERATION, "iters": Role.ITERATION,
    "iterations": Role.ITERATION, "batch": Role.BATCH, "update": Role.BATCH, "it": Role.BATCH,
}  # fmt: skip
_EPOCH_WORDS = {"epoch", "episode"}
_BESIDE_EPOCH = {*_BESIDE_STEP, "step", "of"}
# Words of a loss: the loss of the training, a loss that is not it, and words that only describe it.
_NO_LOSS = {
    "val", "valid", "validation", "eval", "evaluation", "test", "best", "min", "aux", "auxiliary", "z", "balance", "balancing",
    "router", "scale", "critic", "vf", "value", "mtp", "indexer", "epoch", "packet", "data", "frame",
    "signal", "precision", "connection",
}  # fmt: skip
_PLAIN_LOSS = {
    "train",
    "training",
    "lm",
    "llm",
    "total",
    "ce",
    "nll",
    "xent",
    "cross",
    "entropy",
    "reduced",
    "step",
    "global",
}
_LOSS_NAMES = {"loss", "crossentropyloss"}
_AFTER_LOSS = {"train", "total", "step", "mean", "avg", "epoch", "is"}
_TOKENS_NAME = re.compile(r"tok(?:en)?s?(?:train)?pers(?:ec(?:onds?)?)?(?:per(?:gpu|device|rank|chip))?$")
_SAMPLES_NAME = re.compile(r"(?:samples?|seqs?|imgs?|images?)pers(?:ec(?:onds?)?)?$")
_NO_TRAINING_SPEED = re.compile(r"prompt|generation|input|output|gen\b|rollout|decode|prefill|eval|val\b")
_STEP_SECONDS_NAME = re.compile(
    r"(?:(?:step|iter|iteration|batch)(?:time|timing)(?:s|sec|ins|seconds)?|timeper(?:step|iteration|it|batch)"
    r"|s(?:ec(?:onds?)?)?per(?:step|it|iteration)|timings(?:per)?step|stepavg|^dt|^seconds)$"
)
_SAME_NAMES: dict[str, Role] = {
    "globalstepmaxsteps": Role.STEP, "numupdates": Role.STEP, "totalsteps": Role.TOTAL, "maxsteps": Role.TOTAL,
    "eta": Role.TIME_LEFT, "remainingtime": Role.TIME_LEFT, "timeleft": Role.TIME_LEFT, "remaining": Role.TIME_LEFT,
    "timeremaining": Role.TIME_LEFT, "tps": Role.SPEED, "tgs": Role.SPEED, "wps": Role.SPEED, "throughput": Role.SPEED,
    "perfthroughput": Role.SPEED, "time": Role.TIME, "data": Role.DATA_TIME,
    "datatime": Role.DATA_TIME, "trainruntime": Role.SUMMARY, "train": Role.PASS,
}  # fmt: skip
_UNIT_ROLES = {
    "s/it": Role.STEP_SECONDS, "s/iter": Role.STEP_SECONDS, "iter/s": Role.STEPS_PER_SECOND, "it/s": Role.STEPS_PER_SECOND,
    "tps": Role.SPEED,
}  # fmt: skip

_contexts: dict[str, NumberContext] = {}


def get_context(text: str) -> NumberContext:
    """Return the context that a text gives to the numbers around it."""
    found = _contexts.get(text)
    if found is None:
        if len(text) > _HEAD + _TAIL:
            text = f"{text[:_HEAD]}\n{text[-_TAIL:]}"
        if len(_contexts) >= KEPT:
            _contexts.clear()
        found = _contexts[text] = _build_context(text)
    return found


def is_other_speed(text: str) -> bool:
    """Return whether the text names a speed that is not that of the training: of generated text, for example."""
    return _NO_TRAINING_SPEED.search(text.lower()) is not None


def _build_context(text: str) -> NumberContext:
    low = text.lower()
    found = _UNIT.match(low[1:] if low[:1] == " " else low)
    unit = _UNITS[found.lastgroup or ""] if found and found.lastgroup != "scale" else Unit.NONE
    scale = _SCALE.get(found["scale"] or "", 1.0) if found else 1.0 if low[1:2].isalnum() else _SCALE.get(low[:1], 1.0)
    name = low.rstrip(_STRIPPED)
    own = low[found.end() + 1 :] if found and unit is Unit.STEPS_PER_SECOND else low  # ``8.50it/s train_loss: 2.3``
    role, plural = (Role.BAR, False) if _is_bar(low) else _find_role(own, own.rstrip(_STRIPPED) or name)
    return NumberContext(
        role=role,
        unit=unit,
        scale=scale,
        joins=_JOINS.match(low) is not None,
        names=any(mark in text[len(name) :] for mark in ":=→"),
        plural=plural,
        in_remark=_REMARK.search(low) is not None,
        evaluates=_EVALUATION.search(low) is not None,
        ends_in_prose=_PROSE.match(text) is not None,
    )


def _is_bar(text: str) -> bool:
    """Return whether the text is the drawing of a tqdm bar between its percentage and its count."""
    return text.startswith("%|") and text.rstrip().endswith("|") and len(text) > 3


def _find_role(text: str, stripped: str) -> tuple[Role, bool]:
    """Return the role of the number after the text, and whether its name is in the plural."""
    if text == "<":
        return Role.TIME_LEFT, False  # tqdm: ``[00:12<00:28``
    if "━" in text or text.strip() == "•":
        return (Role.AFTER_RULE if "━" in text else Role.TIME_LEFT), False
    called = _CALL.search(text)
    if called:
        stripped = text[: called.start()].rstrip(_STRIPPED)
    unit = ""
    if stripped.endswith(")") and (at := stripped.rfind("(")) > 0:
        stripped, unit = stripped[:at], stripped[at + 1 : -1]
    name = _CUT.split(stripped)[-1].strip(" '\"/._#-`+")
    if not name:
        return Role.UNNAMED, False
    words = [word for word in _WORDS.split(_PER.sub(" per ", name)) if word]
    return (_find_named_role(words, unit), words[-1].endswith("s")) if words else (Role.UNNAMED, False)


def _find_named_role(words: list[str], unit: str) -> Role:
    """Return the role of the number that these words name; ``unit`` is the text in brackets behind them."""
    last, before, joined = words[-1], words[:-1], "".join(words)
    if joined in _SAME_NAMES and unit not in ("ms", "t"):
        return _UNIT_ROLES.get(unit, _SAME_NAMES[joined])
    if unit in _UNIT_ROLES:
        return _UNIT_ROLES[unit]
    if last in _STEP_WORDS and unit == "t":
        return Role.STEP_SECONDS  # open_clip: ``Batch (t)``
    if last in _STEP_WORDS and _BESIDE_STEP.issuperset(before):
        return _STEP_WORDS[last]
    if last in _EPOCH_WORDS and _BESIDE_EPOCH.issuperset(before):
        return Role.EPOCH
    if any(word.endswith("loss") for word in words):
        return _find_loss_role(words)
    if last == "tps" or _TOKENS_NAME.search(joined):
        return Role.NONE if _NO_TRAINING_SPEED.search(" ".join(words)) else Role.SPEED
    if _SAMPLES_NAME.search(joined):
        return Role.NONE if _NO_TRAINING_SPEED.search(" ".join(words)) else Role.SAMPLES
    if _STEP_SECONDS_NAME.search(joined):
        return Role.STEP_MILLISECONDS if unit == "ms" else Role.STEP_SECONDS
    if joined.endswith(("remainingtime", "timeremaining")):
        return Role.TIME_LEFT
    return Role.NONE


def _find_loss_role(words: list[str]) -> Role:
    """Return the role of a loss: that of the training, one of several, or none."""
    at = max(number for number, word in enumerate(words) if word.endswith("loss"))
    before, after = words[:at], words[at + 1 :]
    if not _AFTER_LOSS.issuperset(after) or _NO_LOSS.intersection(words) or (words[at] == "loss" and len(before) > 3):
        return Role.NONE
    is_plain = words[at] in _LOSS_NAMES and _PLAIN_LOSS.issuperset(before) and not {"mean", "avg"}.intersection(after)
    return Role.LOSS if is_plain else Role.OTHER_LOSS
