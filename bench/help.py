"""Benchmark of ``fanout --help`` against an empty Python program: the cost of its imports."""

from __future__ import annotations

import subprocess

from bench.common import Contender, Table, build_table, run_interleaved
from bench.installed import get_command


def measure(repeat: int = 40) -> Table:
    python, script = get_command()
    contenders = [
        Contender(name="python -c pass", argv=(python, "-c", "pass")),
        Contender(name="python -c 'import argparse'", argv=(python, "-c", "import argparse")),
        Contender(name="fanout --help", argv=(python, script, "--help"), shows="fanout run"),
        Contender(name="fanout run --help", argv=(python, script, "run", "--help"), shows="--dry-run"),
    ]
    results = run_interleaved(contenders, _start, repeat=repeat)
    return build_table("Start-up", results, base="python -c pass")


def _start(contender: Contender) -> subprocess.Popen[bytes]:
    return subprocess.Popen(contender.argv, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
