"""State of each host beside its log: its connection, silences, reboots, and the end of its script."""

from __future__ import annotations

from fanout.diagnose.evidence import End, Silence
from fanout.events import Acted, Chunk, Event, Exited, Linked, LinkLost, Lost, Stop


class Links:
    """State of all hosts of a run, updated by every event."""

    def __init__(self) -> None:
        self.ends: dict[str, End] = {}
        self.heard: dict[str, float] = {}  # host -> time of its last bytes
        self.gaps: dict[str, float] = {}  # host -> seconds for which its connection was broken
        self.rebooted: dict[str, float] = {}  # host -> time of its reconnect with another boot id
        self._stopped: dict[str, float] = {}
        self._broke: dict[str, tuple[float, str]] = {}
        self._silences: list[Silence] = []
        self._boots: dict[str, str] = {}

    def take(self, event: Event) -> None:
        """Update the state with one event."""
        match event:
            case Chunk():
                self.heard[event.host] = event.at
            case Acted(action=Stop() as stop):
                self._stopped.setdefault(stop.host, event.at)
            case LinkLost():
                self._broke.setdefault(event.host, (event.at, event.why))
            case Linked():
                self._link(event)
            case Exited() if event.host not in self.ends:
                self.ends[event.host] = self._exit(event)
            case Lost() if event.host not in self.ends:
                since = (
                    self._broke[event.host][0] if event.host in self._broke else self.heard.get(event.host, event.at)
                )
                self.ends[event.host] = End(host=event.host, kind="lost", at=event.at, since=since, why=event.why)
            case _:
                pass

    @property
    def silences(self) -> tuple[Silence, ...]:
        """Return all times without contact to a host, including those that continue."""
        open_ = [Silence(host=host, begin=at, end=None, why=why) for host, (at, why) in self._broke.items()]
        return (*self._silences, *open_)

    def boot_id(self, host: str) -> str:
        """Return the boot id of the host at its first connection."""
        return self._boots.get(host, "")

    def doubt(self, host: str, seconds: float) -> None:
        """Record that the times of this host may be wrong by so many seconds."""
        self.gaps[host] = max(seconds, self.gaps.get(host, 0.0))

    def _link(self, event: Linked) -> None:
        boot = str(event.hello.get("boot_id", ""))
        if boot and self._boots.setdefault(event.host, boot) != boot:
            self.rebooted.setdefault(event.host, event.at)
        if event.host in self._broke:
            at, why = self._broke.pop(event.host)
            self._silences.append(Silence(host=event.host, begin=at, end=event.at, why=why))
            self.doubt(event.host, event.at - at)

    def _exit(self, event: Exited) -> End:
        """Convert the exit event. An exit with unknown status does not count as the effect of the launcher's stop."""
        unknown = event.code is None and event.signal is None
        stopped = self._stopped.get(event.host, event.at + 1) <= event.at and not unknown
        since = self._begun(event.host, event.at) if unknown else 0.0
        return End(
            host=event.host, kind="stopped" if stopped else "ended", at=event.at, since=since, code=event.code,
            signal=event.signal, oom=event.oom, why=event.why,
        )  # fmt: skip

    def _begun(self, host: str, at: float) -> float:
        """Return the time of the last contact before an exit that the launcher did not observe."""
        broke = [each.begin for each in self.silences if each.host == host]
        return max(broke, default=self.heard.get(host, at))
