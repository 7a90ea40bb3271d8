"""Format of all help texts: a fixed width, and lines as they are written."""

from __future__ import annotations

import argparse
from functools import partial

TYPE_CHECKING = False  # --help pays for argparse and for nothing else: typing and dataclasses cost as much again
if TYPE_CHECKING:
    from typing import Any


def parser_options(columns: int) -> dict[str, Any]:
    """Return parser options with a fixed width: argparse makes a formatter per flag, and each would query the terminal."""
    return {"formatter_class": partial(argparse.RawDescriptionHelpFormatter, width=columns - 2), "allow_abbrev": False}
