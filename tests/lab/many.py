"""Many names behind one sshd: as many logins as a big cluster, without its machines, for benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

from tests.lab.lab import Lab
from tests.lab.specs import HostSpec


def one_sshd(names: int, *, sshd: Sequence[str] = ("MaxStartups 1000",)) -> Lab:
    """Open a lab of one host that answers as h1 … hN, each name with its own address; sshd lets all log in at once."""
    aliases = tuple(f"h{number}" for number in range(2, names + 1))
    return Lab([HostSpec(name="h1", aliases=aliases, sshd=tuple(sshd))])
