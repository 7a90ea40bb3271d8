"""Request for a stop: ``fanout stop`` writes who it is into the record of the run, and then signals the launcher.

A signal carries no name, so the launcher reads it here.
"""

from __future__ import annotations

import json
import os

from fanout.model import schema
from fanout.model.schema import InvalidValue, Text

STOP_FILE = "stop-request.json"
_SCHEMA = {"by": Text(200)}


def write_requester(run: str, by: str) -> None:
    """Write the user and the machine into the directory of the run. Raises OSError."""
    path = os.path.join(run, STOP_FILE)
    with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
        json.dump({"by": by}, file)
    os.replace(f"{path}.{os.getpid()}", path)


def read_requester(run: str) -> str:
    """Return the user and the machine that requested the stop, such as ``ann@pc``; "" without a valid request."""
    try:
        with open(os.path.join(run, STOP_FILE), "rb") as file:
            return str(schema.parse_json(file.read(4096), _SCHEMA)["by"])
    except (OSError, InvalidValue):
        return ""
