"""A few scenes of the campaign, and full disks; the whole of it is ``make faults``."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.lab import ns
from tests.lab.campaign import list_scenes, set_transport
from tests.lab.drive import Project
from tests.lab.lab import Lab
from tests.lab.misfortunes import cut_sessions
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
    "home read-only | connecting | all",
    "/var/tmp full | starting | all",
    "keeper stopped 4 s | stopping | all",
    "frozen beyond the lease | running | launcher",
)
SCENES = {scene.name: scene for scene in list_scenes()}


@pytest.mark.parametrize("scene", [SCENES[name] for name in CHOSEN], ids=CHOSEN)
def test_a_scene_of_the_campaign(lab4: Lab, scene: Scene) -> None:
    """The promises are kept, as far as an outside observer can see."""
    seen = Stage(lab4).play_scene(scene)
    assert seen.broken == []


OVER_OPENSSH = (
    "session cut | running | all",
    "relay killed | running | one",
    "blackhole 4 s | running | all",
    "session cut | stopping | all",
    "connection refused | connecting | one",
    "SIGINT | running | launcher",
    "SIGKILL | running | launcher",
)


@pytest.mark.parametrize("scene", [set_transport(SCENES[name], "openssh") for name in OVER_OPENSSH], ids=OVER_OPENSSH)
def test_a_scene_over_the_ssh_program(lab4: Lab, scene: Scene) -> None:
    """``--transport openssh`` keeps the same promises."""
    seen = Stage(lab4).play_scene(scene)
    assert seen.broken == []


@pytest.fixture(scope="module")
def small() -> Iterator[Lab]:
    with Lab([HostSpec(name="h1"), HostSpec(name="h2", tmp_mb=4)]) as lab:
        yield lab


FILL = """
echo begin
[ $NODE_RANK = 0 ] || seq -f '%0999g' 1 24000
touch full
until [ -e stop ]; do sleep 0.05; done
echo end
exit $((NODE_RANK * 5))
"""


def test_a_disk_that_fills_up_costs_neither_a_byte_nor_the_ending(small: Lab) -> None:
    """The log goes straight to the link, also to a launcher whose link broke on the way; the end is fetched from memory."""
    small.reset_machines()
    with closing(Project(small, shared=False)) as project:
        project.write_train_script(FILL)
        words = ("run", "--skip-check", "--last-words", "0", "hosts.txt", "task.py")
        run = project.start_command(*words, stdout=subprocess.DEVNULL)
        run.wait_for_output(
            "h2: its disk does not accept the run's log .No space left on device.: it is sent straight to the launcher"
        )
        cut_sessions(small["h2"])
        run.wait_for_output("^fanout: h2: reconnected")
        for node in small.hosts:
            ns.wait_until(lambda node=node: project.get_path("full", on=node).exists(), 60.0, "the flood")  # type: ignore[misc]
            node.write_file(f"{project.here}/stop", "", user="lab")
        done = run.wait_for_end()
        log = project.read_log("h2")
    assert done.code == 5, done.err[-3000:]
    assert "are lost" not in done.err
    assert "whole" not in done.err
    assert log == b"begin\n" + b"".join(b"%0999d\n" % number for number in range(1, 24_001)) + b"end\n"
    assert_clean(small)
