"""Facts about the hosts that preflight finds and the plan needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from fanout.model.frozen import frozen


@frozen
class HostFacts:
    """Facts by host name; a host without the fact is absent from the mapping.

    ``master_addr`` is the address of host 0 that all others reach ("" if there is none, or if it was not tested).
    ``master_port`` is the port that the check chose (0 if it chose none).
    ``addresses`` and ``interfaces`` are those by which a host and host 0 reach each other. ``exports`` are the variables
    that a host needs beside those of every host, such as its interface.
    """

    master_addr: str = ""
    master_port: int = 0
    gpus: Mapping[str, int] = field(default_factory=dict)
    script: Mapping[str, bool] = field(default_factory=dict)
    venv: Mapping[str, bool] = field(default_factory=dict)
    torchrun: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    interfaces: Mapping[str, str] = field(default_factory=dict)
    offsets: Mapping[str, float] = field(default_factory=dict)
    exports: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
