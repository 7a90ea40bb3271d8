"""Request files: a command writes one into the directory of a run, and the launcher of the run reads it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from fanout.model import schema
from fanout.model.schema import InvalidValue


def write_request_file(run: str, name: str, request: Mapping[str, Any]) -> None:
    """Write the request into the directory of the run; the launcher never sees a part of it. Raises OSError."""
    path = os.path.join(run, name)
    with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
        json.dump(request, file)
    os.replace(f"{path}.{os.getpid()}", path)


def read_request_file(run: str, name: str, kind: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the request in the directory of the run; None without one that conforms to the schema ``kind``."""
    try:
        with open(os.path.join(run, name), "rb") as file:
            return dict(schema.parse_json(file.read(4096), kind))
    except (OSError, InvalidValue):
        return None
