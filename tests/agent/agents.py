"""Test client of the agent: the launcher's side of the protocol, one step at a time."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from fanout.agent import bundle, frames, processes
from fanout.model.option_table import HOST_SETTINGS
from fanout.model.planner import build_host_settings
from fanout.model.settings import Settings
from tests.processes import end_process

#: Only for this process: a keeper sweeps by its run, and two test sessions may run side by side.
RUN = f"r{os.getpid()}"
NONCE = "0123456789abcdef"
PATIENCE = 30.0  # an idle machine needs a tenth of a second, a loaded one up to ten seconds


class Silent(Exception):
    """The agent did not send an expected message."""


def list_pythons() -> tuple[str, ...]:
    """Return the Python that runs the tests, and those in FANOUT_PYTHONS (paths, separated by ``:``)."""
    named = os.environ.get("FANOUT_PYTHONS", "")
    return (*filter(None, named.split(":")), sys.executable)


class Agent:
    """One connection to one host: the real command, through a real shell, over pipes."""

    def __init__(self, state: Path, *, python: str = sys.executable, patch: str = "", **login: str) -> None:
        """Start the agent. It runs ``patch`` (Python) before its relay starts, for faults that no input can cause."""
        self.state = state
        env = {"PATH": os.environ["PATH"], "FANOUT_STATE": str(state), "HOME": "/", **login}
        argv = ["/bin/sh", "-c", bundle.build_command(NONCE, python)]
        self.child = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, start_new_session=True
        )
        self.splitter = frames.FrameSplitter()
        self.received: list[dict[str, Any]] = []
        self.looked_at = 0  # how many of them ``receive`` has checked
        self.output: dict[int, bytearray] = {}
        self.pieces: list[int] = []  # the sizes of the frames in which it arrived
        self.first_offset: dict[int, int] = {}
        self._early = b""
        while b"READY" not in self._early or not self._early.endswith(b"\n"):
            self._early += self._read_bytes()
        self._write_bytes(_patch_bundle(patch) if patch else bundle.pack_agent())
        self.hello = self.receive_message("hello")

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the connection, as a broken link does."""
        with contextlib.suppress(OSError):
            assert self.child.stdin is not None
            self.child.stdin.close()
        assert self.child.stdout is not None
        self.child.stdout.close()
        end_process(self.child, kill=True)

    def _write_bytes(self, data: bytes) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(data)
        self.child.stdin.flush()

    def _read_bytes(self) -> bytes:
        assert self.child.stdout is not None
        ready = select.select([self.child.stdout], [], [], PATIENCE)[0]
        data = os.read(self.child.stdout.fileno(), 1 << 18) if ready else b""
        if not data:
            raise Silent(f"after {self.received!r}: {'the end' if ready else 'nothing'}")
        return data

    def send_operation(self, op: str, **rest: Any) -> None:
        self._write_bytes(frames.pack_control({"op": op, **rest}))

    def receive_message(self, *kinds: str) -> dict[str, Any]:
        """Return the next message of one of the kinds; it may have arrived with an earlier one."""
        while True:
            while self.looked_at < len(self.received):
                self.looked_at += 1
                if self.received[self.looked_at - 1]["t"] in kinds:
                    return self.received[self.looked_at - 1]
            for message in self.splitter.feed(self._read_bytes()):
                self._keep_message(message)

    def _keep_message(self, message: Any) -> None:
        if isinstance(message, dict):
            assert message["t"] != "crash", message["text"]
            self.received.append(message)
            return
        stream, offset, data = message
        self.first_offset.setdefault(stream, offset)
        have = self.first_offset[stream] + len(self.output.get(stream, b""))
        assert offset == have, f"bytes {have}-{offset} of stream {stream} are missing or repeated"
        self.output.setdefault(stream, bytearray()).extend(data)
        self.pieces.append(len(data))

    def wait_for_output(self, text: bytes) -> None:
        """Wait until the main stream contains the text."""
        while text not in self.output.get(0, b""):
            for message in self.splitter.feed(self._read_bytes()):
                self._keep_message(message)

    def wait_for_output_beyond(self, size: int) -> None:
        """Wait until the main stream has more than ``size`` bytes."""
        while len(self.output.get(0, b"")) <= size:
            for message in self.splitter.feed(self._read_bytes()):
                self._keep_message(message)

    # -- what launchers do

    def prepare_script(self, script: str, cwd: Path, lease: float) -> int:
        """Prepare a run of a bash script; return the pid of its keeper."""
        prepared = self.prepare_run(["bash", "-c", script], cwd, lease=lease)
        assert prepared["t"] == "prepared"
        return int(prepared["pid"])

    def prepare_run(self, argv: list[str], cwd: Path, **rest: Any) -> dict[str, Any]:
        """Prepare a run; return the answer, ``prepared`` or ``refused``."""
        self.send_operation("prepare", **build_spec(argv, cwd, **rest))
        return self.receive_message("prepared", "refused")

    def send_go(self, env: dict[str, Any] | None = None, *, run: str = RUN, node: int = 0) -> None:
        self.send_operation("go", env={**(env or {}), **dict(entry.split("=", 1) for entry in build_mark(run, node))})

    def start_run(self, script: str, cwd: Path, env: dict[str, Any] | None = None, **rest: Any) -> int:
        """Prepare and start a run; return the pid of the bash that runs ``script``."""
        assert self.prepare_run(["bash", "-c", script], cwd, **rest)["t"] == "prepared"
        self.send_go(env, run=rest.get("run", RUN))
        return int(self.receive_message("started")["pid"])

    def attach_run(self, *, run: str = RUN, node: int = 0, have: int = 0) -> None:
        self.first_offset[0] = have
        self.send_operation("attach", run=run, node=node, process_mark=build_mark(run, node), cursors={"0": have})

    def release_run(self) -> None:
        self.send_operation("release")
        self.receive_message("released")

    def end_run(self) -> tuple[dict[str, Any], dict[str, Any], bytes]:
        """Return (exited, cleaned up, output) of the run, and release the run."""
        gone = self.receive_message("cleaned_up")
        exited = next(message for message in self.received if message["t"] == "exited")
        self.release_run()
        return exited, gone, bytes(self.output.get(0, b""))


