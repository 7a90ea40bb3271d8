"""Completion of command lines: what may stand at the cursor."""

from __future__ import annotations

import shlex

import pytest

from fanout.cli.command_table import COMMANDS
from fanout.cli.complete_words import POSITIONAL_KINDS, POSITIONAL_WORDS, complete_words
from fanout.model.option_table import OPTIONS


@pytest.mark.parametrize(
    ("line", "words", "kinds"),
    [
        ("ru", {"run", "rerun", "help", "--version"}, ()),
        ("help ''", {"run", "hostfile"}, ()),
        ("run ''", set(), ("files", "known-hosts")),
        ("run --out", {"--output", "--dry-run", "--help"}, ()),
        ("run --output ''", {"live", "plain", "json"}, ()),
        ("run --output=pl", {"live", "plain", "json"}, ()),
        ("run --output = pl", {"live", "plain", "json"}, ()),
        ("run --output = ''", {"live", "plain", "json"}, ()),
        ("run --output=plain --venv ''", {"auto", "none"}, ("directories",)),
        ("run hosts.txt ''", set(), ("files",)),
        ("run hosts.txt task.py --ou", set(), ("files",)),
        ("run hosts.txt --without ''", set(), ("hosts",)),
        ("run train.py --lr ''", set(), ("files",)),
        ("logs ''", set(), ("runs",)),
        ("logs @-1 --ho", {"--host", "--hide"}, ()),
        ("stop ''", set(), ("active-runs",)),
        ("exec hosts.txt -- ''", set(), ("commands",)),
        ("exec hosts.txt -- nvidia-smi ''", set(), ("files",)),
        ("export ''", {"slurm", "kubernetes"}, ()),
        ("export slurm ''", set(), ("files", "known-hosts")),
        ("completion ''", {"bash", "zsh", "fish"}, ()),
        ("notify --test ''", set(), ("services",)),
        ("stop --save ''", set(), ("active-runs",)),
        ("run hosts.txt -m ''", set(), ()),
        ("no-such-command ''", set(), ()),
    ],
)
def test_words_and_kinds_at_the_cursor(line: str, words: set[str], kinds: tuple[str, ...]) -> None:
    found = complete_words(shlex.split(line))
    assert words <= {word for word, _ in found.words}
    assert bool(found.words) == bool(words)
    assert found.kinds == kinds


def test_hosts_of_the_command_line_are_found() -> None:
    assert complete_words(["logs", "--host", ""]).hosts == ""
    assert complete_words(["run", "hosts.txt", "--without", ""]).hosts == "hosts.txt"


def test_flag_that_was_given_is_offered_again_only_if_it_repeats() -> None:
    offered = {word for word, _ in complete_words(["run", "--dry-run", "--env", "A=1", "--"]).words}
    assert "--dry-run" not in offered
    assert "--env" in offered


def test_choices_of_words_are_those_of_the_commands() -> None:
    """A new FORMAT of export, or another positional, is completed too."""
    named = {word.metavar for command in COMMANDS.values() for word in command.positionals}
    assert named <= {*POSITIONAL_KINDS, *POSITIONAL_WORDS, "RUN"}
    formats = next(word for word in COMMANDS["export"].positionals if word.metavar == "FORMAT").help
    assert POSITIONAL_WORDS["FORMAT"] == tuple(formats.replace(" or", ",").split(", "))


def test_every_choice_of_an_option_is_completed() -> None:
    row = next(row for row in OPTIONS if row.long_flag == "--on-hangup")
    assert {word for word, _ in complete_words(["run", "--on-hangup", ""]).words} == set(row.choices)
