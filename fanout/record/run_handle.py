"""Run handle: what a launcher needs to take over a run, as one JSON object. It holds no environment and no secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fanout.model import policy, schema
from fanout.model.frozen import frozen
from fanout.model.hosts import Host, Origin
from fanout.model.schema import ListOf, Text
from fanout.model.settings import Settings

_REACHING = (
    "transport",
    "ssh_config",
    "ssh_option",
    "user",
    "connect_timeout",
    "fanout",
    "hook",
    "notify",
    "metrics_file",
    *policy.POLICY_SETTINGS,
)


_CHOICES = {name.rstrip("?"): kind for name, kind in schema.schema_of(Settings).items()}


_ORDER: dict[str, Any] = {
    "run": Text(200), "hosts": ListOf(schema.schema_of(Host), least=1), "directory": Text(), "user": Text(200),
    "settings": {f"{name}?": _CHOICES[name] for name in _REACHING},
}  # fmt: skip


@frozen
class RunHandle:
    """A handle of a run: enough to resume or stop it. ``directory`` is the run's record on this machine."""

    run_id: str
    hosts: tuple[Host, ...]
    settings: Settings
    directory: str
    user: str

    def to_json(self) -> str:
        return json.dumps(
            {
                "run": self.run_id,
                "hosts": [asdict(host) | {"env": ()} for host in self.hosts],
                "settings": {name: getattr(self.settings, name) for name in _REACHING},
                "directory": self.directory,
                "user": self.user,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> RunHandle:
        """Parse the text of ``to_json``. Raises InvalidValue."""
        entry = schema.parse_json(text, _ORDER)
        return cls(
            run_id=entry["run"],
            hosts=tuple(_parse_host(host) for host in entry["hosts"]),
            settings=Settings(**{name: _to_tuples(value) for name, value in entry["settings"].items()}),
            directory=entry["directory"],
            user=entry["user"],
        )


def _parse_host(entry: Mapping[str, Any]) -> Host:
    values = {name: _to_tuples(value) for name, value in entry.items()}
    return Host(**{**values, "origin": Origin(**entry["origin"])})


def _to_tuples(value: Any) -> Any:
    """Convert the lists of JSON to tuples, at every depth."""
    return tuple(_to_tuples(item) for item in value) if isinstance(value, list) else value
