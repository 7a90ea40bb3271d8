"""Failure summary: the part of a verdict that the short report shows, as plain texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from fanout.model.frozen import frozen


@frozen
class FailureSummary:
    """The first cause in one sentence, with its quotation and the texts that help the user.

    ``sentence`` is "" if the first cause is undetermined. ``error`` is the line of ``quote`` that names the exception, ""
    without a traceback. ``victims``: host that only lost a peer -> how; "" if its ranks differ.
    """

    sentence: str
    step: str = ""  # the last step that the logs have, as ``14/60``; "" if none
    host: str = ""  # the host that is blamed; "" if none
    rank: int | None = None  # the only rank that is blamed
    quote: tuple[str, ...] = ()
    error: str = ""
    confidence: str = ""  # why the cause is not certain; "" if it is
    stands: tuple[str, ...] = ()  # where the ranks are
    hosts: tuple[str, ...] = ()  # unusual facts about the hosts
    victims: Mapping[str, str] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
