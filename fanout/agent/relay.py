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

from . import frames, hello, lease, load_monitor, log_reader, prepare, probe_runner, processes, run_files, state_dir
from .kill_sweep import KillSweep

HEARTBEAT_SECONDS = 5.0
SILENCE_SECONDS = (
    30  # six beats of the launcher: a link that died without a word must not hold us for sshd's quarter of an hour
)
MAX_BURST_BYTES = 1 << 20  # log bytes sent before other descriptors are served
PACE_SECONDS = 0.1  # between pieces of a slow log: views draw as often, and each piece has a cost
UNKILLABLE_SECONDS = 20.0  # how long a tree without a keeper may take to die
SCAN_SECONDS = 0.1  # how often it is scanned meanwhile
KEEPER_SECONDS = 5.0  # how long a keeper may take to accept a frame: it was stopped, or hangs
SMALL_PIECE_BYTES = 2048  # a larger piece is no slow log: no user reads so fast, and half as many pieces cost half


class Relay:
    """One connection's state: the run that it follows, and the offsets sent so far."""

    def __init__(self) -> None:
        self.splitter = frames.FrameSplitter()
        self.keeper: socket.socket | None = None
        self.keeper_splitter = frames.FrameSplitter()
        self.directory = ""
        self.run = ("", 0)
        self.mark: list = []
        self.cursors: dict = {}
        self.sizes: dict = {}
        self.sources = log_reader.LogReader()
        self.gone: dict | None = None
        self.gone_sent = False
        self.sweep: KillSweep | None = None  # set if there is no keeper: the relay kills what it left
        self.retry_at = 0.0  # when to retry a keeper whose queue is full; 0: not waiting
        self.last_frame_at = lease.read_boottime()
        self.probe_runner = probe_runner.ProbeRunner(self.send)
        self.load_monitor = load_monitor.LoadMonitor()
        self.next_beat = time.monotonic() + HEARTBEAT_SECONDS
        self.next_piece = 0.0
        self.bye_waits = False
        self.over = False

    # -- the loop

    def serve(self) -> None:
        """Serve until the launcher sends bye, the connection ends, or no frame arrives for too long.

        The last is an alarm with its default action, so that it also ends a write that hangs in a dead link.
        """
        signal.alarm(SILENCE_SECONDS)
        self.send(hello.build_hello())
        while not self.over:
            waiting = [0, *self.probe_runner.get_descriptors(), *self.load_monitor.get_descriptors()]
            if self.keeper is not None:
                waiting.append(self.keeper.fileno())
            behind = any(self.cursors.get(stream, 0) < size for stream, size in self.sizes.items())
            ready = select.select(waiting, [], [], self._compute_wait(behind))[0]
            if 0 in ready:
                self._receive_from_launcher()
            if self.keeper is not None and self.keeper.fileno() in ready:
                self._receive_from_keeper()
            if self.retry_at and time.monotonic() >= self.retry_at:
                self._join_keeper()
            if self.sweep is not None and self.sweep.step():
                self._send_swept(self.sweep)
                if self.bye_waits:
                    self._finish_run()
            self.probe_runner.receive(ready)
            for load in self.load_monitor.receive(ready):
                self.send({"t": "beat", "load": load})
            if time.monotonic() >= self._next_piece_at:
                self._send_log()
            self._send_gone()
            if time.monotonic() >= self.next_beat:
                self.next_beat = time.monotonic() + HEARTBEAT_SECONDS
                self.send({"t": "beat"})

    def _compute_wait(self, behind: bool) -> float:
        """Return the seconds to wait. ``behind``: there are log bytes to send."""
        due = [self.next_beat, *self.probe_runner.get_deadlines()]
        due += [self._next_piece_at] if behind else []
        due += [self.retry_at] if self.retry_at else []
        due += [time.monotonic() + SCAN_SECONDS] if self.sweep is not None else []
        return float(max(0.0, min(due) - time.monotonic()))

    @property
    def _next_piece_at(self) -> float:
        """Return when log bytes may be sent again. After the keeper's gone frame nothing is delayed."""
        return self.next_piece if self.gone is None else 0.0

    def send(self, message: dict) -> None:
        write_all(frames.pack_control(message))

    # -- frames from the launcher

    def _receive_from_launcher(self) -> None:
        data = os.read(0, 65536)
        silence, self.last_frame_at = lease.read_boottime() - self.last_frame_at, lease.read_boottime()
        if not data or silence > SILENCE_SECONDS:  # the alarm is paused in suspend: queued frames are as old as that
            self.over = True
            return
        signal.alarm(SILENCE_SECONDS)
        for message in self.splitter.feed(data):
            self._handle_message(message)

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
        elif operation == "bye":
            self._finish_run()
        elif operation == "leave":
            self.send({"t": "forgotten"})
            self.over = True
        elif self.keeper is not None:  # go, stop, kill, beat
            try:  # with its time of arrival: a keeper that was stopped reads it later and must know its age
                self.keeper.sendall(frames.pack_control(dict(message, at=self.last_frame_at)))
            except socket.timeout:
                self.over = True  # half a frame may have been sent; the launcher reconnects and repeats its frames
            except OSError:
                pass  # the keeper has just ended; its last frames are still in the socket

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
            self.send(
                {
                    "t": "refused",
                    "kind": "no-run",
                    "message": "no record of run %s on this host" % message["run"],
                    "hint": "",
                }
            )
            return
        self._follow_run(directory, message)

    def _follow_run(self, directory: str, message: dict) -> None:
        """Join the keeper of the run, or report from its record how it ended."""
        self.directory = directory
        self.run = (message["run"], message["node"])
        self.mark = message["mark"]
        self.cursors = {int(stream): offset for stream, offset in message.get("cursors", {}).items()}
        self.sources = log_reader.LogReader(directory)
        try:
            self.sources.open_stream(0)
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
            keeper.connect(prepare.open_socket_path(self.directory))
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

    def _finish_run(self) -> None:
        """Delete the run's directory, because the launcher has fetched everything. Wait for a keeper that has ended."""
        if self.sweep is not None:
            self.bye_waits = True  # until the dead keeper's processes have ended: before that the directory must stay
            return
        if self.gone is not None and self.keeper is not None:
            self.keeper.settimeout(2.0)
            try:
                self.keeper.sendall(frames.pack_control({"op": "bye"}))
                while not self.gone["left"] and self.keeper.recv(65536):
                    pass
            except OSError:
                pass
        stays = self.gone is not None and self.gone["left"] and self.keeper is not None  # with the claims
        if self.gone is not None and not stays:
            root = os.path.dirname(self.directory)
            state_dir.remove_run(root, *self.run)
            state_dir.remove_stale_files(root)
        self.load_monitor.stop()
        self.send({"t": "forgotten"})
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
            if self.gone is None:
                self._join_keeper()
            return
        for message in self.keeper_splitter.feed(data):
            if message["t"] == "size":
                self.sizes[message["stream"]] = message["size"]
            elif message["t"] == "stream":
                self._open_stream(message)
            elif message["t"] == "gone":
                self.gone = message
            elif message["t"] == "trimming":
                self.sources.holes = True
            elif message["t"] == "memory":
                self.sources.open_memory(message["path"])
            elif message["t"] != "standing":  # meant for queries only
                self.send(message)

    def _open_stream(self, message: dict) -> None:
        """Open a new stream; from now on it is read from its file."""
        self.sources.paths[message["id"]] = message["path"]
        self.sources.open_stream(message["id"])
        self.send({"t": "stream", "id": message["id"], "name": message["name"]})

    def _send_record(self) -> None:
        """Report the end from the record: the keeper has ended, or was killed and left its tree to this relay."""
        from . import rank_logs

        facts = run_files.read_status(self.directory)
        self.send({"t": "prepared", "pid": facts.get("keeper", 0)})
        self.sources.holes = bool(facts.get("trimmed"))
        if "main" in facts:
            self.send({"t": "started", "pid": facts["main"]})
        for number, (name, path) in rank_logs.read_streams(self.directory).items():
            self._open_stream({"id": number, "name": name, "path": path})
        why = run_files.explain_unknown_end(facts)
        unknown = {"code": None, "signal": None, "reason": "unknown", "why": why, "oom": False}
        if "gone" not in facts or "exited" in facts:
            self.send(dict(facts.get("exited", unknown), t="exited"))
        if "gone" in facts:
            self._set_gone(facts["gone"])
        else:  # after the exit: the sweep may take long, and the other hosts must not wait
            self.sweep = KillSweep(lambda: processes.find_marked(self.mark), UNKILLABLE_SECONDS)

    def _send_swept(self, swept: KillSweep) -> None:
        """Report the result of the sweep after a dead keeper."""
        self.sweep = None
        sizes = {str(stream): self.sources.read_size(stream) for stream in [0, *self.sources.paths]}
        left = [processes.describe_process(pid) for pid in swept.left]
        crc = {"0": -1}  # no log has a checksum: output that the keeper had not read is lost
        self._set_gone({"killed": swept.killed, "left": left, "sizes": sizes, "crc": crc, "dropped": 0})

    def _set_gone(self, gone: dict) -> None:
        self.gone = self._count_lost(dict(gone, t="gone"))
        self.sizes = {int(stream): size for stream, size in self.gone["sizes"].items()}

    def _count_lost(self, gone: dict) -> dict:
        """Return ``gone`` with the bytes that only the keeper's memory had counted as dropped."""
        lost = gone["sizes"].get("0", 0) - self.sources.read_size(0)
        if lost <= 0:
            return gone
        sizes = dict(gone["sizes"], **{"0": gone["sizes"]["0"] - lost})
        return dict(gone, sizes=sizes, dropped=gone["dropped"] + lost, crc={"0": -1})

    def _send_gone(self) -> None:
        """Send the gone frame, once all log bytes are sent."""
        if self.gone is None or self.gone_sent:
            return
        self.sizes = {int(stream): size for stream, size in self.gone["sizes"].items()}
        if all(self.cursors.get(stream, 0) >= size for stream, size in self.sizes.items()):
            self.gone_sent = True
            self.send(self.gone)

    def _send_log(self) -> None:
        """Send log bytes from the files to the launcher, at most a burst."""
        sent = 0
        for stream, size in self.sizes.items():
            cursor = self.cursors.get(stream, 0)
            while cursor < size and sent < MAX_BURST_BYTES:
                offset, data = self.sources.read(stream, cursor, size)
                if offset > cursor:  # only a late or very slow launcher needs bytes that were trimmed
                    self.send({"t": "trimmed", "stream": stream, "upto": offset})
                elif not data:
                    break
                else:
                    write_all(frames.pack_data(stream, cursor, data))
                cursor = offset + len(data)
                sent += len(data)
            self.cursors[stream] = cursor
        if 0 < sent < MAX_BURST_BYTES:
            self.next_piece = time.monotonic() + compute_pause(sent)


def compute_pause(sent: int) -> float:
    """Return the seconds between a piece of ``sent`` bytes and the next one."""
    return PACE_SECONDS if sent <= SMALL_PIECE_BYTES else 2 * PACE_SECONDS


def write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def main() -> None:
    """Run the relay; called by the loader's last line. A bug is reported in a frame, because stderr cannot carry
    frames."""
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
