"""Phases of one host in a run, and the table of their transitions."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from fanout.events import (
    Dialling,
    Exited,
    Forgotten,
    Gone,
    Linked,
    Lost,
    OnHost,
    Prepared,
    Refused,
    Started,
    Unreached,
)


class Phase(Enum):
    """Phase of one host. The order is that of a successful run."""

    WAITING = "waiting"  # no login has begun
    DIALLING = "connecting"
    LINKED = "connected"  # the agent answers; checks run in this phase
    PREPARED = "ready"  # locks taken, script found
    RUNNING = "running"
    EXITED = "exited"  # train.sh exited; the keeper checks its process tree
    GONE = "gone"  # the keeper reported which processes are left, mostly none
    FORGOTTEN = "done"  # the run's directory on the host is deleted
    UNREACHED = "unreached"
    REFUSED = "refused"
    LOST = "lost"  # the launcher gave the host up; its state is unknown

    @property
    def over(self) -> bool:
        """Return whether no more event can arrive from this host."""
        return self in OVER

    @property
    def failed_before_start(self) -> bool:
        return self in (Phase.UNREACHED, Phase.REFUSED)


OVER = (Phase.FORGOTTEN, Phase.UNREACHED, Phase.REFUSED, Phase.LOST)  # a tuple: to hash an Enum at every event is slow

_W, _D, _L, _P, _R = Phase.WAITING, Phase.DIALLING, Phase.LINKED, Phase.PREPARED, Phase.RUNNING
_X, _G = Phase.EXITED, Phase.GONE

#: (phase, kind of event) -> phase. Events about the connection, the clock and log bytes do not change the phase.
MOVES: Mapping[tuple[Phase, type[OnHost]], Phase] = {
    (_W, Dialling): _D,
    (_D, Dialling): _D,
    (_D, Linked): _L,
    (_D, Unreached): Phase.UNREACHED,
    (_L, Unreached): Phase.UNREACHED,  # the connection broke before Prepared, and was not restored
    (_L, Prepared): _P,
    (_L, Refused): Phase.REFUSED,
    (_L, Forgotten): Phase.FORGOTTEN,  # dismissed before Prepared
    (_P, Prepared): _P,  # sent again after a reconnect, like every fact below
    (_P, Refused): Phase.REFUSED,
    (_P, Started): _R,
    (_P, Exited): _X,  # execve itself failed
    (_P, Gone): _G,  # rolled back before Go
    (_R, Prepared): _R,
    (_R, Started): _R,
    (_R, Exited): _X,
    (_X, Prepared): _X,
    (_X, Started): _X,
    (_X, Exited): _X,
    (_X, Gone): _G,
    (_G, Prepared): _G,
    (_G, Started): _G,
    (_G, Exited): _G,
    (_G, Gone): _G,
    (_G, Forgotten): Phase.FORGOTTEN,
    **{(phase, Lost): Phase.LOST for phase in (_W, _D, _L, _P, _R, _X)},
    (_G, Lost): Phase.FORGOTTEN,  # the end is known; only the last acknowledgement is missing
    # after a reconnect, events of the connection arrive in every later phase
    **{(phase, kind): phase for phase in (_L, _P, _R, _X, _G) for kind in (Dialling, Linked)},
}
