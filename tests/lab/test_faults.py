"""A few scenes of the campaign, and full disks; the whole of it is ``make faults``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.lab import ns
from tests.lab.campaign import scenes
from tests.lab.drive import Project
from tests.lab.lab import Lab
from tests.lab.misfortunes import cut
from tests.lab.oracle import assert_clean
from tests.lab.scenes import Scene, Stage
from tests.lab.specs import HostSpec

CHOSEN = (
    "session cut | starting | all",
    "relay killed | running | all",
    "sshd restarted | stopping | one",
    "frozen 3 s | starting | one",
    "connections reset | running | master",
    "keeper killed | stopping | master",
    "rebooted | running | one",
    "frozen beyond the lease | running | launcher",
)
SCENES = {scene.name: scene for scene in scenes()}


@pytest.mark.parametrize("scene", [SCENES[name] for name in CHOSEN], ids=CHOSEN)
def test_a_scene_of_the_campaign(lab4: Lab, scene: Scene) -> None:
    """The promises are kept, as far as an outside observer can see."""
    seen = Stage(lab4).play(scene)
    assert seen.broken == []


@pytest.fixture(scope="module")
def small() -> Iterator[Lab]:
    with Lab([HostSpec(name="h1"), HostSpec(name="h2", tmp_mb=4)]) as lab:
        yield lab


FILL = """
echo begin
if [ $NODE_RANK = 1 ]; then
  yes $(printf 'x%.0s' {1..999}) | head -n 6000
  touch full
fi
until [ -e stop ]; do sleep 0.05; done
echo end
exit $((NODE_RANK * 5))
"""


def test_a_disk_that_fills_up_costs_log_bytes_and_not_the_ending(small: Lab) -> None:
    """The host's exit status comes through a full disk, also to a launcher that had to come back for it."""
    small.reset()
    with closing(Project(small, shared=False)) as project:
        project.train(FILL)
        run = project.begin("--last-words", "0")
        run.until("h1 .*begin")
        host = small["h2"]
        ns.until(lambda: project.path("full", on=host).exists(), 30.0, "the disk is full")
        cut(host)
        run.until("^fanout: h2: link is back")
        for node in small.hosts:
            node.write_file(f"{project.here}/stop", "", user="lab")
        done = run.end()
    assert done.code == 5, done.err[-3000:]
    assert "h2: its disk was full:" in done.err
    assert_clean(small)
