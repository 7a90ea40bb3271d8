"""fanout as a user has it: in an environment of its own, without the hooks of an editable installation."""

from __future__ import annotations

import atexit
import compileall
import functools
import shutil
import site
import tempfile
import venv
from pathlib import Path

from bench.common import REPOSITORY

#: What installers write for an entry point.
_SCRIPT = "import sys\nfrom fanout.cli import entry\nsys.exit(entry())\n"


@functools.cache
def environment() -> Path:
    """The directory of a virtual environment that holds this checkout, and what it needs, as installed wheels would.

    An editable installation costs every start some 10 ms, modules that nobody has compiled much more. It is removed
    when the benchmarks are over.
    """
    compileall.compile_dir(REPOSITORY / "fanout", quiet=1)
    place = Path(tempfile.mkdtemp(prefix="fanout-bench-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    place.chmod(0o755)  # the machines' users run it
    venv.create(place, with_pip=False)
    for packages in place.glob("lib/python*/site-packages"):
        (packages / "fanout.pth").write_text("\n".join([str(REPOSITORY), *site.getsitepackages()]) + "\n")
    (place / "bin" / "fanout").write_text(_SCRIPT)
    return place


def command() -> tuple[str, ...]:
    """What starts ``fanout`` of that environment."""
    return (str(environment() / "bin" / "python"), str(environment() / "bin" / "fanout"))
