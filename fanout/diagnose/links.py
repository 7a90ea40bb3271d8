"""What is known of each host beside its log: its link, its silences, its reboots, and how its script ended."""

from __future__ import annotations

from fanout.diagnose.evidence import End, Silence
from fanout.events import Acted, Chunk, Event, Exited, Linked, LinkLost, Lost, Stop


class Links:
    """The register of all hosts of a run; it sees every event."""

    def __init__(self) -> None:
        self.ends: dict[str, End] = {}
        self.heard: dict[str, float] = {}  # host -> when its last bytes came
        self.gaps: dict[str, float] = {}  # host -> seconds for which its link was broken
        self.rebooted: dict[str, float] = {}  # host -> when it was linked again under another boot id
        self._stopped: dict[str, float] = {}
        self._broke: dict[str, tuple[float, str]] = {}
        self._silences: list[Silence] = []
        self._boots: dict[str, str] = {}

    def take(self, event: Event) -> None:
        """Note one event."""
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
        """Return every time for which a host was not heard of, also those that go on."""
        open_ = [Silence(host=host, begin=at, end=None, why=why) for host, (at, why) in self._broke.items()]
        return (*self._silences, *open_)

    def boot_id(self, host: str) -> str:
        """Return the boot id that the host had when it was first linked."""
        return self._boots.get(host, "")

    def doubt(self, host: str, seconds: float) -> None:
        """Note that the times of this host may be wrong by so much."""
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
        """An end of which the host itself does not know how it came about is no answer to our stop."""
        unknown = event.code is None and event.signal is None
        stopped = self._stopped.get(event.host, event.at + 1) <= event.at and not unknown
        since = self._begun(event.host, event.at) if unknown else 0.0
        return End(
            host=event.host, kind="stopped" if stopped else "ended", at=event.at, since=since, code=event.code,
            signal=event.signal, oom=event.oom, why=event.why,
        )  # fmt: skip

    def _begun(self, host: str, at: float) -> float:
        """Return since when the host was not heard of before an end that was not seen."""
        broke = [each.begin for each in self.silences if each.host == host]
        return max(broke, default=self.heard.get(host, at))
