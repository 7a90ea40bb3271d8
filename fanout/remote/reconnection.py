"""Reconnection during a run: what the error of a failed attempt shows about the host. Pure."""

from __future__ import annotations

import re

from fanout.model.errors import ContainerGone, TransportError, Unreachable
from fanout.model.events import HostLost, LossReason, ReconnectFailed


class ReconnectionErrors:
    """The errors of the attempts to reconnect to one host. Each new one is reported once."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._reported = ""

    def explain_error(self, error: TransportError, attempt: int, at: float) -> HostLost | ReconnectFailed | None:
        """Return the event of an error; None if it shows nothing that the lost connection does not show.

        ``attempt`` counts the attempts since the connection was lost, from 1.
        """
        why = str(error)
        if isinstance(error, ContainerGone):
            reason: LossReason = "container-ended" if error.is_empty else "container-missing"
            return HostLost(at=at, host=self._host, why=why, reason=reason)
        if attempt == 1:
            self._reported = ""
        same = re.sub(r"\d+", "0", why)  # an error of a program may contain a time or a pid
        if isinstance(error, Unreachable) or same == self._reported:
            return None
        self._reported = same
        return ReconnectFailed(at=at, host=self._host, why=why, hint=error.hint)
