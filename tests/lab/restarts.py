"""``make restarts``: play every scene of restarts in a lab; print expected and observed. Ends with 1 if one differs."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time

from tests.lab.drive import Project
from tests.lab.lab import Lab
from tests.lab.oracle import assert_clean
from tests.lab.restart_fault_scenes import FAULT_SCENES
from tests.lab.restart_host_scenes import HOST_SCENES
from tests.lab.restart_play import compare_run, play_scene
from tests.lab.restart_scenes import SCENES as FAILURE_SCENES
from tests.lab.restart_user_scenes import USER_SCENES

SCENES = (*FAILURE_SCENES, *USER_SCENES, *HOST_SCENES, *FAULT_SCENES)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.restarts", description=__doc__)
    parser.add_argument("names", nargs="*", help="scenes to play (default: all)")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the output of every scene")
    options = parser.parse_args()
    broken = 0
    with Lab(4, shared="/home/lab/shared") as lab:
        for scene in SCENES:
            if options.names and scene.name not in options.names:
                continue
            lab.reset_machines()
            began = time.monotonic()
            try:
                with contextlib.closing(Project(lab)) as project:
                    seen = play_scene(project, lab, scene)
                    wrong = compare_run(scene, seen)
                assert_clean(lab)
            except AssertionError as error:
                seen, wrong = None, [str(error)]
            broken += bool(wrong)
            what = f"exit {scene.code}, {scene.attempts} attempts" + (
                f", {' '.join(scene.last)}" if not scene.code else ""
            )
            print(
                f"{'ok  ' if not wrong else 'FAIL'} {scene.name:42} {what:34} {time.monotonic() - began:6.1f} s",
                flush=True,
            )
            for line in wrong:
                print(f"     {line}")
            if seen is not None and (wrong or options.verbose):
                print("\n".join(f"     | {line}" for line in seen.text.splitlines() if " | step " not in line))
    print(f"{len(SCENES) if not options.names else len(options.names)} scenes, {broken} differ")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
