"""Command after a good check: the words of the check without its own flags."""

from __future__ import annotations

import pytest

from fanout.cli.parser import parse_arguments
from fanout.run.next_command import build_run_command


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [
        ("check hosts.txt train.py cfg.yaml", "fanout run hosts.txt train.py cfg.yaml"),
        ("check train.py", "fanout run train.py"),
        ("check -x gpu03 --strict -v h train.py --lr 1", "fanout run -x gpu03 h train.py --lr 1"),
        ("check --venv /v --json -F cfg hosts.txt -m pkg.train", "fanout run --venv /v -F cfg hosts.txt -m pkg.train"),
        ("check hosts.txt -- train.py", "fanout run hosts.txt -- train.py"),
        ("check hosts.txt", ""),
        ("check --only gpu hosts.txt train.py", ""),
        ("check --skip=gpu hosts.txt train.py", ""),
        ("check - train.py", ""),
        ("check -E TOKEN=abc hosts.txt train.py", ""),
    ],
)
def test_the_command_after_a_good_check_has_its_words(typed: str, suggested: str) -> None:
    assert build_run_command(parse_arguments(typed.split(), columns=100)) == suggested
    if suggested:
        parse_arguments(suggested.split()[1:], columns=100)
