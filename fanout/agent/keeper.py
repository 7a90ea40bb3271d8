"""Keeper: owns train.sh, its process tree and its log on one host, and outlives every connection.

It is a subreaper in its own session, holds the run's claims, and serves relays over a unix socket in the run's private
directory. Relays connect and disconnect. A run ends when train.sh exits, on a stop, or when the lease expires. The
output goes to a file first, so neither a slow terminal nor a dead link blocks a print() in training.

One thread and one poll loop: PDEATHSIG is bound to a thread, and the keeper waits only for descriptors.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket

from . import ending, frames, joining, lease, place, procs, record, rest, spawn, spool
from .audience import Audience
from .ending import Ending
from .lease import Lease
from .oom import OomWatch

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Callable, Iterator

    from .ranklogs import RankLogs
    from .rest import Rest

DRAIN = 1 << 20  # the most bytes read from the pipe before other descriptors are served
SCAN_SECONDS = 0.1  # how often the tree is scanned while it is being ended
LOOK_SECONDS = 2.0  # the longest wait: resume from suspend wakes no poll, and the lease may have expired


class Keeper:
    """One run on one host, from Prepared to Gone."""

    def __init__(self, spec: dict, directory: str, listener: socket.socket, release: Callable[[], None]) -> None:
        self.spec = spec
        self.directory = directory
        self.release = release  # releases the run's claims
        self.poll = select.poll()
        self.audience = Audience(listener, self.poll)
        self.status = record.Status(directory)
        self.spool = spool.Spool(directory, spec.get("spool", 0))
        self.ranks: RankLogs | None = None
        self.notice = ""  # why there is no file per rank
        self.news = self.spool.news
        self.joining = joining.Joining(spec.get("port", 0))
        self.pipe = -1
        self.main = 0
        self.starting = -1  # a pipe that closes when train.sh has started, or contains why it could not
        self.exited = False
        self.unasked = ""  # why the keeper ended the run without a launcher's request
        self.signalled = ""  # a signal that the keeper received and the loop has not handled yet
        self.ending = Ending(spec["mark"])
        self.lease = Lease(spec["lease"])
        self.oom = OomWatch()
        self.done = False
        self.rest: Rest | None = None  # what keeps the keeper alive after the end
        self.farewell = False  # the launcher has fetched everything: the keeper deletes the directory when it exits
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def named(self, directory: str) -> None:
        """Note the final name of the run's directory."""
        self.directory = self.spool.log.directory = directory

    # -- the loop

    def serve(self) -> None:
        """Serve the run until nothing of it is left."""
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, self._note_signal)
        self.status.note(phase="prepared", keeper=os.getpid())
        self.poll.register(self.wake_read, select.POLLIN)
        while not self.done:
            for descriptor, events in self.poll.poll(self._wait_ms()):
                self._ready(descriptor, events)
            self._reap()
            if self.signalled:
                name, self.signalled = self.signalled, ""
                self._stop_unasked("the keeper received %s" % name, self.spec["grace"])
            if self.main and not self.exited:
                self.oom.look(os.getpid())
            self._deadlines()
            self._look_after_spool()
            self._look_at_ranks()
            self._look_at_port()
            self._offer()

    def _note_signal(self, number: int, frame: object) -> None:
        """Leave the signal to the loop: a handler runs between any two statements, also between train.sh's fork and its
        pid."""
        self.signalled = signal.Signals(number).name

    def _ready(self, descriptor: int, events: int) -> None:
        if descriptor == self.wake_read:
            os.read(self.wake_read, 4096)
        elif descriptor == self.pipe:
            self._drain()
        elif descriptor == self.starting:
            self._began()
        else:
            for message in self.audience.ready(descriptor, events, self._story()):
                try:
                    self._obey(message)
                except (KeyError, TypeError, ValueError):
                    self.audience.drop(descriptor)  # an unreadable message ends its connection, not the run

    def _wait_ms(self) -> float:
        """Return the milliseconds until the next timed action."""
        if self.ending.kill_at or self.ranks is not None:
            return SCAN_SECONDS * 1000
        seconds = LOOK_SECONDS if self.rest is None else 1.0
        if self.rest is None and (self.lease.seconds or not self.main):
            seconds = min(seconds, max(0.05, self.lease.left))
        if self.main and not self.joining.over:
            seconds = min(seconds, max(0.05, self.joining.wait))
        if self.spool.waits or self.spool.only_here:
            seconds = min(seconds, 1.0)
        return seconds * 1000

    # -- relays

    def _story(self) -> Iterator:
        """Yield the keeper's state and everything that a new relay has missed."""
        yield {
            "t": "standing",
            "relays": len(self.audience.clients) - 1,  # without the asking relay
            "heard": round(self.lease.silence, 1),
            "lease": round(self.lease.left, 1) if self.lease.seconds else None,
        }
        if self.spool.trimming:
            yield {"t": "trimming"}
        yield from self._cramped()
        yield {"t": "prepared", "pid": os.getpid()}
        if self.main and "main" in self.status.facts:
            yield {"t": "started", "pid": self.main}
        if self.joining.how:
            yield {"t": "joined", "how": self.joining.how}
        if self.ranks is not None:
            yield from map(self.ranks.frame, self.ranks.paths)
        if self.exited:
            yield dict(self.status.facts["exited"], t="exited")
        if "gone" in self.status.facts:
            yield dict(self.status.facts["gone"], t="gone")

    def _obey(self, message: dict) -> None:
        self.lease.renew(min(lease.now(), float(message.get("at", lease.now()))))
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

    def _look_at_ranks(self, final: bool = False) -> None:
        for stream in self.ranks.look(os.getpid(), final) if self.ranks is not None else ():
            self.audience.tell(stream)

    def _look_at_port(self) -> None:
        new = self.joining.look(os.getpid(), self.directory) if self.main and not self.exited else ""
        if new:
            self.audience.tell({"t": "joined", "how": new})

    # -- train.sh

    def go(self, env: dict) -> None:
        """Start train.sh once. A second Go (a retry after a lost answer) changes nothing.

        A Go that waited here for longer than the lease starts nothing: its launcher may have abandoned this host.
        """
        if self.main or self.exited or self.done:
            return
        cwd = self.spec["cwd"]
        environment = spawn.environment(dict(os.environ), env, cwd)  # may wait for a file server
        if self.spec.get("ranks", -1) >= 0:
            from . import ranklogs  # hosts that do not need it do not compile it

            self.ranks, self.notice = ranklogs.follow(self.directory, self.spec["ranks"], environment)
        if self.spec.get("stacks"):
            from . import shim  # likewise

            shim.put(environment, self.directory)
        if self.lease.left < 0:
            return
        self.pipe, write = spawn.pipe()
        self.poll.register(self.pipe, select.POLLIN)
        try:
            hidden = spawn.sets_path(env)
            self.main, self.starting = spawn.start(self.spec["argv"], environment, cwd, write, hide_path=hidden)
            self.poll.register(self.starting, select.POLLIN)
        except OSError as error:  # fork failed
            self._exited({"code": 126, "signal": None, "why": "%s: %s" % (self.spec["argv"][0], error.strerror)})
        finally:
            os.close(write)

    def _began(self) -> None:
        """Read the result of the start. An empty pipe means that execve succeeded."""
        trouble = os.read(self.starting, 65536)
        self.poll.unregister(self.starting)
        os.close(self.starting)
        self.starting = -1
        if trouble:
            self._exited(json.loads(trouble.decode()))
            return
        self.status.note(phase="running", main=self.main)
        for message in (*self._cramped(), {"t": "started", "pid": self.main}):
            self.audience.tell(message)
        if self.ending.asked:  # the stop came before there was a group to end
            ending.terminate_group(self.main, self.exited)

    def _drain(self) -> None:
        """Move the run's output into the log. A limit ensures that a flood cannot delay a stop."""
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
                self.poll.unregister(self.pipe)  # until there is room: the run blocks in its write
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
        """Send the sizes to all relays. If the place of the bytes has changed, send that first."""
        if self.spool.news != self.news:
            self.news = self.spool.news
            self.status.note(trimmed=True)  # after a gap the file must not be read as zeros
            for message in self._cramped():
                self.audience.tell(message)
        self.audience.offer(self._sizes())

    def _cramped(self) -> Iterator:
        """Yield the frames with which relays learn of a full disk."""
        if self.spool.memory.path:
            yield {"t": "memory", "path": self.spool.memory.path}
        for notice in filter(None, (self.notice, self.spool.notice)):
            yield {"t": "cramped", "message": notice}

    def _reap(self) -> None:
        if self.main and not self.exited and procs.has_ended(self.main):
            if self.starting >= 0:
                self._began()
            self.oom.note_end(self.main)
        for ended in procs.reap():
            if ended is not None and ended[0] == self.main and not self.exited:
                self._exited(dict(procs.signalled(ended[1]), why=""))

    def _exited(self, how: dict) -> None:
        self.exited = True
        how["why"] = how["why"] or self.unasked
        how["oom"] = self.oom.killed(how["signal"] == signal.SIGKILL or how["code"] == 137)
        self.status.note(phase="exited", exited=how)
        self._look_at_ranks()
        self._offer()
        self.audience.tell(dict(how, t="exited"))
        self.ending.follow()

    # -- ending

    def _stop_unasked(self, why: str, grace: float) -> None:
        """Stop the run without a launcher's request. The reason goes out with the exit event, even if train.sh exits 0
        on SIGTERM."""
        self.unasked = self.unasked or why
        self.stop(grace, why)

    def stop(self, grace: float, why: str) -> None:
        """End the tree within the grace, then by SIGKILL. A run that never started ends at once."""
        if not self.main and not self.exited and self.rest is None:
            self._finish([], 0)
        elif self.ending.ask(grace):
            self.status.note(stopped=why)
            if self.starting < 0:
                ending.terminate_group(self.main, self.exited)

    def _deadlines(self) -> None:
        if self.rest is not None:
            self._look_at_rest(self.rest)
            return
        if not self.main and not self.exited and self.lease.left < 0:
            self._finish([], 0)  # prepared, and the launcher never came back
        elif self.main and self.lease.left < 0 and self.lease.seconds and not self.ending.kill_at:
            why = "no launcher for %g s: %s" % (self.lease.seconds, frames.LEASE_OVER)
            self._stop_unasked(why, max(0.0, self.spec["grace"] + self.lease.left))  # less the time in suspend
        elif self.ending.step(self.main, self.exited):
            if not self.exited:
                self._exited({"code": None, "signal": None, "why": "train.sh could not be killed"})
            self._finish(self.ending.left, self.ending.killed)

    def _finish(self, left: list, killed: int) -> None:
        """Finish after all processes have ended: store the last bytes, write the record, notify the relays."""
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
        """End the keeper's loop if nothing is left to wait for."""
        self.done = left.over(self.farewell or self.lease.fetched_late)
        if self.done and left.stuck and self.farewell:
            root = os.path.dirname(self.directory)
            place.remove_run(root, self.spec["run"], self.spec["node"])
            place.tidy(root)
