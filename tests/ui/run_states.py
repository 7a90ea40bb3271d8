"""One history for every condition of a run, for the tests of the condition and of the screens."""

from __future__ import annotations

from collections.abc import Callable

from fanout.model.actions import Go, Inspect, Kill, Prepare
from fanout.model.events import (
    ActionSent,
    Answered,
    CleanedUp,
    Connecting,
    Disconnected,
    Exited,
    Heartbeat,
    Interrupted,
    Prepared,
    RendezvousJoined,
    Started,
    StreamOpened,
)
from fanout.model.hang_detection import FIRST_NUMBER, STACKS
from tests.histories import History

HOSTS = ("gpu01", "gpu02", "gpu03", "gpu04")
LEASE, CONNECT_TIMEOUT = 300.0, 10.0


def build_connecting() -> History:
    """Build a run: two of four hosts have connected."""
    run = History(*HOSTS).connect_hosts("gpu01", "gpu02")
    run.add_events(*(Connecting(at=run.at, host=host, attempt=1) for host in HOSTS[2:]))
    return run.pass_time(3.0)


def build_starting() -> History:
    """Build a run: all hosts are prepared, and one has started."""
    run = History(*HOSTS).connect_hosts()
    for host in HOSTS:
        run.add_events(ActionSent(at=run.at, action=Prepare(host=host)), Prepared(at=run.at, host=host, pid=7))
    run.add_events(*(ActionSent(at=run.at, action=Go(host=host)) for host in HOSTS))
    return run.add_events(Started(at=run.at, host="gpu01", pid=9)).pass_time(0.5)


def build_no_output() -> History:
    """Build a run: all hosts have started, and none has written a line."""
    return History(*HOSTS).connect_hosts().start_hosts().pass_time(8.2)


def build_rendezvous() -> History:
    """Build a run: three of four hosts are connected to MASTER_PORT."""
    run = History(*HOSTS).connect_hosts().start_hosts().pass_time(2.0)
    run.add_output("gpu01", b"Setting OMP_NUM_THREADS environment variable for each process to be 1\n")
    run.add_events(*(RendezvousJoined(at=run.at, host=host, how="waiting") for host in HOSTS))
    run.add_events(*(RendezvousJoined(at=run.at, host=host, how="joined") for host in HOSTS[:3]))
    return run.pass_time(12.0)


