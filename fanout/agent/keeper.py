"""Keeper: owns train.sh, its process tree and its log on one host, and outlives every connection.

It is a subreaper in its own session, holds the run's claims, and serves relays over a unix socket in the run's private
directory. Relays connect and disconnect. A run ends when train.sh exits, on a stop, or when the lease expires. The
output goes to a file first, so neither a slow terminal nor a dead link blocks a print() in training. One thread and one
poll loop: PDEATHSIG is bound to a thread, and the keeper waits only for descriptors.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket

from . import frames, keeper_frames, lease, log_spool, processes, rendezvous, run_files, spawn, state_dir, tree_stop
from .background import BackgroundWatch
from .lease import Lease
from .linger import LingerState
from .oom_kills import OomWatch
from .output_pipe import OutputPipe
from .outside_calls import OutsideWatch
from .relay_clients import RelayClients
from .run_start import prepare_environment
from .save_signal import SaveSignal
from .signal_inbox import SignalInbox
from .tree_stop import StopSequence

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Iterator

    from .rank_logs import RankLogs
    from .run_claims import RunClaims

SCAN_SECONDS = 0.1  # how often the tree is scanned while it is being ended
MAX_WAIT_SECONDS = 2.0  # the longest wait: resume from suspend wakes no poll, and the lease may have expired


class Keeper:
    """One run on one host, from Prepared to CleanedUp."""

    def __init__(self, spec: dict, directory: str, listener: socket.socket, claims: RunClaims) -> None:
        self.spec = spec
        self.directory = directory
        self.claims = claims
        self.poll = select.poll()
        self.relays = RelayClients(listener, self.poll)
        self.status = run_files.StatusFile(directory)
        self.spool = log_spool.LogSpool(directory, spec["settings"]["spool_limit"])
        self.ranks: RankLogs | None = None
        self.notice = ""  # why there is no file per rank
        self.sent_status_key = self.spool.status_key
        self.rendezvous = rendezvous.RendezvousWatch(spec.get("port", 0))
        self.main = 0
        self.starting = -1  # a pipe that closes when train.sh has started, or contains why it could not
        self.exited = False
        self.own_end: dict = {}  # "reason" and "why" if the keeper ended the run without a launcher's request
        self.signals = SignalInbox()
        self.ending = StopSequence(spec["process_mark"])
        self.saving = SaveSignal()
        self.lease = Lease(spec["settings"]["lease"])
        self.polled_at = 0.0  # seconds since boot: every frame that arrived before was read
        self.pipe = OutputPipe(self.poll, self.spool, self.lease)
        self.oom = OomWatch()
        self.background = BackgroundWatch(spec["argv"])
        self.outside = OutsideWatch()
        self.done = False
        self.linger: LingerState | None = None  # what keeps the keeper alive after the end
        self.is_fetched = False  # the launcher has fetched everything: the keeper deletes the directory when it exits

    def set_directory(self, directory: str) -> None:
        """Note the final name of the run's directory."""
        self.directory = self.spool.log.directory = directory

    def serve(self) -> None:
        """Serve the run until nothing of it is left."""
        self.signals.install_handlers()
        self.status.update(phase="prepared", keeper=os.getpid())
        self.poll.register(self.signals.descriptor, select.POLLIN)
        while not self.done:
            self.polled_at = lease.read_boottime()
            for descriptor, events in self.poll.poll(self._compute_wait_ms()):
                self._handle_event(descriptor, events)
            self._reap_children()
            name = self.signals.take_signal()
            if name:
                own_end = {"reason": "keeper-signalled", "why": "the keeper received %s" % name}
                self._stop_without_request(own_end, self.spec["settings"]["grace"])
            if self.main and not self.exited:
                self.oom.scan(os.getpid())
                self.outside.scan(os.getpid())
            self._check_deadlines()
            if self.main and not self.exited and not self.ending.requested:  # after a stop, no end is a rank's own
                self.relays.send_to_all(*self.saving.step())
            self._maintain_spool()
            self._check_ranks()
            self._check_rendezvous()
            self._offer_sizes()

    def _handle_event(self, descriptor: int, events: int) -> None:
        if descriptor == self.signals.descriptor:
            self.signals.read_wakeups()
        elif descriptor == self.pipe.descriptor:
            self.pipe.drain()
        elif descriptor == self.starting:
            self._read_start_result()
        else:
            for message in self.relays.handle_event(descriptor, events, self._iter_state()):
                try:
                    frames.check_version(message)
                    if message.get("op") == "hand_over":
                        self._hand_over_claims(descriptor)
                    else:
                        self._handle_message(descriptor, message)
                except (KeyError, TypeError, ValueError):
                    self.relays.disconnect(descriptor)  # an unreadable message ends its connection, not the run

    def _compute_wait_ms(self) -> float:
        """Return the milliseconds until the next timed action."""
        if self.ending.kill_at or self.ranks is not None or self.background.is_settling or self.saving.is_active:
            return SCAN_SECONDS * 1000
        is_short = self.linger is not None or self.spool.has_pending or self.spool.only_here
        seconds = 1.0 if is_short else MAX_WAIT_SECONDS
        if self.linger is None and (self.lease.seconds or not self.main):
            seconds = min(seconds, max(0.05, self.lease.left))
        if self.main and not self.rendezvous.over:
            seconds = min(seconds, max(0.05, self.rendezvous.seconds_until_check))
        return seconds * 1000

    # -- relays

    def _iter_state(self) -> Iterator:
        """Yield the keeper's state and everything that a new relay has missed."""
        yield keeper_frames.build_keeper_status(self.lease, len(self.relays.clients) - 1)  # without the asking relay
        if self.spool.announced_at:
            yield {"t": "truncation_announced"}
        yield from keeper_frames.iter_notices(self.spool, self.notice, self.claims.notice)
        yield {"t": "prepared", "pid": os.getpid()}
        if self.main and "main" in self.status.facts:
            yield {"t": "started", "pid": self.main}
        if self.rendezvous.how:
            yield {"t": "rendezvous_joined", "how": self.rendezvous.how}
        if self.ranks is not None:
            yield from self.ranks.build_all_frames()
        yield from self.saving.messages
        yield from keeper_frames.iter_requester(self.status.facts)
        yield from keeper_frames.iter_end(self.status.facts)

    def _handle_message(self, descriptor: int, message: dict) -> None:
        self.lease.renew(min(lease.read_boottime(), float(message.get("at", lease.read_boottime()))))
        operation = message.get("op")
        if operation == "heartbeat" and "have" in message:
            self.spool.acknowledge(message["have"])
        elif operation == "go":
            self.start_run(message["env"])
        elif operation == "save":
            if self.main and not self.exited:
                self.relays.send_to_all(*self.saving.handle_request(str(message["signal"]), bool(message["sends"])))
        elif operation == "stop":
            if message.get("by") and "stopped_by" not in self.status.facts:  # before any rank ends
                self.status.update(stopped_by=str(message["by"]))
                self.relays.send_to_all(*keeper_frames.iter_requester(self.status.facts), without=descriptor)
            self.stop(float(message["grace"]), str(message.get("why", "stopped")))
        elif operation == "kill":
            self.stop(0.0, "killed")
        elif operation == "release":
            self.is_fetched = True

    def _hand_over_claims(self, descriptor: int) -> None:
        """Pass the claims to the keeper of the run's next attempt, if nothing of this attempt is left."""
        if self.linger is not None and not self.linger.stuck:
            self.claims.send_to(self.relays.clients[descriptor][0])
            self.relays.close_claim_sockets()
        self.relays.disconnect(descriptor)

    def release_claims(self) -> None:
        """Release the claims, and stop serving their sockets."""
        self.relays.close_claim_sockets()
        self.claims.release()

    def _collect_sizes(self) -> dict:
        return {0: self.spool.size, **(self.ranks.sizes if self.ranks is not None else {})}

    def _check_ranks(self, final: bool = False) -> None:
        self.relays.send_to_all(*(self.ranks.scan(os.getpid(), final) if self.ranks is not None else ()))

    def _check_rendezvous(self) -> None:
        new = self.rendezvous.check(os.getpid(), self.directory) if self.main and not self.exited else ""
        if new:
            self.relays.send_to_all({"t": "rendezvous_joined", "how": new})

    # -- train.sh

    def start_run(self, env: dict) -> None:
        """Start train.sh once. A second Go (a retry after a lost answer) changes nothing.

        A Go that waited here for longer than the lease starts nothing: its launcher may have abandoned this host.
        """
        if self.main or self.exited or self.done:
            return
        cwd = self.spec["cwd"]
        environment, self.ranks, self.notice = prepare_environment(self.spec, self.directory, env)
        self.outside.read_script(self.spec["argv"], cwd)
        if self.lease.left < 0:
            return
        write = self.pipe.open()
        if self.ranks is not None and not self.notice:
            environment["FANOUT_PIPE"] = str(os.fstat(write).st_ino)  # for ``stack_hook``
        try:
            hidden = spawn.sets_path(env)
            self.main, self.starting = spawn.start_process(self.spec["argv"], environment, cwd, write, hide_path=hidden)
            self.poll.register(self.starting, select.POLLIN)
        except OSError as error:  # fork failed
            why = "%s: %s" % (self.spec["argv"][0], error.strerror)
            self._handle_exit({"code": 126, "signal": None, "reason": "not-started", "why": why})
        finally:
            os.close(write)

    def _read_start_result(self) -> None:
        """Read the result of the start. An empty pipe means that execve succeeded."""
        trouble = os.read(self.starting, 65536)
        self.poll.unregister(self.starting)
        os.close(self.starting)
        self.starting = -1
        if trouble:
            self._handle_exit(json.loads(trouble.decode()))
            return
        self.status.update(phase="running", main=self.main)
        started = {"t": "started", "pid": self.main}
        self.relays.send_to_all(*keeper_frames.iter_notices(self.spool, self.notice), started)
        if self.ending.requested:  # the stop came before there was a group to end
            tree_stop.terminate_group(self.main, self.exited)

    def _maintain_spool(self) -> None:
        if self.spool.free_acknowledged(self._collect_sizes(), self.ranks.paths if self.ranks is not None else {}):
            self.status.update(truncated=True)
            self.relays.send_to_all({"t": "truncation_announced"})
        if self.spool.has_pending:
            self.pipe.store_pending()
        elif self.spool.only_here:
            self.spool.move_to_disk()

    def _offer_sizes(self) -> None:
        """Send the sizes to all relays. If the place of the bytes has changed, send that first."""
        if self.spool.status_key != self.sent_status_key:
            self.sent_status_key = self.spool.status_key
            self.status.update(truncated=True)  # after a gap the file must not be read as zeros
            self.relays.send_to_all(*keeper_frames.iter_notices(self.spool, self.notice))
        self.relays.offer_sizes(self._collect_sizes())

    def _reap_children(self) -> None:
        if self.main and not self.exited and processes.has_ended(self.main):
            if self.starting >= 0:
                self._read_start_result()
            self.oom.note_end(self.main)
        for pid, status in filter(None, processes.reap_children()):
            if pid == self.main and not self.has_returned:
                self.background.begin(status, "" if self.ending.requested else self.spec["settings"]["background"])
            else:
                self.background.note_end(pid, status)
        if self.has_returned and not self.exited:
            self._check_background()

    @property
    def has_returned(self) -> bool:
        return self.exited or self.background.is_waiting

    def _check_background(self) -> None:
        was_settling, how = self.background.is_settling, self.background.step(os.getpid())
        if how:
            self.ending.allow_leftovers(self.background.mode, self.spec["settings"]["grace"])
            self._handle_exit(dict(how, **self.own_end))
        elif was_settling and not self.background.is_settling:
            self._note_background("waited", self.background.describe())

    def _note_background(self, how: str, text: str) -> None:
        self.status.update(background=dict(self.status.facts.get("background", {}), **{how: text}))
        self.relays.send_to_all(keeper_frames.build_background(how, text, os.getpid()))

    def _handle_exit(self, how: dict) -> None:
        if not self.ending.requested:
            self.relays.send_to_all(*self.saving.finish())
        self.exited = True
        how["oom"] = self.oom.was_oom_killed(how["signal"] == signal.SIGKILL or how["code"] == 137)
        self.status.update(phase="exited", exited=how)
        self._check_ranks()
        self._offer_sizes()
        self.relays.send_to_all(dict(how, t="exited"))
        self.ending.allow_leftovers()

    def _stop_without_request(self, own_end: dict, grace: float) -> None:
        """Stop the run without a request. The exit event has the reason, even if train.sh exits 0 on SIGTERM."""
        self.own_end = self.own_end or own_end
        self.stop(grace, own_end["why"])

    def stop(self, grace: float, why: str) -> None:
        """End the tree within the grace, then by SIGKILL. A run that never started ends at once."""
        if not self.main and not self.exited and self.linger is None:
            self._finish_run([], 0)
        elif self.ending.request(grace):
            self.status.update(stopped=why)
            self.outside.scan(os.getpid(), now=True)
            if self.background.is_waiting or self.ending.kept:
                self.ending.terminate_background()
            elif self.starting < 0:
                tree_stop.terminate_group(self.main, self.exited)

    def _check_deadlines(self) -> None:
        if self.linger is not None:
            self.ending.step_kept()  # a signal to the keeper ends what was kept
            self._check_linger(self.linger)
            return
        expired = self.lease.until < self.polled_at  # frames that arrived later may not have been read
        if not self.main and not self.exited and expired:
            self._finish_run([], 0)  # prepared, and the launcher never came back
        elif self.main and expired and self.lease.seconds and not self.ending.kill_at:
            why = "no launcher for %g s: the lease expired" % self.lease.seconds
            own_end = {"reason": "lease-expired", "why": why, "silent_for": self.lease.seconds}
            # the suspend time counts as grace
            self._stop_without_request(own_end, max(0.0, self.spec["settings"]["grace"] + self.lease.left))
        elif self.ending.step(self.main, self.has_returned):
            if not self.exited:
                self._handle_exit(dict(keeper_frames.UNKILLABLE))
            self._finish_run(self.ending.left, self.ending.killed)

    def _finish_run(self, left: list, killed: int) -> None:
        """Finish after all processes have ended: store the last bytes, write the record, notify the relays."""
        self.pipe.finish(is_open=bool(self.ending.kept))
        self._check_ranks(final=True)
        if self.ending.leftovers:
            self._note_background("kept" if self.ending.kept else "ended", self.ending.leftovers)
        if self.outside.calls:
            self.status.update(outside_calls=self.outside.calls)
            self.relays.send_to_all(keeper_frames.build_outside_called(self.outside.calls))
        cleaned_up = keeper_frames.build_cleaned_up(left, killed, self._collect_sizes(), self.spool, self.ranks)
        self.status.update(phase="cleaned_up", cleaned_up=cleaned_up)
        self.linger = LingerState(left, self.spool, self.release_claims, holds=self.spec.get("hold", False))
        self._offer_sizes()
        self.relays.send_to_all(dict(cleaned_up, t="cleaned_up"))
        self._check_linger(self.linger)

    def _check_linger(self, left: LingerState) -> None:
        """End the keeper's loop if nothing is left to wait for."""
        self.done = left.is_over(self.is_fetched or self.lease.is_too_late_to_fetch)
        if self.done and left.stuck and self.is_fetched:
            root = os.path.dirname(self.directory)
            state_dir.remove_run(root, self.spec["run"], self.spec["node"])
            state_dir.remove_stale_files(root)
