"""The keeper: owns train.sh, its whole tree and its log on one host, and outlives every connection.

It is a subreaper in a session of its own, holds the run's claims, and serves relays over a unix socket inside the run's
private directory. Relays come and go; what ends a run is train.sh ending, a stop, or the lease running out. Its output
goes to a file first, so neither a slow terminal nor a dead link ever blocks a print() in training.

One thread and one poll loop: PDEATHSIG goes by thread, and there is nothing here to wait for but descriptors.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time

from . import frames, joining, place, procs, record, rest, spawn, spool
from .audience import Audience
from .lease import Lease

TYPE_CHECKING = False  # what typing says, without the price of importing it on a host
if TYPE_CHECKING:
    from typing import Callable, Iterator

    from .ranklogs import RankLogs
    from .rest import Rest

DRAIN = 1 << 20  # the most we read from the pipe before we look at anything else
LEFTOVER_SECONDS = 1.0  # what train.sh leaves behind when it ends by itself gets this long to go
UNKILLABLE_SECONDS = 20.0
SCAN_SECONDS = 0.1  # how often the tree is looked at while it is being ended


class Keeper:
    """One run on one host, from Prepared to Gone."""

    def __init__(self, spec: dict, directory: str, listener: socket.socket, release: Callable[[], None]) -> None:
        self.spec = spec
        self.directory = directory
        self.release = release  # lets go of the run's claims
        self.poll = select.poll()
        self.audience = Audience(listener, self.poll)
        self.status = record.Status(directory)
        self.spool = spool.Spool(directory, spec.get("spool", 0))
        self.ranks: RankLogs | None = None
        self.notice = ""  # why there is no file per rank
        self.news = self.spool.news
        self.joining = joining.Joining(spec["port"]) if spec.get("port") else None
        self.pipe = -1
        self.main = 0
        self.exited = False
        self.unasked = ""  # why we ended it by ourselves
        self.deadline_term = 0.0  # when descendants outside train.sh's group get a TERM of their own
        self.deadline_kill = 0.0  # when KILL comes; 0: nothing is being ended
        self.lease = Lease(spec["lease"])
        self.ooms = procs.oom_kills()
        self.done = False
        self.rest: Rest | None = None  # what keeps us here after the end
        self.farewell = False  # the launcher has all it wants: the directory goes when we do
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def named(self, directory: str) -> None:
        """The run's directory has been given its name."""
        self.directory = self.spool.log.directory = directory

    # -- the loop

    def serve(self) -> None:
        """Until nothing of the run is left."""
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(
                number, lambda number, frame: self._stop_unasked("the keeper got %s" % signal.Signals(number).name)
            )
        self.status.note(phase="prepared", keeper=os.getpid())
        self.poll.register(self.wake_read, select.POLLIN)
        while not self.done:
            for descriptor, events in self.poll.poll(self._wait_ms()):
                self._ready(descriptor, events)
            self._reap()
            self._deadlines()
            self._look_after_spool()
            self._look_at_ranks()
            self._look_at_port()
            self._offer()

    def _ready(self, descriptor: int, events: int) -> None:
        if descriptor == self.wake_read:
            os.read(self.wake_read, 4096)
        elif descriptor == self.pipe:
            self._drain()
        else:
            for message in self.audience.ready(descriptor, events, self._story()):
                self._obey(message)

    def _wait_ms(self) -> float:
        """How long nothing can happen by itself."""
        if self.deadline_kill or self.ranks is not None:
            return SCAN_SECONDS * 1000
        seconds = 1.0 if self.rest is not None else 60.0
        if self.rest is None and (self.lease.seconds or not self.main):
            seconds = max(0.05, self.lease.left)
        if self.main and self.joining is not None and not self.joining.over:
            seconds = min(seconds, max(0.05, self.joining.wait))
        if self.spool.waits or self.spool.only_here:
            seconds = min(seconds, 1.0)
        return seconds * 1000

    # -- relays

    def _story(self) -> Iterator:
        """How we stand, and what a relay that comes now has missed."""
        yield {
            "t": "standing",
            "relays": len(self.audience.clients) - 1,  # without the one that asks
            "heard": round(self.lease.silence, 1),
            "lease": round(self.lease.left, 1) if self.lease.seconds else None,
        }
        if self.spool.trimming:
            yield {"t": "trimming"}
        yield from self._cramped()
        yield {"t": "prepared", "pid": os.getpid()}
        if self.main:
            yield {"t": "started", "pid": self.main}
        if self.joining is not None and self.joining.how:
            yield {"t": "joined", "how": self.joining.how}
        if self.ranks is not None:
            yield from map(self.ranks.frame, self.ranks.paths)
        if self.exited:
            yield dict(self.status.facts["exited"], t="exited")
        if "gone" in self.status.facts:
            yield dict(self.status.facts["gone"], t="gone")

    def _obey(self, message: dict) -> None:
        self.lease.renew()
        operation = message.get("op")
        if operation == "beat" and "have" in message:
            self.spool.acknowledge(message["have"])
        elif operation == "go":
            self.go(message["env"])
        elif operation == "stop":
            self.stop(float(message["grace"]), str(message.get("why", "stopped")))
        elif operation == "kill":
            self.stop(0.0, "killed")
        elif operation == "bye":
            self.farewell = True

    def _sizes(self) -> dict:
        sizes = {0: self.spool.size}
        if self.ranks is not None:
            sizes.update(self.ranks.sizes)
        return sizes

    def _follow_ranks(self, environment: dict) -> None:
        """Have torchrun write a file per rank, unless the plan or the environment has other wishes."""
        if self.spec.get("ranks", -1) < 0:
            return
        from . import ranklogs  # not compiled on hosts that do not need it

        self.notice = ranklogs.cramped(self.directory)
        if not self.notice and ranklogs.steer(environment, self.directory):
            self.ranks = ranklogs.RankLogs(self.directory, self.spec["ranks"])

    def _look_at_ranks(self, final: bool = False) -> None:
        for stream in self.ranks.look(os.getpid(), final) if self.ranks is not None else ():
            self.audience.tell(stream)

    def _look_at_port(self) -> None:
        new = self.joining.look(os.getpid()) if self.joining is not None and self.main and not self.exited else ""
        if new:
            self.audience.tell({"t": "joined", "how": new})

    # -- train.sh

    def go(self, env: dict) -> None:
        """Start train.sh, once: a second Go (a retry whose answer was lost) changes nothing."""
        if self.main or self.exited or self.done:
            return
        cwd = self.spec["cwd"]
        self.pipe, write = spawn.pipe()
        try:
            environment = spawn.environment(dict(os.environ), env, cwd)
            self._follow_ranks(environment)
            if self.spec.get("stacks"):
                from . import shim  # likewise

                shim.put(environment, self.directory)
            self.main = spawn.start(self.spec["argv"], environment, cwd, write)
        except OSError as error:
            code = 127 if isinstance(error, FileNotFoundError) else 126
            self._exited({"code": code, "signal": None, "why": "%s: %s" % (error.filename, error.strerror)})
            self._finish([], 0)
            return
        finally:
            os.close(write)
        self.poll.register(self.pipe, select.POLLIN)
        self.status.note(phase="running", main=self.main)
        for message in (*self._cramped(), {"t": "started", "pid": self.main}):
            self.audience.tell(message)

    def _drain(self) -> None:
        """What the run wrote, into the log; bounded, so that a flood cannot keep us from hearing a stop."""
        taken = 0
        while self.pipe >= 0 and taken < DRAIN:
            try:
                data = os.read(self.pipe, 262144)
            except BlockingIOError:
                return
            if not data:
                self.poll.unregister(self.pipe)
                os.close(self.pipe)
                self.pipe = -1
                return
            taken += len(data)
            self.spool.put(data, self.lease.listened)
            if self.spool.waits:
                self.poll.unregister(self.pipe)  # until there is room: the run waits in its write
                return

    def _look_after_spool(self) -> None:
        if self.spool.trim(self._sizes(), self.ranks.paths if self.ranks is not None else {}):
            self.status.note(trimmed=True)
            self.audience.tell({"t": "trimming"})
        if self.spool.waits:
            self.spool.retry(self.lease.listened)
            if not self.spool.waits and self.pipe >= 0:
                self.poll.register(self.pipe, select.POLLIN)
        elif self.spool.only_here:
            self.spool.settle()

    def _offer(self) -> None:
        """The sizes, to everyone; before them where the bytes are to be had, if that has changed."""
        if self.spool.news != self.news:
            self.news = self.spool.news
            self.status.note(trimmed=True)  # a file that goes on after a hole is not to be read as zeros
            for message in self._cramped():
                self.audience.tell(message)
        self.audience.offer(self._sizes())

    def _cramped(self) -> Iterator:
        """What relays have to know of our disk."""
        if self.spool.memory.path:
            yield {"t": "memory", "path": self.spool.memory.path}
        for notice in filter(None, (self.notice, self.spool.notice)):
            yield {"t": "cramped", "message": notice}

    def _reap(self) -> None:
        for ended in procs.reap():
            if ended is not None and ended[0] == self.main and not self.exited:
                self._exited(dict(procs.signalled(ended[1]), why=""))

    def _exited(self, how: dict) -> None:
        self.exited = True
        how["why"] = how["why"] or self.unasked
        how["oom"] = procs.oom_kills() > self.ooms
        self.status.note(phase="exited", exited=how)
        self._look_at_ranks()
        self._offer()
        self.audience.tell(dict(how, t="exited"))
        if not self.deadline_kill:
            self.deadline_kill = time.monotonic() + LEFTOVER_SECONDS

    # -- ending

    def _stop_unasked(self, why: str) -> None:
        """A stop that no launcher asked for is told with the end, whatever exit status the script makes of its TERM."""
        self.unasked = self.unasked or why
        self.stop(self.spec["grace"], why)

    def stop(self, grace: float, why: str) -> None:
        """TERM to train.sh's group; torchrun passes it on to its workers, so they get none from us at first."""
        now = time.monotonic()
        if not self.main:
            self._finish([], 0)
            return
        first = not self.deadline_term
        self.deadline_kill = min(self.deadline_kill or now + grace, now + grace)
        if first:
            self.deadline_term = now + grace / 2
            self.status.note(stopped=why)
            for number in (signal.SIGTERM, signal.SIGCONT):
                try:
                    os.killpg(self.main, number)
                except (ProcessLookupError, PermissionError):
                    break  # the group has ended already

    def _deadlines(self) -> None:
        if self.rest is not None:
            self._look_at_rest(self.rest)
            return
        now = time.monotonic()
        if self.main and self.lease.left < 0 and self.lease.seconds and not self.deadline_kill:
            self._stop_unasked("no launcher for %g s: %s" % (self.lease.seconds, frames.LEASE_OVER))
        if not self.main and self.lease.left < 0:
            self._finish([], 0)  # prepared, and the launcher never came back
        if not self.deadline_kill or self.done:
            return
        alive = procs.descendants(os.getpid())
        if not alive and self.exited:
            self._finish([], 0)
        elif now >= self.deadline_kill:
            self._sweep()
        elif self.deadline_term and now >= self.deadline_term:
            self.deadline_term = self.deadline_kill
            for pid in alive:
                seen = procs.stat_of(pid)
                if seen and seen[2] != self.main:
                    procs.send(pid, signal.SIGTERM)
                    procs.send(pid, signal.SIGCONT)

    def _sweep(self) -> None:
        """KILL, whatever it takes, and look until nothing is left."""
        killed, left = procs.kill_all(self._ours, UNKILLABLE_SECONDS, self._reap)
        if not self.exited:
            self._exited({"code": None, "signal": None, "why": "it could not be ended"})
        self._finish(left, killed)

    def _ours(self) -> list:
        return sorted(set(procs.descendants(os.getpid())) | set(procs.marked(self.spec["mark"])))

    def _finish(self, left: list, killed: int) -> None:
        """Everything has ended: the last bytes, the record, the word to the relays; then the loop is over."""
        self.spool.finish()
        while self.pipe >= 0 and select.select([self.pipe], [], [], 0)[0]:
            self._drain()
            self.spool.finish()
        self._look_at_ranks(final=True)
        gone = {
            "killed": killed,
            "left": [procs.describe(pid) for pid in left],
            "sizes": {str(number): size for number, size in self._sizes().items()},
            "crc": {"0": self.spool.crc},
            "dropped": self.spool.dropped,
        }
        self.status.note(phase="gone", gone=gone)
        self.rest = rest.Rest(left, self.spool, self.release)
        self._offer()
        self.audience.tell(dict(gone, t="gone"))
        self._look_at_rest(self.rest)

    def _look_at_rest(self, left: Rest) -> None:
        """The end of the keeper, or a reason to wait with it."""
        self.done = left.over(self.farewell or self.lease.fetched_late)
        if self.done and left.stuck and self.farewell:
            root = os.path.dirname(self.directory)
            place.remove_run(root, self.spec["run"], self.spec["node"])
            place.tidy(root)
