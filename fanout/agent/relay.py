"""Relay: joins one connection (stdin and stdout) to the keeper of a run, and answers questions about the host.

It lives as long as its connection. It forwards control frames in both directions. It reads log bytes from the keeper's
files, from the offset that the launcher has, so nothing is buffered for a slow reader. The end of stdin is not a stop:
it looks the same as a dropped link. The lease handles both.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time

from . import (
    frames,
    hello,
    keeper_frames,
    lease,
    load_monitor,
    log_sender,
    prepare,
    probe_runner,
    processes,
    run_files,
    state_dir,
)
from .kill_sweep import KillSweep

HEARTBEAT_SECONDS = 6.0  # longer than the load monitor's pause: a load is a heartbeat, and no other is needed then
#: Six heartbeats of the launcher. Without this limit a dead link would hold the relay for the 15 minutes of sshd.
SILENCE_SECONDS = 30
UNKILLABLE_SECONDS = 20.0  # how long a tree without a keeper may take to die
SCAN_SECONDS = 0.1  # how often it is scanned meanwhile
KEEPER_SECONDS = 5.0  # how long a keeper may take to accept a frame: it was stopped, or hangs


class Relay:
    """One connection's state: the run that it follows, and the offsets sent so far."""

    def __init__(self) -> None:
        self.splitter = frames.FrameSplitter()
        self.keeper: socket.socket | None = None
        self.keeper_splitter = frames.FrameSplitter()
        self.has_keeper_version = False  # the keeper has sent its first message, which has its version
        self.directory = ""
        self.run = ("", 0)
        self.process_mark: list = []
        self.log = log_sender.LogSender("", {}, write_all)
        self.cleaned_up: dict | None = None
        self.is_cleaned_up_sent = False
        self.sweep: KillSweep | None = None  # set if there is no keeper: the relay kills what it left
        self.retry_at = 0.0  # when to retry a keeper whose queue is full; 0: not waiting
        self.last_frame_at = lease.read_boottime()
        self.probe_runner = probe_runner.ProbeRunner(self.send)
        self.load_monitor = load_monitor.LoadMonitor()
        self.next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        self.release_waits = False
        self.over = False

    # -- the loop

    def serve(self) -> None:
        """Serve until the launcher sends release, the connection ends, or no frame arrives for too long.

        The last is an alarm with its default action, so that it also ends a write that hangs in a dead link.
        """
        signal.alarm(SILENCE_SECONDS)
        self.send(hello.build_hello())
        while not self.over:
            waiting = [0, *self.probe_runner.get_descriptors(), *self.load_monitor.get_descriptors()]
            if self.keeper is not None:
                waiting.append(self.keeper.fileno())
            blocked = self.probe_runner.list_blocked_inputs()
            ready, writable = select.select(waiting, blocked, [], self._compute_wait())[:2]
            if 0 in ready:
                self._receive_from_launcher()
            if self.keeper is not None and self.keeper.fileno() in ready:
                self._receive_from_keeper()
            if self.retry_at and time.monotonic() >= self.retry_at:
                self._join_keeper()
            if self.sweep is not None and self.sweep.step():
                self._send_swept(self.sweep)
                if self.release_waits:
                    self._finish_run()
            self.probe_runner.receive(ready, writable)
            for load in self.load_monitor.receive(ready):
                self.send({"t": "heartbeat", "load": load})
            if self.cleaned_up is not None or time.monotonic() >= self.log.next_at:
                self.log.send_burst()
            self._send_cleaned_up()
            if time.monotonic() >= self.next_heartbeat:
                self.send({"t": "heartbeat"})

    def _compute_wait(self) -> float:
        """Return the seconds to wait. After the keeper's frame ``cleaned_up`` the log is sent without pauses."""
        due = [self.next_heartbeat, *self.probe_runner.get_deadlines()]
        if self.log.has_unsent:
            due.append(self.log.next_at if self.cleaned_up is None else 0.0)
        due += [self.retry_at] if self.retry_at else []
        due += [time.monotonic() + SCAN_SECONDS] if self.sweep is not None else []
        return float(max(0.0, min(due) - time.monotonic()))

    def send(self, message: dict) -> None:
        write_all(frames.pack_control(message))
        self.next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS  # every message proves that the host answers

    # -- frames from the launcher

    def _receive_from_launcher(self) -> None:
        data = os.read(0, 65536)
        silence, self.last_frame_at = lease.read_boottime() - self.last_frame_at, lease.read_boottime()
        if not data or silence > SILENCE_SECONDS:  # the alarm is paused in suspend: queued frames are as old as that
            self.over = True
            return
        signal.alarm(SILENCE_SECONDS)
        for message in self.splitter.feed(data):
            handle = self.probe_runner.add_input if isinstance(message, tuple) else self._handle_message
            handle(message)

    def _handle_message(self, message: dict) -> None:
        operation = message.get("op")
        if operation == "prepare":
            self._prepare_run(message)
        elif operation == "attach":
            self._attach_run(message)
        elif operation == "ask":
            self.probe_runner.start_probe(message)
        elif operation == "cancel":
            self.probe_runner.cancel(int(message["id"]))
        elif operation == "release":
            self._finish_run()
        elif operation == "disconnect":
            self.send({"t": "released"})
            self.over = True
        elif self.keeper is not None:  # go, stop, kill, heartbeat
            try:  # with its time of arrival: a keeper that was stopped reads it later and must know its age
                self._send_to_keeper(dict(message, at=self.last_frame_at))
            except socket.timeout:
                self.over = True  # half a frame may have been sent; the launcher reconnects and repeats its frames
            except OSError:
                pass  # the keeper has just ended; its last frames are still in the socket

    def _send_to_keeper(self, message: dict) -> None:
        assert self.keeper is not None
        self.keeper.sendall(frames.pack_control(dict(message, v=frames.PROTOCOL_VERSION)))

    def _prepare_run(self, spec: dict) -> None:
        try:
            directory = prepare.prepare_run(spec)
        except prepare.Refusal as refusal:
            self.send(refusal.to_frame())
            return
        self._follow_run(directory, spec)

    def _attach_run(self, message: dict) -> None:
        directory = state_dir.find_run(message["run"], message["node"])
        if not directory:
            self.send(prepare.Refusal("no-run", "no record of run %s on this host" % message["run"]).to_frame())
            return
        self._follow_run(directory, message)

    def _follow_run(self, directory: str, message: dict) -> None:
        """Join the keeper of the run, or report from its record how it ended."""
        self.directory = directory
        self.run = (message["run"], message["node"])
        self.process_mark = message["process_mark"]
        self.log = log_sender.LogSender(directory, message.get("cursors", {}), write_all)
        try:
            self.log.reader.open_stream(0)
        except FileNotFoundError:
            pass  # its keeper died before it created the file
        state_dir.lock_record(directory)
        self.load_monitor.start()  # before the keeper's socket exists, which the child could inherit
        self._join_keeper()

    def _join_keeper(self) -> None:
        """Connect to the keeper. Without one, send what its record contains.

        A keeper with a full queue of connections is stopped or hangs. It is not dead, so the relay retries.
        """
        self.retry_at = 0.0
        keeper = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        keeper.setblocking(False)
        try:
            keeper.connect(run_files.open_socket_path(self.directory))
        except BlockingIOError:
            keeper.close()
            self.retry_at = time.monotonic() + 1.0
            return
        except OSError:
            keeper.close()
            self._send_record()
            return
        keeper.settimeout(KEEPER_SECONDS)
        self.keeper = keeper
        self.has_keeper_version = False

    def _finish_run(self) -> None:
        """Delete the run's directory, because the launcher has fetched everything. Wait for a keeper that has ended."""
        if self.sweep is not None:
            self.release_waits = True  # until the dead keeper's processes have ended, the directory must stay
            return
        if self.cleaned_up is not None and self.keeper is not None:
            self.keeper.settimeout(2.0)
            try:
                self._send_to_keeper({"op": "release"})
                while not self.cleaned_up["left"] and self.keeper.recv(65536):
                    pass
            except OSError:
                pass
        stays = self.cleaned_up is not None and self.cleaned_up["left"] and self.keeper is not None  # with the claims
        if self.cleaned_up is not None and not stays:
            root = os.path.dirname(self.directory)
            state_dir.remove_run(root, *self.run)
            state_dir.remove_stale_files(root)
        self.load_monitor.stop()
        self.send({"t": "released"})
        self.over = True

    # -- frames from the keeper

    def _receive_from_keeper(self) -> None:
        assert self.keeper is not None
        try:
            data = self.keeper.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.keeper.close()
            self.keeper = None
            self.keeper_splitter = frames.FrameSplitter()
            if self.cleaned_up is None:
                self._join_keeper()
            return
        for message in self.keeper_splitter.feed(data):
            if not self.has_keeper_version:
                if message.get("v") != frames.PROTOCOL_VERSION:
                    self._refuse_other_version(message.get("v"))
                    return
                self.has_keeper_version = True
            self._handle_keeper_message(message)

    def _handle_keeper_message(self, message: dict) -> None:
        if message["t"] == "size":
            self.log.sizes[message["stream"]] = message["size"]
        elif message["t"] == "stream_opened":
            self._open_stream(message)
        elif message["t"] == "cleaned_up":
            self.cleaned_up = message
        elif message["t"] == "truncation_announced":
            self.log.reader.holes = True
        elif message["t"] == "memory_buffer":
            self.log.reader.open_memory(message["path"])
        elif message["t"] != "keeper_status":  # meant for queries only
            self.send(message)

    def _refuse_other_version(self, version: object) -> None:
        """Refuse a run whose keeper has another version of fanout: its messages and its record have other names."""
        keeper = run_files.read_status(self.directory).get("keeper")
        hint = "use the version of fanout that started it"
        if self.keeper is not None and isinstance(keeper, int):
            hint += ", or stop it on this host: `kill %d`" % keeper
        message = "run %s was started by another version of fanout (protocol %s, this one has %d)"
        message %= self.run[0], version or 1, frames.PROTOCOL_VERSION
        self.send(prepare.Refusal("other-version", message, hint).to_frame())
        self.over = True

    def _open_stream(self, message: dict) -> None:
        """Open a new stream; from now on it is read from its file."""
        self.log.reader.paths[message["stream"]] = message["path"]
        self.log.reader.open_stream(message["stream"])
        self.send({"t": "stream_opened", "stream": message["stream"], "name": message["name"]})

    def _send_record(self) -> None:
        """Report the end from the record: the keeper has ended, or was killed and left its tree to this relay."""
        from . import rank_logs

        facts = run_files.read_status(self.directory)
        if run_files.has_other_version(facts):
            self._refuse_other_version(facts.get("v"))
            return
        self.send({"t": "prepared", "pid": facts.get("keeper", 0)})
        self.log.reader.holes = bool(facts.get("truncated"))
        if "main" in facts:
            self.send({"t": "started", "pid": facts["main"]})
        for number, (name, path) in rank_logs.read_streams(self.directory).items():
            self._open_stream({"stream": number, "name": name, "path": path})
        why = run_files.explain_unknown_end(facts)
        unknown = {"code": None, "signal": None, "reason": "unknown", "why": why, "oom": False}
        is_known = "cleaned_up" not in facts or "exited" in facts
        end = [dict(facts.get("exited", unknown), t="exited")] if is_known else []
        for frame in (*keeper_frames.iter_requester(facts), *end, *keeper_frames.iter_background(facts)):
            self.send(frame)
        if "cleaned_up" in facts:
            self._set_cleaned_up(facts["cleaned_up"])
        else:  # after the exit: the sweep may take long, and the other hosts must not wait
            self.sweep = KillSweep(lambda: processes.find_marked(self.process_mark), UNKILLABLE_SECONDS)

    def _send_swept(self, swept: KillSweep) -> None:
        """Report the result of the sweep after a dead keeper."""
        self.sweep = None
        sizes = {str(stream): self.log.reader.read_size(stream) for stream in [0, *self.log.reader.paths]}
        left = [processes.describe_process(pid) for pid in swept.left]
        crc = {"0": -1}  # no log has a checksum: output that the keeper had not read is lost
        self._set_cleaned_up({"killed": swept.killed, "left": left, "sizes": sizes, "crc": crc, "dropped": 0})

    def _set_cleaned_up(self, frame: dict) -> None:
        self.cleaned_up = self._count_lost(dict(frame, t="cleaned_up"))
        self.log.set_sizes(self.cleaned_up["sizes"])

    def _count_lost(self, frame: dict) -> dict:
        """Return the frame with the bytes that only the keeper's memory had counted as dropped."""
        lost = frame["sizes"].get("0", 0) - self.log.reader.read_size(0)
        if lost <= 0:
            return frame
        sizes = dict(frame["sizes"], **{"0": frame["sizes"]["0"] - lost})
        return dict(frame, sizes=sizes, dropped=frame["dropped"] + lost, crc={"0": -1})

    def _send_cleaned_up(self) -> None:
        """Send the frame ``cleaned_up``, once all log bytes are sent."""
        if self.cleaned_up is None or self.is_cleaned_up_sent:
            return
        self.log.set_sizes(self.cleaned_up["sizes"])
        if not self.log.has_unsent:
            self.is_cleaned_up_sent = True
            self.send(self.cleaned_up)


def write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def main() -> None:
    """Run the relay; called by the loader's last line. A bug is reported in a frame: stderr carries none."""
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 2)
    try:
        Relay().serve()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the link is closed; the keeper continues
    except Exception:
        import traceback

        write_all(frames.pack_control({"t": "crash", "text": traceback.format_exc()}))
    os._exit(0)
