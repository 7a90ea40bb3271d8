"""Checks before a restart and of a spare: each name is a check, so that a renamed check is not left out in silence."""

from __future__ import annotations

import pytest

from fanout.checks.engine.catalogue import CATALOGUE
from fanout.run import launch_check, spare_check


@pytest.mark.parametrize("names", [launch_check.RECHECKS, spare_check.CHECKS], ids=["restart", "spare"])
def test_every_name_is_a_check(names: frozenset[str]) -> None:
    assert names <= {check.name for check in CATALOGUE}
