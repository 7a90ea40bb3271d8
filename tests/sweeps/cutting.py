"""A transport whose first connection ends after exactly N bytes in one direction, and whole runs over it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fanout.agent import bundle
from fanout.model.attempt_plan import AttemptPlan
from fanout.model.errors import Unreachable
from fanout.model.events import CleanedUp
from fanout.model.host_facts import HostFacts
from fanout.model.hosts import Host
from fanout.model.outcome import RunOutcome
from fanout.model.planner import Planner
from fanout.model.policy import Policy
from fanout.model.settings import Settings
from fanout.model.state import RunState
from fanout.remote.login import ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.remote.transports.base import Channel, Deadline
from fanout.run.session import Session
from tests.processes import hold_process
from tests.remote.nodes import Seen
from tests.remote.ways import build_host

POLICY = Policy(grace=1.0, last_words=0.0, lease=20.0, start_timeout=10.0)
TRAIN_SH = "echo x >> ran.$FANOUT_RUN_ID; echo one; echo two >&2; exit 7\n"
OUTPUT = b"one\ntwo\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where the first connection ends: ``way`` is "in" (to the launcher) or "out"; ``how`` is "end" or "silence"."""

    way: str = "in"
    after: int = 1 << 40
    how: str = "end"
    trap: int = 0  # not the connection ends, but the process that reaches this statement: see ``crash``


class CutChannel:
    """A connection to the warm host that counts bytes."""

    peer = by_hand = ""
    last_stderr = ""

    def __init__(self, path: str, nonce: str, cut: Cut | None) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(path)
        self._sock.sendall(b"%s%08d" % (nonce.encode(), cut.trap if cut else 0))
        self._cut = cut
        self._silent = False
        self._closed = threading.Event()
        self.passed = {"in": 0, "out": 0}

    def _take_allowed(self, way: str, data: bytes) -> bytes:
        """Return what of ``data`` gets through; the connection ends with the last byte that does."""
        if self._silent:
            return b""
        if self._cut is not None and self._cut.way == way:
            data = data[: self._cut.after - self.passed[way]]
        self.passed[way] += len(data)
        return data

    def _is_spent(self, way: str) -> bool:
        return self._cut is not None and self._cut.way == way and self.passed[way] >= self._cut.after

    def _end_connection(self) -> None:
        """Break the connection: the host learns of it at once, or (silence) never."""
        assert self._cut is not None
        if self._cut.how == "silence":
            self._silent = True
        else:
            self._sock.shutdown(socket.SHUT_RDWR)

    def read(self, timeout: float) -> bytes | None:
        if self._silent:
            return b"" if self._closed.wait(timeout) else None
        if not select.select([self._sock], [], [], timeout)[0]:
            return None
        try:
            data = self._sock.recv(1 << 16)
        except ConnectionResetError:
            return b""
        allowed = self._take_allowed("in", data)
        if data and self._is_spent("in"):
            self._end_connection()
        if data and not allowed:
            return None if self._silent else b""
        return allowed

    def separate_stderr(self) -> None: ...

    def write(self, data: bytes) -> None:
        """Write; drop silently what comes after the cut, as a kernel's buffer does."""
        allowed = self._take_allowed("out", data)
        self._sock.sendall(allowed)
        if self._is_spent("out") and not self._silent:
            self._end_connection()

    def end_command(self) -> None: ...

    def close_input(self) -> None: ...

    def close(self) -> None:
        """``read`` comes back; ``dispose`` closes the descriptor, when no thread can use it."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def dispose(self) -> None:
        self._sock.close()

    def exit_status(self) -> int | None:
        return None

    def has_reported_end(self) -> bool:
        return False


class CutTransport:
    """The first connection is cut, the later ones are not."""

    name = "cut"
    open_files = 3

    def __init__(self, path: str, cut: Cut | None) -> None:
        self._path, self._cut = path, cut
        self.channels: list[CutChannel] = []

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        try:
            channel = CutChannel(self._path, command.split()[-1], None if self.channels else self._cut)
        except OSError as error:
            raise Unreachable(str(error), hint="is the warm host dead?") from error
        self.channels.append(channel)
        deadline.close_on_expiry(channel.close)
        return channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Result of a run, as seen by its launcher and by its directory."""

    outcome: RunOutcome
    output: bytes
    whole: tuple[bool, ...]
    starts: int
    passed: dict[str, int]  # bytes on the first connection
    connections: int
    state: RunState  # when the launcher decides whether another attempt follows


def list_points(passed: int, way: str, *, step: int, agent_step: int) -> list[int]:
    """Return where to cut a first connection that carried ``passed`` bytes: few points are in the agent's source."""
    if way == "in":
        return list(range(1, passed + 1, step))
    agent = len(bundle.pack_agent())
    return [*range(1, 5), *range(5, agent - 4, agent_step), *range(agent - 4, passed + 1, step)]


class WarmHost:
    """The warm host and the directory in which its scripts run."""

    def __init__(self, directory: Path, socket_path: str) -> None:
        self.directory = directory
        self.state = directory / "state"
        self._path = socket_path

    def run_plan(
        self, run_id: str, cut: Cut | None = None, policy: Policy = POLICY, *, max_restarts: int = 0
    ) -> Result:
        """Run all steps, as ``fanout run --skip-check`` does. With ``max_restarts``, the host first keeps its claims."""
        transport = CutTransport(self._path, cut)
        known = [build_host("a", slots=1)]
        pool = ConnectionPool(known, lambda one: transport, ConnectionOptions(connect_timeout=3.0, by="me@pc"), Clock())
        cwd = str(self.directory)
        attempt = AttemptPlan(max_restarts=max_restarts)
        planner = Planner(
            hosts=known,
            task=("task.py",),
            settings=Settings(),
            run_id=run_id,
            directory=cwd,
            has_script=True,
            attempt=attempt,
        )
        plan = planner.make_plan(HostFacts(master_addr="127.0.0.1"))
        nodes = tuple(replace(node, claims=()) for node in plan.nodes)  # many runs side by side on one host
        plan = replace(plan, nodes=nodes)
        seen = Seen()
        session = Session(pool, ["a"], [seen])
        pool.start()
        try:
            session.connect_hosts()
            outcome = session.run_plan(replace(policy, hold=attempt.holds), plan)
            state = session.state
            if attempt.holds:
                outcome = session.run_plan(policy, plan)
        finally:
            pool.close()
            for channel in transport.channels:
                channel.dispose()
        ran = self.directory / f"ran.{run_id}"
        return Result(
            outcome=outcome,
            output=seen.join_output("a"),
            whole=tuple(event.whole for event in seen.events if isinstance(event, CleanedUp)),
            starts=ran.read_text().count("x") if ran.exists() else 0,
            passed=transport.channels[0].passed,
            connections=len(transport.channels),
            state=state,
        )


@contextmanager
def warm_host(directory: Path, *, script: str = TRAIN_SH, traps: bool = False) -> Iterator[WarmHost]:
    """Start a warm host in ``directory``."""
    (directory / "train.sh").write_text(script)
    (directory / "task.py").write_text("")
    path = str(directory / "socket")
    env = {"PATH": os.environ["PATH"], "HOME": "/", "FANOUT_STATE": str(directory / "state")}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    argv = [sys.executable, "-m", "tests.sweeps.host", path, *(["traps"] if traps else [])]
    child = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    with hold_process(child):
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        yield WarmHost(directory, path)