def _patch_bundle(patch: str) -> bytes:
    text = zlib.decompress(bundle.pack_agent()[4:]).decode()
    start = "from fanout_agent import relay\n"
    assert text.count(start) == 1
    body = zlib.compress(text.replace(start, f"{patch}\n{start}").encode())
    return struct.pack("!I", len(body)) + body


def build_mark(run: str, node: int) -> list[str]:
    return [f"FANOUT_RUN_ID={run}", f"FANOUT_NODE={node}"]


def build_spec(argv: list[str], cwd: Path, *, run: str = RUN, node: int = 0, **rest: Any) -> dict[str, Any]:
    """Return the message Prepare. ``rest`` has other parts of it, and settings by name."""
    settings = build_host_settings(Settings(grace=10.0, lease=60.0, spool_limit=0, stacks="off"))
    settings |= {name: rest.pop(name) for name in HOST_SETTINGS if name in rest}
    usual = {
        "required_files": [],
        "claims": ["port-29500"],
        "by": "me@pc",
        "settings": settings,
        "cursors": {},
    }
    return {
        "run": run,
        "node": node,
        "process_mark": build_mark(run, node),
        "argv": argv,
        "cwd": str(cwd),
        **usual,
        **rest,
    }


def list_processes_of(state: Path) -> list[int]:
    """Return relays, keepers (by the login's environment) and their processes (by the run's mark, if it has a keeper)."""
    return processes.find_marked([f"FANOUT_STATE={state}"])


def wait_for(condition: Any, what: str) -> None:
    """Wait for a state that sends no event, such as the end of another process's child."""
    never, end = select.poll(), time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        never.poll(10)


def wait_until_gone(find: Callable[[], list[Any]], what: str) -> None:
    """Wait until ``find`` returns nothing; a failure names what is left."""
    try:
        wait_for(lambda: not find(), what)
    except AssertionError:
        raise AssertionError(f"{what} are left: {find()}") from None


def is_alive(pid: int) -> bool:
    seen = processes.read_stat(pid)
    return bool(seen) and seen[0] not in "ZX"


@contextlib.contextmanager
def kill_leftovers(state: Path) -> Iterator[None]:
    """Kill what a test left behind, and fail a test that left something."""
    try:
        yield
        wait_for(lambda: not list_processes_of(state), "a relay or a keeper is left")
    finally:
        for pid in list_processes_of(state):
            os.kill(pid, signal.SIGKILL)
