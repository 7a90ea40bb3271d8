"""The campaigns still apply to the code: every guard, trap, scene and word in them names something that exists.

A campaign runs for minutes and only by hand. Without these tests a rename would make it fail, or test nothing, unnoticed.
"""

from __future__ import annotations

import ast
import errno
import os
import re
from functools import cache

import pytest

from tests.guards import GUARDS, REPOSITORY, Guard
from tests.lab import soak
from tests.lab.campaign import list_scenes
from tests.lab.misfortunes import FAULTS
from tests.lab.scenes import BLOWS, PHASES, WHERE, Scene
from tests.lab.test_faults import CHOSEN
from tests.sweeps import crash

PRODUCT = REPOSITORY / "fanout"
SCENES = list_scenes()

#: They never run in a relay or a keeper of a host.
ELSEWHERE = {"__init__", "bundle", "container_holder", "torch_worker"}


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_names_a_place_in_the_code_and_a_test(guard: Guard) -> None:
    """Its text occurs once, what stands instead differs and parses, and the test that must fail exists."""
    text = (PRODUCT / guard.file).read_text(encoding="utf-8")
    assert text.count(guard.text) == 1
    assert guard.instead != guard.text
    ast.parse(text.replace(guard.text, guard.instead))  # what is left must still be Python
    path, _, name = guard.test.partition("::")
    function, _, parameter = name.partition("[")
    tests = (REPOSITORY / path).read_text(encoding="utf-8")
    assert re.search(rf"^def {function}\(", tests, re.MULTILINE)
    assert not parameter or parameter.removesuffix("]") in tests


def test_every_module_of_the_agent_is_trapped_or_listed_as_untrapped() -> None:
    """A new module of the keeper must not escape the sweep of crash points."""
    modules = {path.stem for path in (PRODUCT / "agent").glob("*.py")}
    known = set(crash.STEPPED) | crash.UNTRAPPED | ELSEWHERE
    assert {name for name in modules - known if not name.startswith("probes")} == set()
    assert known <= modules
    assert set(crash.MODULES) >= crash.UNTRAPPED, "an exemption that is no longer needed"


def test_every_trapped_module_has_traps() -> None:
    """Each has at least one statement at which its process is killed."""
    trapped = {place.partition(".")[0] for place in crash.list_points().values()}
    assert trapped == set(crash.STEPPED)


def test_scenes_have_names_of_their_own() -> None:
    names = [scene.name for scene in SCENES]
    assert len(set(names)) == len(names)
    assert set(CHOSEN) <= set(names)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_scene_can_be_played(scene: Scene) -> None:
    """Its fault, phase and place exist, and the product can print what it promises."""
    assert scene.phase in PHASES
    assert scene.where in WHERE
    assert scene.fault in (BLOWS if scene.where == "launcher" else FAULTS)
    for words in filter(None, scene.promise.words.split("|")):
        assert any(re.search(words, text) for text in _list_messages()), f"no message of the product has {words!r}"


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.name)
def test_campaign_faults_are_reported_in_words_of_the_product(fault: object) -> None:
    """What a fault waits for on the screen can be printed."""
    lasts = getattr(fault, "lasts", 0.0)
    if isinstance(lasts, str):
        words = lasts.rpartition("{host}: ")[2]
        assert any(words in text for text in _list_messages()), f"no message of the product has {words!r}"


def test_the_soak_plays_faults_that_exist() -> None:
    assert set(soak.LIVED_THROUGH) <= set(FAULTS)
    assert {name for name, _ in soak.ENDS if name != "stop" and not name.startswith("SIG")} <= set(FAULTS)


@cache
def _list_messages() -> tuple[str, ...]:
    """Return every string of the product; each value that is filled in stands as the same word."""
    found = []
    for path in sorted(PRODUCT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found += [_fill_text(node, word) for word in ("0", "SIGKILL", "out of memory")]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return (*found, *map(os.strerror, errno.errorcode))  # the kernel's words are reported as they are


def _fill_text(node: ast.JoinedStr, word: str) -> str:
    parts = [str(part.value) if isinstance(part, ast.Constant) else word for part in node.values]
    return "".join(parts)
