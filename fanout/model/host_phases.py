"""Phases of one host in a run, and the table of their transitions."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from fanout.model.events import (
    CleanedUp,
    Connected,
    ConnectFailed,
    Connecting,
    Exited,
    HostEvent,
    HostLost,
    Prepared,
    Refused,
    Released,
    Started,
)


class Phase(Enum):
    """Phase of one host. The order is that of a successful run."""

    WAITING = "waiting"  # no login has begun
    CONNECTING = "connecting"
    CONNECTED = "connected"  # the agent answers; checks run in this phase
    PREPARED = "ready"  # locks taken, script found
    RUNNING = "running"
    EXITED = "exited"  # train.sh exited; the keeper checks its process tree
    CLEANED_UP = "cleaned up"  # the keeper reported which processes are left, mostly none
    RELEASED = "done"  # the run's directory on the host is deleted
    CONNECT_FAILED = "unreached"
    REFUSED = "refused"
    LOST = "lost"  # the launcher gave the host up; its state is unknown

    @property
    def is_final(self) -> bool:
        """Return whether no more event can arrive from this host."""
        return self in FINAL_PHASES

    @property
    def has_failed_before_start(self) -> bool:
        return self in (Phase.CONNECT_FAILED, Phase.REFUSED)


FINAL_PHASES = (
    Phase.RELEASED,
    Phase.CONNECT_FAILED,
    Phase.REFUSED,
    Phase.LOST,
)  # a tuple: to hash an Enum at every event is slow

_W, _D, _L, _P, _R = Phase.WAITING, Phase.CONNECTING, Phase.CONNECTED, Phase.PREPARED, Phase.RUNNING
_X, _G = Phase.EXITED, Phase.CLEANED_UP

#: (phase, kind of event) -> phase. Events about the connection, the clock and log bytes do not change the phase.
TRANSITIONS: Mapping[tuple[Phase, type[HostEvent]], Phase] = {
    (_W, Connecting): _D,
    (_D, Connecting): _D,
    (_D, Connected): _L,
    (_D, ConnectFailed): Phase.CONNECT_FAILED,
    (_L, ConnectFailed): Phase.CONNECT_FAILED,  # the connection broke before Prepared, and was not restored
    (_L, Prepared): _P,
    (_L, Refused): Phase.REFUSED,
    (_L, Released): Phase.RELEASED,  # dismissed before Prepared
    (_P, Prepared): _P,  # sent again after a reconnect, like every fact below
    (_P, Refused): Phase.REFUSED,
    (_P, Started): _R,
    (_P, Exited): _X,  # execve itself failed
    (_P, CleanedUp): _G,  # rolled back before Go
    (_R, Prepared): _R,
    (_R, Started): _R,
    (_R, Exited): _X,
    (_X, Prepared): _X,
    (_X, Started): _X,
    (_X, Exited): _X,
    (_X, CleanedUp): _G,
    (_G, Prepared): _G,
    (_G, Started): _G,
    (_G, Exited): _G,
    (_G, CleanedUp): _G,
    (_G, Released): Phase.RELEASED,
    **{(phase, HostLost): Phase.LOST for phase in (_W, _D, _L, _P, _R, _X)},
    (_G, HostLost): Phase.RELEASED,  # the end is known; only the last acknowledgement is missing
    # after a reconnect, events of the connection arrive in every later phase
    **{(phase, kind): phase for phase in (_L, _P, _R, _X, _G) for kind in (Connecting, Connected)},
}
