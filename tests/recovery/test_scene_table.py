"""Table of the scenes of restarts in docs/reliability.md: it has each scene, all numbers, and what ``make test`` plays."""

from __future__ import annotations

import re

from tests.lab.restarts import SCENES
from tests.sources import ROOT

NUMBERS = range(1, 38)
_ROW = re.compile(r"^\| (\d+|-) \| [^|]+ \| `([a-z0-9-]+)` \| (yes)? ?\| (as expected|not again) \|$", re.MULTILINE)


def read_rows() -> list[tuple[str, str, bool]]:
    """Return (number, name, in ``make test``) of each row."""
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    table = text.partition("\n## Restarts\n")[2].partition("\n## ")[0]
    rows = _ROW.findall(table)
    assert len(rows) == table.count("\n| ") - 1, "a row has another form"
    return [(number, name, quick == "yes") for number, name, quick, _ in rows]


def test_table_has_each_scene_and_each_number() -> None:
    rows = read_rows()
    assert {name for _, name, _ in rows} == {scene.name for scene in SCENES}
    assert {int(number) for number, _, _ in rows if number != "-"} == set(NUMBERS)


def test_table_states_which_scenes_are_in_make_test() -> None:
    assert {name for _, name, quick in read_rows() if quick} == {scene.name for scene in SCENES if scene.quick}


def test_a_third_of_the_numbers_is_in_make_test() -> None:
    quick = {number for number, _, is_quick in read_rows() if is_quick and number != "-"}
    assert 3 * len(quick) >= len(NUMBERS)
