"""Request for a stop: ``fanout stop`` writes who it is into the record of the run, and then signals the launcher.

A signal carries no name, so the launcher reads it here.
"""

from __future__ import annotations

from fanout.model.schema import Text
from fanout.record.request_file import read_request_file, write_request_file

STOP_FILE = "stop-request.json"
_SCHEMA = {"by": Text(200)}


def write_requester(run: str, by: str) -> None:
    """Write the user and the machine into the directory of the run. Raises OSError."""
    write_request_file(run, STOP_FILE, {"by": by})


def read_requester(run: str) -> str:
    """Return the user and the machine that requested the stop, such as ``ann@pc``; "" without a valid request."""
    found = read_request_file(run, STOP_FILE, _SCHEMA)
    return "" if found is None else str(found["by"])
