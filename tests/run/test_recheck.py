"""Checks before a restart and of a spare: each name is a check, so that a renamed check is not left out in silence."""

from __future__ import annotations

import re

import pytest

from fanout.checks.engine.catalogue import CATALOGUE
from fanout.run import check_refusal, spare_check
from tests.sources import ROOT


@pytest.mark.parametrize("names", [check_refusal.RECHECKS, spare_check.CHECKS], ids=["restart", "spare"])
def test_every_name_is_a_check(names: frozenset[str]) -> None:
    assert names <= {check.name for check in CATALOGUE}


def test_page_lists_the_checks_before_a_restart() -> None:
    page = " ".join((ROOT / "docs" / "restarts.md").read_text(encoding="utf-8").split())
    sentence = page.partition("The short check consists of ")[2].partition(". It leaves out")[0]
    assert set(re.findall(r"`([a-z-]+)`", sentence)) == check_refusal.RECHECKS - {"reached", "answer"}
