"""The scripts of docs/recipes.md are those that `make projects` runs."""

from __future__ import annotations

import re

from tests.projects.test_projects import RECIPES, TABLE
from tests.sources import ROOT

_SHOWN = re.compile(r"^<!-- (tests/projects/recipes/\S+) -->\n```(?:bash|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_shown_scripts_are_those_that_are_run() -> None:
    shown = _SHOWN.findall((ROOT / "docs/recipes.md").read_text(encoding="utf-8"))
    assert shown
    for path, text in shown:
        assert text == (ROOT / path).read_text(encoding="utf-8"), path


def test_every_script_that_is_run_is_shown() -> None:
    names = {recipe.name for recipe in TABLE}
    assert names == {path.name for path in RECIPES.iterdir() if path.is_dir()}
    shown = {text for _, text in _SHOWN.findall((ROOT / "docs/recipes.md").read_text(encoding="utf-8"))}
    for name in names:
        assert (RECIPES / name / "train.sh").read_text(encoding="utf-8") in shown, name
