"""Runs as data: lists of events as a launcher would see them, and the way to play them to a view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fanout.model.actions import Go, Prepare, Release, Stop, StopReason
from fanout.model.events import (
    ActionSent,
    Chunk,
    CleanedUp,
    Connected,
    ConnectFailed,
    Connecting,
    Disconnected,
    Event,
    Exited,
    Interrupted,
    Leftover,
    Prepared,
    Released,
    Restarting,
    RestartPhase,
    Started,
    Tick,
)
from fanout.model.state import RunState, apply_event

T0 = 1_795_352_569.0
TRACEBACK = b"""Traceback (most recent call last):
  File "tasks/train.py", line 212, in <module>
    main(cfg)
  File "tasks/train.py", line 98, in step
    out = model(**batch)
RuntimeError: shape mismatch: 4096 and 8192
"""


class History:
    """Builds events on a clock of its own; every method appends and returns self."""

    def __init__(self, *hosts: str, at: float = T0) -> None:
        self.hosts = hosts
        self.began_at = at
        self.at = at
        self.events: list[Event] = []
        self._offsets: dict[tuple[str, int], int] = {}

    def pass_time(self, seconds: float) -> History:
        """Time passes, with a Tick at its end."""
        self.at += seconds
        return self.add_events(Tick(at=self.at))

    def add_events(self, *events: Event) -> History:
        self.events += events
        return self

    def connect_hosts(self, *hosts: str) -> History:
        for host in hosts or self.hosts:
            self.add_events(Connecting(at=self.at, host=host, attempt=1))
        self.at += 0.4
        for host in hosts or self.hosts:
            self.add_events(
                Connected(at=self.at, host=host, attempt=1, took=0.4, hello={"python": "3.11.9", "hostname": host})
            )
        return self

    def start_hosts(self, *hosts: str) -> History:
        for host in hosts or self.hosts:
            self.add_events(ActionSent(at=self.at, action=Prepare(host=host)))
            self.add_events(Prepared(at=self.at + 0.1, host=host, pid=4000))
        self.at += 0.2
        for host in hosts or self.hosts:
            self.add_events(ActionSent(at=self.at, action=Go(host=host)))
            self.add_events(Started(at=self.at + 0.05, host=host, pid=4001))
        self.at += 0.05
        return self

    def add_output(self, host: str, data: bytes, *, stream: int = 0) -> History:
        offset = self._offsets.get((host, stream), 0)
        self._offsets[host, stream] = offset + len(data)
        return self.add_events(Chunk(at=self.at, host=host, stream=stream, offset=offset, data=data))

    def stop_hosts(self, why: str, *hosts: str, reason: StopReason = "host-failed") -> History:
        stops = (Stop(host=host, grace=40.0, reason=reason, why=why) for host in hosts)
        return self.add_events(*(ActionSent(at=self.at, action=stop) for stop in stops))

    def end_hosts(self, *hosts: str, code: int | None = 0, signal: int | None = None) -> History:
        return self.add_events(*(Exited(at=self.at, host=host, code=code, signal=signal) for host in hosts))

    def release_hosts(self, *hosts: str, left: tuple[Leftover, ...] = ()) -> History:
        for host in hosts:
            self.add_events(
                CleanedUp(at=self.at, host=host, killed=0, left=left), ActionSent(at=self.at, action=Release(host=host))
            )
            self.add_events(Released(at=self.at, host=host))
        return self

    def play_events(self, *views: Callable[[Event, RunState], None]) -> RunState:
        """Fold the events, showing each to the views; the last state."""
        return play_events(self.hosts, self.events, *views, began_at=self.began_at)


def play_events(
    hosts: Sequence[str],
    events: Iterable[Event],
    *views: Callable[[Event, RunState], None],
    began_at: float = T0,
) -> RunState:
    state = RunState.initial(hosts, at=began_at)
    for event in events:
        state = apply_event(state, event)
        for view in views:
            view(event, state)
    return state


def good_run(hosts: Sequence[str] = ("gpu01", "gpu02"), steps: int = 6) -> History:
    """Return a run in which all hosts connect, train and end with 0."""
    run = History(*hosts).connect_hosts().pass_time(0.1).start_hosts()
    for step in range(1, steps + 1):
        for node, host in enumerate(hosts):
            line = f"step {step * 100}/{steps * 100} loss {4 - step * 0.4:.4f} lr 3.00e-04 tok/s 38{node}00\n"
            run.add_output(host, line.encode())
        run.pass_time(1.0)
    return run.end_hosts(*hosts).pass_time(0.5).release_hosts(*hosts).pass_time(0.5)


def second_host_fails() -> History:
    """gpu02 ends with 3 after a traceback; the launcher stops the others, and they end by SIGTERM."""
    hosts = ("gpu01", "gpu02", "gpu03")
    run = History(*hosts).connect_hosts().start_hosts()
    for host in hosts:
        run.add_output(host, b"process group ready\n")
    run.pass_time(2.0).add_output("gpu02", b"step 1/10 loss 3.1\n" + TRACEBACK)
    run.pass_time(0.2).end_hosts("gpu02", code=3).stop_hosts("gpu02: exit 3", "gpu01", "gpu03").release_hosts("gpu02")
    return (
        run.pass_time(1.0)
        .end_hosts("gpu01", "gpu03", code=None, signal=15)
        .pass_time(0.5)
        .release_hosts("gpu01", "gpu03")
        .pass_time(0.5)
    )


def build_unreachable_run() -> History:
    """gpu02 does not answer; gpu01 had connected and is let go."""
    run = (
        History("gpu01", "gpu02")
        .connect_hosts("gpu01")
        .add_events(Connecting(at=T0, host="gpu02", attempt=1))
        .pass_time(5.0)
    )
    hint = "ssh gpu02 true"
    run.add_events(
        ConnectFailed(at=run.at, host="gpu02", kind="Unreachable", message="no route to 10.0.0.2:22", hint=hint)
    )
    run.add_events(ActionSent(at=run.at, action=Prepare(host="gpu01")), Prepared(at=run.at, host="gpu01", pid=4000))
    return run.stop_hosts("gpu02: unreachable", "gpu01").release_hosts("gpu01").pass_time(0.5)


def link_lost_and_back() -> History:
    """gpu02's link is gone for twelve seconds; its run goes on and not a byte is lost."""
    run = (
        History("gpu01", "gpu02")
        .connect_hosts()
        .start_hosts()
        .add_output("gpu02", b"step 1/9 loss 3.0\n")
        .pass_time(1.0)
    )
    run.add_events(Disconnected(at=run.at, host="gpu02", why="no heartbeat for 15 s")).pass_time(6.0)
    run.add_events(Connecting(at=run.at, host="gpu02", attempt=2)).pass_time(6.0)
    run.add_events(Connected(at=run.at, host="gpu02", attempt=2, took=0.4, hello={}))
    run.add_output("gpu02", b"step 2/9 loss 2.9\n").pass_time(1.0)
    return run.end_hosts("gpu01", "gpu02").pass_time(0.5).release_hosts("gpu01", "gpu02").pass_time(0.5)


