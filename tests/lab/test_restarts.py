"""Restarts in a lab: the quick scenes; ``make restarts`` plays all of them."""

from __future__ import annotations

import pytest

from tests.lab.drive import Project
from tests.lab.lab import Lab
from tests.lab.restart_play import compare_run, play_scene
from tests.lab.restart_scenes import Scene
from tests.lab.restarts import SCENES


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene.quick], ids=lambda scene: scene.name)
def test_scene_ends_as_expected(project: Project, lab4: Lab, scene: Scene) -> None:
    seen = play_scene(project, lab4, scene)
    assert not compare_run(scene, seen), seen.text


def test_scene_names_are_unique() -> None:
    names = [scene.name for scene in SCENES]
    assert len(names) == len(set(names))
