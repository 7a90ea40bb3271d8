"""How long ``fanout --help`` takes, beside an interpreter that does nothing: the price of its imports."""

from __future__ import annotations

import subprocess
import tempfile
import venv
from pathlib import Path

from bench.common import REPOSITORY, Contender, Table, interleaved, table

#: What installers write for an entry point.
_SCRIPT = "import sys\nfrom fanout.cli import entry\nsys.exit(entry())\n"


def measure(repeat: int = 40) -> Table:
    """In a fresh environment that holds fanout as an installed wheel would: no hooks of an editable installation."""
    with tempfile.TemporaryDirectory() as place:
        venv.create(place, with_pip=False)
        python = f"{place}/bin/python"
        for packages in Path(place, "lib").glob("python*/site-packages"):
            (packages / "fanout.pth").write_text(f"{REPOSITORY}\n")
        script = str(Path(place, "bin", "fanout"))
        Path(script).write_text(_SCRIPT)
        contenders = [
            Contender(name="python -c pass", argv=(python, "-c", "pass")),
            Contender(name="python -c 'import argparse'", argv=(python, "-c", "import argparse")),
            Contender(name="fanout --help", argv=(python, script, "--help"), shows="fanout run"),
            Contender(name="fanout run --help", argv=(python, script, "run", "--help"), shows="--skip-check"),
        ]
        results = interleaved(contenders, _start, repeat=repeat)
    return table("Start-up", results, base="python -c pass")


def _start(contender: Contender) -> subprocess.Popen[bytes]:
    return subprocess.Popen(contender.argv, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