def run_between_attempts(*phases: RestartPhase) -> History:
    """gpu02 failed and all hosts have ended; each phase before the restart begins 7 seconds after the one before."""
    run = History("gpu01", "gpu02").connect_hosts().start_hosts().add_output("gpu01", b"step 1/9 loss 3.0\n")
    run.pass_time(2.0).end_hosts("gpu02", code=None, signal=9).stop_hosts("gpu02 failed", "gpu01")
    run.pass_time(1.0).end_hosts("gpu01", code=None, signal=15)
    run.add_events(*(CleanedUp(at=run.at, host=host, killed=0) for host in run.hosts)).pass_time(0.5)
    for phase in phases:
        run.add_events(
            Restarting(
                at=run.at,
                attempt=1,
                phase=phase,
                until=run.at + {"fence": 95.0, "backoff": 10.0, "start": 0.0}[phase],
                cause="attempt 0 failed: rank 1 on gpu02 was killed by SIGKILL",
                action="restart 1 of 3: gpu09 replaces gpu02 as node rank 1",
                failure_class="crash",
            )
        ).pass_time(7.0)
    return run


def build_interrupted_run() -> History:
    """Ctrl-C while all run: the launcher stops both hosts."""
    run = (
        History("gpu01", "gpu02")
        .connect_hosts()
        .start_hosts()
        .add_output("gpu01", b"step 1/9 loss 3.0\n")
        .pass_time(1.0)
    )
    run.add_events(Interrupted(at=run.at, signal=2)).stop_hosts("SIGINT", "gpu01", "gpu02").pass_time(1.0)
    return run.end_hosts("gpu01", "gpu02", code=None, signal=15).release_hosts("gpu01", "gpu02").pass_time(0.5)


TYPICAL: dict[str, Callable[[], History]] = {
    "good": good_run,
    "failed": second_host_fails,
    "unreachable": build_unreachable_run,
    "link": link_lost_and_back,
    "interrupted": build_interrupted_run,
}
