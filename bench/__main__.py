"""``python -m bench [NAME…]``: run benchmarks and print Markdown tables. See README.md in this directory."""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

from bench import (
    check_many,
    exec_many,
    logs,
    restart,
    scale,
    start_containers,
    start_four,
    start_many,
    start_phases,
    start_two,
    stream,
    sync,
    top,
    train,
)
from bench import help as help_text
from bench.common import REPOSITORY
from tests.lab.lab import why_not

ALL = {
    "help": help_text.measure,
    "exec_many": exec_many.measure,
    "start_many": start_many.measure,
    "check_many": check_many.measure,
    "start_four": start_four.measure,
    "start_two": start_two.measure,
    "start_phases": start_phases.measure,
    "start_containers": start_containers.measure,
    "restart": restart.measure,
    "scale": scale.measure,
    "stream": stream.measure,
    "logs": logs.measure,
    "logs_varied": logs.measure_varied,
    "paced": logs.measure_paced,
    "top": top.measure,
    "sync": sync.measure,
    "sync_change": sync.measure_change,
    "train": train.measure,
}
NO_LAB = {"help", "train"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"benchmarks to run: {', '.join(ALL)} (default: all but train)"
    )
    parser.add_argument("--repeat", type=int, help="number of runs of each contender")
    parser.add_argument(
        "--peers", default="", metavar="VENV", help="use DeepSpeed and torchrunx of this virtual environment"
    )
    options = parser.parse_args()
    names = options.names or [name for name in ALL if name != "train"]
    unknown = [name for name in names if name not in ALL]
    if unknown:
        parser.error(f"unknown benchmark: {unknown[0]}")
    reason = why_not()
    if reason and not NO_LAB.issuperset(names):
        print(f"the benchmarks need the lab: {reason}", file=sys.stderr)
        return 1
    compileall.compile_dir(REPOSITORY / "fanout", quiet=1)  # the lab's users cannot write there
    print(describe_setting(), flush=True)
    for name in names:
        given: dict[str, Any] = {"repeat": options.repeat} if options.repeat else {}
        if name == "start_four":
            given["peers"] = options.peers
        print(ALL[name](**given).to_markdown(), flush=True)
    return 0


def describe_setting() -> str:
    """Return a line with the machine and the versions of all programs; every result depends on them."""
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in ("paramiko", "fabric", "cryptography"))
    programs = ", ".join(filter(None, (_read_version(*argv) for argv in _PROGRAMS)))
    return (
        f"{os.cpu_count()} × {_read_processor()}, Linux {platform.release().split('-')[0]}, load "
        f"{os.getloadavg()[0]:.1f} at the start; Python {platform.python_version()}, {libraries}; {programs}.\n"
    )


_PROGRAMS = (("ssh", "-V"), ("pdsh", "-V"), ("clush", "--version"), ("mpirun", "--version"), ("rsync", "--version"))


def _read_version(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return (done.stdout + done.stderr).splitlines()[0].split(",")[0].strip()


def _read_processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        named = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return named[0] if named else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
