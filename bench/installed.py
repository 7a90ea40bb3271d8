"""Installed fanout: a virtual environment without the import hooks of an editable installation."""

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

#: The script that installers write for an entry point.
_SCRIPT = "import sys\nfrom fanout.cli.main import entry\nsys.exit(entry())\n"


@functools.cache
def create_environment() -> Path:
    """Create a virtual environment with this checkout and its dependencies, as after an installation of wheels.

    An editable installation adds about 10 ms to every start; uncompiled modules add much more. The directory is deleted
    at exit.
    """
    compileall.compile_dir(REPOSITORY / "fanout", quiet=1)
    place = Path(tempfile.mkdtemp(prefix="fanout-bench-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    place.chmod(0o755)  # the users of the lab's machines run it
    venv.create(place, with_pip=False)
    for packages in place.glob("lib/python*/site-packages"):
        (packages / "fanout.pth").write_text("\n".join([str(REPOSITORY), *site.getsitepackages()]) + "\n")
    (place / "bin" / "fanout").write_text(_SCRIPT)
    return place


def get_command() -> tuple[str, ...]:
    """Return the command that starts ``fanout`` of that environment."""
    return (str(create_environment() / "bin" / "python"), str(create_environment() / "bin" / "fanout"))
