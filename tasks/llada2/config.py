"""Reading a run's configuration: a YAML file and what the command line puts over it, checked before anything starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import yaml

from . import checks
from .errors import FieldError, UserError
from .names import nearest, read_into
from .sections import IDLE, SECTIONS, Config


def _overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """``--train.lr 1e-3`` and ``--train.lr=1e-3`` as {"train.lr": value}; a value is read as YAML reads it."""
    found: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, text = word.partition("=")
        section, dot, _ = name.removeprefix("--").partition(".")
        if not name.startswith("--") or not dot:
            raise UserError(f"command line: {word!r} is not understood; an override reads --section.field value")
        if section not in SECTIONS:
            raise UserError(f"command line: {word}: no section {section!r}{nearest(section, SECTIONS)}")
        if not equals:
            if not rest:
                raise UserError(f"command line: {word} wants a value: {word} VALUE")
            text = rest.pop(0)
        try:
            found[name.removeprefix("--")] = yaml.safe_load(text)
        except yaml.YAMLError:
            found[name.removeprefix("--")] = text
    return found


def _read_yaml(path: str) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """Return the sections of the file, and the line of each ``section.field``."""
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror} (from {os.getcwd()})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 (byte {error.start})") from None
    try:
        values, tree = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(values, dict) or not all(isinstance(v, dict) for v in values.values()):
        raise UserError(f"{path}: must hold the sections model, data and train, each with its fields")
    assert isinstance(tree, yaml.MappingNode)
    lines = {
        f"{section.value}.{field.value}": field.start_mark.line + 1
        for section, fields in tree.value
        for field, _ in fields.value
    }
    return values, lines


def _check_idle(section: str, values: dict[str, Any], unused: list[str]) -> list[str]:
    """Fields of upstream that do nothing here: a note where that changes nothing, a warning where it does."""
    notes = []
    for name in unused:
        meaning, value = IDLE[section][name.partition(".")[2]], values[name.partition(".")[2]]
        if meaning and value not in meaning:
            notes.append(f"{name} {value!r} has no effect here: this trainer only does {meaning[0]!r}")
    return notes


def load(arguments: Sequence[str], world_size: int) -> Config:
    """Reads ``[config.yaml, --section.field, value, …]`` and checks it for ``world_size`` ranks."""
    if not arguments or not arguments[0].endswith((".yaml", ".yml", ".json")):
        raise UserError("usage: train_llada2_bd.py CONFIG.yaml [--section.field VALUE ...]")
    path = arguments[0]
    values, lines = _read_yaml(path)
    overrides = _overrides(arguments[1:])
    for name, value in overrides.items():
        section, _, field = name.partition(".")
        values.setdefault(section, {})[field] = value

    def place(field: str) -> str:
        if field in overrides:
            return "command line"
        return f"{path}:{lines[field]}" if field in lines else path

    notes = [
        f"{path}: unknown section {s!r} is ignored{nearest(str(s), SECTIONS)}" for s in values if s not in SECTIONS
    ]
    try:
        sections: dict[str, Any] = {}
        for name, cls in SECTIONS.items():
            given = values.get(name, {})
            for required in {"model": ["config_path"], "train": ["output_dir"]}.get(name, []):
                if given.get(required) is None:
                    raise FieldError(f"{name}.{required}", "is missing")
            section, warnings, unused = read_into(cls, given, f"{name}.", idle=IDLE[name])
            sections[name] = section
            notes += [f"{place(warning.split()[2])}: {warning}" for warning in warnings]
            notes += [f"{place(note.split()[0])}: {note}" for note in _check_idle(name, given, unused)]
        config = Config(path=path, notes=tuple(notes), **sections)
        checks.check(config, world_size)
    except FieldError as error:
        raise UserError(f"{place(error.field)}: {error}") from None
    return config