def build_running() -> History:
    """Build a run: all hosts train: eight ranks, a step every second."""
    run = History(*HOSTS).connect_hosts().start_hosts()
    for node, host in enumerate(HOSTS):
        for local in range(2):
            stream = StreamOpened(at=run.at, host=host, stream=local + 1, name=f"rank {2 * node + local}")
            run.add_events(stream)
        load = {"gpus": [{"util": 97, "used": 61 << 30, "total": 80 << 30, "temp": 64, "watts": 410}] * 2}
        run.add_events(Heartbeat(at=run.at, host=host, load=load))
    for step in range(1, 41):
        for rank in range(8):
            text = f"step {step}/400 loss {4.5 - step / 16 + rank / 250:.4f} tok/s {9027 + 115 * rank}\n"
            run.add_output(HOSTS[rank // 2], text.encode(), stream=rank % 2 + 1)
        run.pass_time(1.0)
    return run


def build_silent() -> History:
    """Build a run: no host writes a line for 14 seconds."""
    return build_running().pass_time(13.0)


def build_hung() -> History:
    """Build a run: all hosts have answered that no rank moved."""
    run = build_running().pass_time(60.0)
    for host in HOSTS:
        question = Inspect(host=host, ask=FIRST_NUMBER, what=STACKS)
        ranks = [{"rank": 0, "pid": 1, "moved": False, "stack": []}]
        run.add_events(ActionSent(at=run.at, action=question))
        run.add_events(Answered(at=run.at, host=host, ask=FIRST_NUMBER, value={"ranks": ranks}, error=""))
    return run.pass_time(1.0)


def build_disconnected() -> History:
    """Build a run: the connection of gpu03 is lost for 21 seconds; the others train."""
    run = build_running()
    run.add_events(Disconnected(at=run.at, host="gpu03", why="no heartbeat for 15 s"))
    for step in range(41, 62):
        for rank in (0, 1, 2, 3, 6, 7):
            text = f"step {step}/400 loss {4.5 - step / 16:.4f} tok/s 9027\n"
            run.add_output(HOSTS[rank // 2], text.encode(), stream=rank % 2 + 1)
        run.pass_time(1.0)
    return run


def build_ending() -> History:
    """Build a run: one host has ended by itself."""
    return build_running().end_hosts("gpu02").pass_time(1.0)


def build_failing() -> History:
    """Build a run: one host has failed; the stop is not sent yet."""
    return build_running().end_hosts("gpu02", code=1).pass_time(0.5)


def build_stopping() -> History:
    """Build a run: the user pressed Ctrl-C nine seconds ago; one host has ended."""
    run = build_running()
    run.add_events(Interrupted(at=run.at, signal=2)).stop_hosts("interrupted", *HOSTS, reason="interrupted")
    return run.pass_time(2.0).end_hosts("gpu01", code=None, signal=15).pass_time(7.0)


def build_stopping_after_failure() -> History:
    """Build a run: one host has failed, and the launcher stopped the others two seconds ago."""
    run = build_failing()
    run.stop_hosts("gpu02 failed", "gpu01", "gpu03", "gpu04", reason="host-failed")
    return run.pass_time(2.0)


def build_killing() -> History:
    """Build a run: the user pressed Ctrl-C twice."""
    run = build_stopping()
    run.add_events(Interrupted(at=run.at, signal=2))
    return run.add_events(*(ActionSent(at=run.at, action=Kill(host=host)) for host in HOSTS[1:])).pass_time(0.5)


def build_verifying() -> History:
    """Build a run: train.sh has ended on all hosts; one is verified."""
    run = build_running()
    run.add_events(*(Exited(at=run.at, host=host, code=0, signal=None) for host in HOSTS))
    return run.add_events(CleanedUp(at=run.at, host="gpu01", killed=0)).pass_time(0.5)


def build_verifying_stop() -> History:
    """Build a run: train.sh has ended on all hosts after Ctrl-C; one is verified."""
    run = build_stopping().end_hosts("gpu02", "gpu03", "gpu04", code=None, signal=15)
    return run.add_events(CleanedUp(at=run.at, host="gpu01", killed=0)).pass_time(0.5)


def build_ended() -> History:
    """Build a run: all hosts are released."""
    return build_verifying().release_hosts(*HOSTS[1:]).release_hosts("gpu01").pass_time(0.5)


STATES: dict[str, Callable[[], History]] = {
    "connecting": build_connecting,
    "starting": build_starting,
    "no-output": build_no_output,
    "rendezvous": build_rendezvous,
    "running": build_running,
    "slow": build_running,
    "silent": build_silent,
    "hung": build_hung,
    "disconnected": build_disconnected,
    "ending": build_ending,
    "failing": build_failing,
    "stopping": build_stopping,
    "stopping-after-failure": build_stopping_after_failure,
    "killing": build_killing,
    "verifying": build_verifying,
    "verifying-stop": build_verifying_stop,
    "ended": build_ended,
}
TITLES = {
    "connecting": "CONNECTING 2/4",
    "starting": "STARTING 1/4",
    "no-output": "NO OUTPUT 8 s",
    "rendezvous": "AT RENDEZVOUS 3/4",
    "running": "RUNNING",
    "slow": "SLOW rank 5: 2.0x",
    "silent": "SILENT 14 s",
    "hung": "HUNG 62 s",
    "disconnected": "DISCONNECTED  gpu03, lease 278 s left",
    "ending": "ENDING 1/4",
    "failing": "FAILING gpu02",
    "stopping": "STOPPING  TERM sent, KILL in 31 s",
    "stopping-after-failure": "STOPPING  TERM sent, KILL in 38 s",
    "killing": "STOPPING KILL sent",
    "verifying": "VERIFYING 1/4",
    "verifying-stop": "VERIFYING 1/4",
    "ended": "ENDED",
}
WITH_TIME = ("running", "slow")
SLOW = {"gpu03": "rank 5: 2.0x"}
HUNG = {"gpu03": "rank 5 is in load_batch (data.py:5) while the others wait in all_reduce"}


def build_view_facts(name: str) -> dict[str, Callable[..., object]]:
    """Return the functions of the live view that state what other modules have found."""
    hung = HUNG if name == "hung" else None
    slow = SLOW if name == "slow" else {}
    return {"slow": lambda: slow, "hung": lambda state: hung}
