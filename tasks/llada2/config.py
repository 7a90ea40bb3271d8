"""Reading a run's configuration: a YAML file and what the command line puts over it, checked before anything starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import yaml

from . import checks, tokenizer, upstream_fields
from .errors import FieldError, UserError
from .names import nearest, read_into
from .sections import SECTIONS, Config

REQUIRED = {"model": ["config_path"], "train": ["output_dir"]}


def _overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Return ``--train.lr 1e-3`` and ``--train.lr=1e-3`` as {"train.lr": value}, with values as YAML reads them."""
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
    if not isinstance(values, dict) or not isinstance(tree, yaml.MappingNode):
        raise UserError(f"{path}: must hold the sections {', '.join(SECTIONS)}, each with its fields")
    for section, fields in tree.value:
        if not isinstance(fields, yaml.MappingNode):
            line = section.start_mark.line + 1
            raise UserError(
                f"{path}:{line}: section {section.value!r} has no fields; the file must hold the sections "
                f"{', '.join(SECTIONS)}, each with its fields"
            )
    lines = {
        f"{section.value}.{field.value}": field.start_mark.line + 1
        for section, fields in tree.value
        for field, _ in fields.value
    }
    return values, lines


def _complete(values: dict[str, dict[str, Any]]) -> list[str]:
    """Fill the fields whose default depends on another field, as upstream does; return one remark for each choice."""
    model, data = values.setdefault("model", {}), values.setdefault("data", {})
    for section, name in (("model", "tokenizer_path"), ("model", "moe_implementation"), ("data", "text_keys")):
        if values[section].get(name, "") is None:
            del values[section][name]  # null means the default, as in upstream
    remarks = []
    if model.get("config_path") is None and isinstance(model.get("model_path"), str):
        model["config_path"] = model["model_path"]
        remarks.append(f"model.config_path is not given: the shape is read from model_path {model['model_path']}")
    if "tokenizer_path" not in model:
        folders = [path for path in (model.get("config_path"), model.get("model_path")) if isinstance(path, str)]
        found = next((path for path in folders if tokenizer.is_folder(path)), None)
        if found is not None:
            model["tokenizer_path"] = found
            remarks.append(f"model.tokenizer_path is not given: the tokenizer in {found} is used")
    if data.get("data_type") == "tokenid":
        data.setdefault("text_keys", "input_ids")
    return remarks


def _without_blocks(config: Config, given: dict[str, Any]) -> Config:
    """Make the whole sequence one block if ``block_diffusion_mode`` is false: every position attends to every other."""
    if config.train.block_diffusion_mode:
        return config
    if config.train.block_schedule != "constant":
        schedule = config.train.block_schedule
        raise FieldError("train.block_schedule", f"{schedule} changes blocks, but train.block_diffusion_mode is false")
    length = config.data.max_seq_len
    remarks = config.remarks
    if given.get("block_size", length) != length:
        remarks += (
            f"train.block_size {given['block_size']} does not apply: with block_diffusion_mode false it is {length}",
        )
    return replace(config, train=replace(config.train, block_size=length), remarks=remarks)


def load(arguments: Sequence[str], world_size: int) -> Config:
    """Read ``[config.yaml, --section.field, value, …]`` and check it for ``world_size`` ranks."""
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

    warnings = [
        f"{path}: unknown section {s!r} is ignored{nearest(str(s), SECTIONS)}" for s in values if s not in SECTIONS
    ]
    remarks = [f"{path}: {remark}" for remark in _complete(values)]
    try:
        sections: dict[str, Any] = {}
        for name, cls in SECTIONS.items():
            given = values.get(name, {})
            for required in REQUIRED.get(name, []):
                if given.get(required) is None:
                    raise FieldError(f"{name}.{required}", "is missing")
            section, unknown, _ = read_into(cls, given, f"{name}.", idle=upstream_fields.names(name))
            sections[name] = section
            warnings += [f"{place(warning.split()[2])}: {warning}" for warning in unknown]
            remarks += [f"{place(field)}: {remark}" for field, remark in upstream_fields.review(name, given)]
        config = Config(path=path, warnings=tuple(warnings), remarks=tuple(remarks), **sections)
        config = _without_blocks(config, values.get("train", {}))
        checks.check(config, world_size)
    except FieldError as error:
        raise UserError(f"{place(error.field)}: {error}") from None
    return config
