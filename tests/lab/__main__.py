"""A lab to try things in: ``python -m tests.lab [-n HOSTS] [COMMAND …]`` runs the command (a shell) on the launcher."""

from __future__ import annotations

import argparse
import os
import sys

from tests.lab.lab import Lab
from tests.lab.ns import LabError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.add_argument("-n", "--hosts", type=int, default=4)
    parser.add_argument("-u", "--user", choices=("lab", "root"), default="lab")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    try:
        with Lab(options.hosts, shared="/home/lab/shared") as lab:
            lab.write_hostfile()
            env = {"TERM": os.environ.get("TERM", "dumb")}
            command = options.command or ["bash"]
            terminal = sys.stdin.fileno()
            child = lab.launcher.start_program(
                command, user=options.user, env=env, stdin=terminal, start_new_session=False
            )
            return child.wait()
    except LabError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
