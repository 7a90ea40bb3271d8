"""Where one host stands in a run, and how that may change: one table."""

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
    """Where one host stands. The order is that of a good run."""

    WAITING = "waiting"  # no login has begun
    DIALLING = "connecting"
    LINKED = "connected"  # the agent answers; checks run in this phase
    PREPARED = "ready"  # locks taken, script found
    RUNNING = "running"
    EXITED = "exited"  # train.sh ended, its tree is being looked at
    GONE = "gone"  # nothing of the run is left there, or it is known what is
    FORGOTTEN = "done"  # and the run's directory is removed
    UNREACHED = "unreached"
    REFUSED = "refused"
    LOST = "lost"  # given up; what happened there is unknown

    @property
    def over(self) -> bool:
        """Nothing more will come from this host."""
        return self in OVER

    @property
    def failed_before_start(self) -> bool:
        return self in (Phase.UNREACHED, Phase.REFUSED)


OVER = (Phase.FORGOTTEN, Phase.UNREACHED, Phase.REFUSED, Phase.LOST)  # asked at every event: no Enum is hashed for it

_W, _D, _L, _P, _R = Phase.WAITING, Phase.DIALLING, Phase.LINKED, Phase.PREPARED, Phase.RUNNING
_X, _G = Phase.EXITED, Phase.GONE

#: (phase, kind of event) -> phase. Events about the link, the clock and the bytes do not move a host.
MOVES: Mapping[tuple[Phase, type[OnHost]], Phase] = {
    (_W, Dialling): _D,
    (_D, Dialling): _D,
    (_D, Linked): _L,
    (_D, Unreached): Phase.UNREACHED,
    (_L, Unreached): Phase.UNREACHED,  # the link broke before anything was prepared, and did not come back
    (_L, Prepared): _P,
    (_L, Refused): Phase.REFUSED,
    (_L, Forgotten): Phase.FORGOTTEN,  # sent home before anything was prepared
    (_P, Prepared): _P,  # said again after a reconnect, like every fact below
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
    (_G, Lost): Phase.FORGOTTEN,  # how it ended is known; only the farewell did not come
    # after a reconnect the link's own events meet every later phase
    **{(phase, kind): phase for phase in (_L, _P, _R, _X, _G) for kind in (Dialling, Linked)},
}
