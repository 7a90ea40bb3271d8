"""Completion: what may stand at the cursor of a command line, as one value. Pure."""

from __future__ import annotations


class Completion:
    """Words with their help, and kinds of further words. A plain class, because each press of Tab pays for its import.

    ``kinds``: files, directories, commands, hosts (of HOSTS), known-hosts, runs, active-runs, services. ``prefix`` is the
    part of the current word that stays: ``--output=``. ``hosts`` is HOSTS of the command line.
    """

    def __init__(
        self,
        *,
        words: tuple[tuple[str, str], ...] = (),
        kinds: tuple[str, ...] = (),
        prefix: str = "",
        hosts: str = "",
    ) -> None:
        self.words = words
        self.kinds = kinds
        self.prefix = prefix
        self.hosts = hosts
