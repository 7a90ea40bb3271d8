"""Small floods; the large ones are ``make floods``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.floods import Flood, open_flood_lab, play_flood
from tests.lab.lab import Lab

SMALL = (
    Flood(kind="lines", mb=12),
    Flood(kind="line", mb=12),
    Flood(kind="binary", mb=2),
)


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_flood_lab(str(tmp_path_factory.mktemp("records"))) as lab:
        yield lab


@pytest.mark.parametrize("flood", SMALL, ids=[flood.kind for flood in SMALL])
def test_every_byte_arrives_the_screen_is_spared_and_memory_is_bounded(flooded: Lab, flood: Flood) -> None:
    """A stream as fast as it goes, a line that never ends, and what is no text at all."""
    seen = play_flood(flooded, flood)
    assert seen.broken == ()
    assert seen.peaks[0] < 80
    assert max(seen.peaks[1:]) < 40
    assert seen.shown < 3 * flood.mb << 20
