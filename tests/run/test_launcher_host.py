"""Warning at the start of a run with restarts whose launcher is on one of its hosts."""

from __future__ import annotations

from typing import Any

import pytest

from fanout.model.errors import UsageError
from fanout.model.hosts import Host, Origin
from fanout.model.settings import Settings
from fanout.run.launcher_host import describe_launcher_host

ORIGIN = Origin(file="hosts.txt", line=1)


class Selector:
    """Selector of transports for which ``gpu01`` is this machine, and ``gpu03`` has an invalid ssh configuration."""

    def is_here(self, host: Host) -> bool:
        if host.name == "gpu03":
            raise UsageError("bad configuration")
        return host.name == "gpu01"


class Context:
    """Context of a run on hosts with these names."""

    def __init__(self, *names: str, spares: tuple[str, ...] = (), transport: str = "auto") -> None:
        self.hosts = tuple(Host(name=name, origin=ORIGIN) for name in names)
        self.spares = tuple(Host(name=name, origin=ORIGIN) for name in spares)
        self.settings = Settings(transport=transport)
        self.selector = Selector()


@pytest.mark.parametrize(
    ("context", "named"),
    [
        (Context("gpu01", "gpu02"), "gpu01 is"),
        (Context("gpu02", spares=("gpu01",)), "gpu01 is"),
        (Context("gpu02", transport="local"), "gpu02 is"),
        (Context("gpu02", "gpu03"), ""),
    ],
)
def test_launcher_on_a_host_of_the_run_is_named(context: Any, named: str) -> None:
    text = describe_launcher_host(context)
    assert bool(text) == bool(named)
    assert named in text
