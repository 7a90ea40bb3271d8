"""State of each host beside its log: its connection, silences, reboots, and the end of its script."""

from __future__ import annotations

from fanout.diagnose.evidence import Disconnection, HostEnd, describe_new_boot
from fanout.model.actions import Stop
from fanout.model.events import ActionSent, Chunk, Connected, Disconnected, Event, Exited, HostLost


class HostContacts:
    """State of all hosts of a run, updated by every event."""

    def __init__(self) -> None:
        self.ends: dict[str, HostEnd] = {}
        self.heard: dict[str, float] = {}  # host -> time of its last bytes
        self.gaps: dict[str, float] = {}  # host -> seconds for which its connection was broken
        self.rebooted: dict[str, str] = {}  # host that reconnected with another boot id -> what happened
        self._stopped: dict[str, float] = {}
        self._broke: dict[str, Disconnected] = {}
        self._silences: list[Disconnection] = []
        self._boots: dict[str, str] = {}

    def add_event(self, event: Event) -> None:
        """Update the state with one event."""
        match event:
            case Chunk():
                self.heard[event.host] = event.at
            case ActionSent(action=Stop() as stop):
                self._stopped.setdefault(stop.host, event.at)
            case Disconnected():
                self._broke.setdefault(event.host, event)
            case Connected():
                self._add_connection(event)
            case Exited() if event.host not in self.ends:
                self.ends[event.host] = self._build_end(event)
            case HostLost() if event.host not in self.ends:
                since = (
                    self._broke[event.host].at if event.host in self._broke else self.heard.get(event.host, event.at)
                )
                self.ends[event.host] = HostEnd(
                    host=event.host, kind="lost", at=event.at, since=since, why=event.why, loss=event.reason
                )
            case _:
                pass

    @property
    def disconnections(self) -> tuple[Disconnection, ...]:
        """Return all times without contact to a host, including those that continue."""
        return (*self._silences, *(_build_disconnection(broke, None) for broke in self._broke.values()))

    def find_boot_id(self, host: str) -> str:
        """Return the boot id of the host at its first connection."""
        return self._boots.get(host, "")

    def add_time_error(self, host: str, seconds: float) -> None:
        """Record that the times of this host may be wrong by so many seconds."""
        self.gaps[host] = max(seconds, self.gaps.get(host, 0.0))

    def _add_connection(self, event: Connected) -> None:
        boot = str(event.hello.get("boot_id", ""))
        if boot and self._boots.setdefault(event.host, boot) != boot:
            self.rebooted.setdefault(event.host, describe_new_boot(self._boots[event.host], boot))
        if event.host in self._broke:
            broke = self._broke.pop(event.host)
            self._silences.append(_build_disconnection(broke, event.at))
            self.add_time_error(event.host, event.at - broke.at)

    def _build_end(self, event: Exited) -> HostEnd:
        """Convert the exit event. An exit with unknown status does not count as the effect of the launcher's stop."""
        unknown = event.code is None and event.signal is None
        stopped = self._stopped.get(event.host, event.at + 1) <= event.at and not unknown
        since = self._find_last_contact(event.host, event.at) if unknown else 0.0
        return HostEnd(
            host=event.host,
            kind="stopped" if stopped else "ended",
            at=event.at,
            since=since,
            code=event.code,
            signal=event.signal,
            oom=event.oom,
            reason=event.reason,
            why=event.why,
            silent_for=event.silent_for,
        )

    def _find_last_contact(self, host: str, at: float) -> float:
        """Return the time of the last contact before an exit that the launcher did not observe."""
        broke = [each.begin for each in self.disconnections if each.host == host]
        return max(broke, default=self.heard.get(host, at))


def _build_disconnection(broke: Disconnected, end: float | None) -> Disconnection:
    return Disconnection(host=broke.host, begin=broke.at, end=end, why=broke.why, silent_for=broke.silent_for)
