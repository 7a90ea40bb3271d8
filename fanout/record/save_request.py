"""Request for a planned stop: ``fanout stop --save`` writes it into the record of the run, and the launcher reads it.

A signal could not carry the duration, and would kill a launcher of an older version.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from fanout.model import schema
from fanout.model.events import SaveRequested
from fanout.model.save_signals import SAVE_SIGNALS
from fanout.model.schema import InvalidValue, Number, Text

REQUEST_FILE = "save-request.json"
_SCHEMA = {"signal": Text(among=SAVE_SIGNALS), "seconds": Number(1, 30 * 86400), "by": Text(200)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveRequest:
    """A request of a user: ``signal`` to the ranks now, the stop after ``seconds`` at the latest."""

    signal: str
    seconds: float
    by: str

    def to_event(self, at: float) -> SaveRequested:
        return SaveRequested(at=at, signal=self.signal, seconds=self.seconds, by=self.by)


def write_request(run: str, request: SaveRequest) -> None:
    """Write the request into the directory of the run. Raises OSError."""
    path = os.path.join(run, REQUEST_FILE)
    with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
        json.dump({"signal": request.signal, "seconds": request.seconds, "by": request.by}, file)
    os.replace(f"{path}.{os.getpid()}", path)


def read_request(run: str) -> SaveRequest | None:
    """Return the request in the directory of the run, None without a valid one."""
    try:
        with open(os.path.join(run, REQUEST_FILE), "rb") as file:
            found = schema.parse_json(file.read(4096), _SCHEMA)
    except (OSError, InvalidValue):
        return None
    return SaveRequest(signal=found["signal"], seconds=found["seconds"], by=found["by"])
