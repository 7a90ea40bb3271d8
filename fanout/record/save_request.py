"""Request for a planned stop: ``fanout stop --save`` writes it into the record of the run, and the launcher reads it.

A signal could not carry the duration, and would kill a launcher of an older version.
"""

from __future__ import annotations

from dataclasses import asdict

from fanout.model.events import SaveRequested
from fanout.model.frozen import frozen
from fanout.model.save_signals import SAVE_SIGNALS
from fanout.model.schema import Number, Text
from fanout.record.request_file import read_request_file, write_request_file

REQUEST_FILE = "save-request.json"
_SCHEMA = {"signal": Text(among=SAVE_SIGNALS), "seconds": Number(1, 30 * 86400), "by": Text(200)}


@frozen
class SaveRequest:
    """A request of a user: ``signal`` to the ranks now, the stop after ``seconds`` at the latest."""

    signal: str
    seconds: float
    by: str

    def to_event(self, at: float) -> SaveRequested:
        return SaveRequested(at=at, signal=self.signal, seconds=self.seconds, by=self.by)


def write_request(run: str, request: SaveRequest) -> None:
    """Write the request into the directory of the run. Raises OSError."""
    write_request_file(run, REQUEST_FILE, asdict(request))


def read_request(run: str) -> SaveRequest | None:
    """Return the request in the directory of the run, None without a valid one."""
    found = read_request_file(run, REQUEST_FILE, _SCHEMA)
    return None if found is None else SaveRequest(signal=found["signal"], seconds=found["seconds"], by=found["by"])
