"""Keyword options of the Python API: they are those of the commands, with the same values and errors."""

from __future__ import annotations

import typing

import pytest

from fanout.api.option_types import CheckOptions, RunOptions
from fanout.api.request_options import GROUPS, LEFT_OUT, build_request, list_options
from fanout.cli.command_table import COMMANDS
from fanout.cli.parser import parse_arguments
from fanout.model.errors import UsageError
from fanout.model.option import OUTPUT
from fanout.model.option_table import OPTIONS


@pytest.mark.parametrize(("verb", "types"), [("run", RunOptions), ("check", CheckOptions)])
def test_types_name_every_option_of_the_command(verb: str, types: type) -> None:
    assert set(typing.get_type_hints(types)) == set(list_options(verb))
    assert set(GROUPS[verb]) == set(COMMANDS[verb].groups) - {OUTPUT}
    flags = {flag for row in OPTIONS for flag in row.flags}
    assert {f"--{name.replace('_', '-')}" for name in LEFT_OUT} <= flags


def test_call_makes_the_request_of_the_command_line() -> None:
    words = "--time-limit 2h --env SEED=3 --skip-check --nnodes 2 --grace 1.5 --spool-limit 4GB --name a hosts.txt -- t.py --lr 1"
    typed = parse_arguments(["run", *words.split()])
    options = {"time_limit": 7200, "env": {"SEED": "3"}, "skip_check": True, "nnodes": 2, "grace": 1.5}
    made = build_request(
        "run", "hosts.txt", ["t.py", "--lr", "1"], {**options, "spool_limit": 4_000_000_000, "name": "a"}
    )
    given = {name for name, value in typed.flags.items() if value is not None}
    assert {name: typed.flags[name] for name in given} == {name: made.flags[name] for name in given}
    assert not [name for name, value in made.flags.items() if value is not None and name not in given]
    assert (made.task, made.hosts, made.filters) == (typed.task, typed.hosts, typed.filters)
    assert made.given == typed.given
    assert parse_arguments(["run", *made.head, "hosts.txt", "--", *made.task]).flags == typed.flags


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_limi": 3}, "run: unknown option time_limi"),
        ({"time_limit": -3}, "time_limit must be a duration such as"),
        ({"time_limit": 1e9}, "time_limit must be from"),
        ({"time_limit": True}, "time_limit must be a text or a number, not True"),
        ({"skip_check": "yes"}, "skip_check must be True or False, not 'yes'"),
        ({"env": "A=1"}, "env must be a list of texts"),
        ({"on_hang": "never"}, "on_hang must be one of"),
        ({"dry_run": True}, "run: unknown option dry_run"),
    ],
)
def test_wrong_option_is_an_error_that_names_it(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_request("run", "hosts.txt", ["t.py"], options)


def test_list_of_hosts_and_the_option_none() -> None:
    made = build_request("check", ["gpu01", "gpu02"], (), {"deep": None})
    assert (made.hosts, made.task, made.given["deep"]) == ("gpu01,gpu02", (), False)
