"""Schemas of the hosts' answers: they accept what the real probes return, and name each invalid field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fanout.agent.probes import registry
from fanout.model import answers
from fanout.model.rpc import ProbeRequest
from tests.checks.kit import ForkingAsker, build_healthy_facts


@pytest.mark.process
def test_the_facts_of_this_machine_are_valid_and_every_section_has_a_schema(tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text("#!/bin/bash\ntorchrun task.py\n")
    (tmp_path / "task.py").write_text("import json\n")
    args = {"workdir": str(tmp_path), "paths": {"workdir": ".", "script": "train.sh", "task": "task.py", "none": "no"},
            "venv": "", "imports": ["json"], "tree": True, "space": {"workdir": "."}, "peers": ["127.0.0.1"]}  # fmt: skip
    (answer,) = ForkingAsker().ask([ProbeRequest(host="h", what="facts", args=args, timeout=60.0)])
    value, error = answers.check_answer("facts", answer.value)
    assert (error, value.get(answers.INVALID)) == ("", None)
    assert set(value) - {"missing", "reasons", "clock"} <= set(answers.FACTS)


def test_every_question_has_a_schema() -> None:
    assert set(answers.ANSWERS) | {"facts", "aftermath"} == set(registry._REGISTRY)


def test_recorded_facts_of_a_host_with_gpus_are_valid() -> None:
    value, error = answers.check_answer("facts", build_healthy_facts(1))
    assert (error, value.get(answers.INVALID)) == ("", None)
    assert value == build_healthy_facts(1)


def _replace_value(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    if isinstance(value, Mapping):
        return {**value, path[0]: _replace_value(value[path[0]], path[1:], new)}
    return [_replace_value(item, path[1:], new) if at == path[0] else item for at, item in enumerate(value)]


@pytest.mark.parametrize(
    ("path", "new", "reason"),
    [
        (("memory", "total"), "x", "facts.memory.total: is text, not a whole number"),
        (("memory", "total"), -1, "facts.memory.total: is -1, not between 0 and"),
        (("memory", "total"), True, "facts.memory.total: is true or false"),
        (("cpu", "load"), float("nan"), "facts.cpu.load: is a number that is too large or not finite"),
        (("cpu", "load"), 10**400, "facts.cpu.load: is a number that is too large or not finite"),
        (("interfaces",), None, "facts.interfaces: is null, not a list"),
        (("interfaces", 0, "name"), [], "facts.interfaces[0].name: is a list, not text"),
        (("software", "torch"), [1], "facts.software.torch: is a list, not an object"),
        (("programs", "found", "bash"), 5, "facts.programs.found.bash: is a number, not text"),
    ],
)
def test_an_invalid_section_is_removed_and_its_field_named(path: tuple[Any, ...], new: Any, reason: str) -> None:
    value, error = answers.check_answer("facts", _replace_value(build_healthy_facts(1), path, new))
    assert error == ""
    assert path[0] not in value
    assert value[answers.INVALID][path[0]].startswith(reason)
    assert value["missing"][path[0]].startswith(f"its answer is invalid ({reason}")


@pytest.mark.parametrize(
    ("what", "value", "reason"),
    [
        ("clock", {}, "clock.time: is missing"),
        ("clock", {"time": float("inf"), "pid": 1}, "clock.time: is a number that is too large or not finite"),
        ("stacks", {"ranks": 5}, "stacks.ranks: is a number, not a list"),
        ("stacks", {"ranks": [3]}, "stacks.ranks[0]: is a number, not an object"),
        ("facts", [], "facts: is a list, not an object"),
        ("runs", {"searched": [], "runs": [{}], "processes": []}, "runs.runs[0].run: is missing"),
        ("dial", {"results": [{"outcome": 5}]}, "dial.results[0].outcome: is a number, not text"),
    ],
)
def test_an_invalid_answer_is_an_error_that_names_the_field(what: str, value: Any, reason: str) -> None:
    assert answers.check_answer(what, value) == (None, f"its answer is invalid ({reason})")


def test_endless_nesting_is_invalid() -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    value, _ = answers.check_answer("facts", {**build_healthy_facts(1), "residue": {"x": deep}, "new section": deep})
    assert {"residue", "new section"} == set(value[answers.INVALID])


def test_a_host_cannot_declare_its_own_answer_valid() -> None:
    assert (
        answers.INVALID
        not in answers.check_answer("facts", {**build_healthy_facts(1), answers.INVALID: {"cpu": "x"}})[0]
    )


def test_a_section_that_a_later_agent_adds_is_kept_within_bounds() -> None:
    value, _ = answers.check_answer("facts", {**build_healthy_facts(1), "added": {"a": [1, "x", None, True]}})
    assert value["added"] == {"a": [1, "x", None, True]}
