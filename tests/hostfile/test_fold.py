"""``fold`` shortens many names in the usual notation."""

from __future__ import annotations

import pytest

from fanout.model.hosts import fold_names


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ("gpu01 gpu02 gpu03 login", "gpu[01-03],login"),
        ("n1 n2 n3", "n[1-3]"),
        ("n8 n9 n10 n11", "n[8-11]"),
        ("n08 n09 n10 n11", "n[08-11]"),
        ("n1 n01", "n1,n01"),
        ("n1 n3 n5", "n[1,3,5]"),
        ("a1.lab a2.lab b1.lab", "a[1-2].lab,b1.lab"),
        ("n99 n100 n101", "n[99-101]"),
        ("n099 n100 n101", "n[099-101]"),
        ("n10 n09", "n[09-10]"),
        ("r1n1 r1n2 r2n1", "r1n[1-2],r2n1"),
        ("10.0.0.1 10.0.0.2", "10.0.0.[1-2]"),
        ("login", "login"),
        ("n1 n1", "n1"),
        ("", ""),
    ],
)
def test_fold(names: str, folded: str) -> None:
    """Runs of numbers are merged; different padding stays separate."""
    assert fold_names(names.split()) == folded
