"""The guardian: a tiny child of the launcher that ends the run on all hosts when the launcher dies without a word.

It sits in a session of its own and reads a pipe whose other end the launcher holds. ``bye`` means that all is done;
the end of the pipe without it means SIGKILL, the OOM killer, a crash: then it logs in to every host, stops the run,
brings the rest of the logs home and leaves nothing there. The death of the whole machine, or of the network, is the
lease's business.

    python -m fanout.guardian < one line of JSON, then a held-open pipe
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fanout.events import Event
    from fanout.hosts import Host
    from fanout.plan import LaunchPlan
    from fanout.settings import Settings
    from fanout.state import RunState

BYE = b"bye\n"
MARGIN_SECONDS = 60.0


class Guardian:
    """The launcher's end of the pipe."""

    def __init__(self) -> None:
        """Started before there is any thread or connection that it could inherit."""
        self._child = subprocess.Popen(
            [sys.executable, "-m", "fanout.guardian"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        )

    def watch(self, plan: LaunchPlan, settings: Settings, files: Mapping[str, str], user: str) -> None:
        """From now on there is something to guard. ``files`` are the local log files by host."""
        order = {
            "plan": {"run_id": plan.run_id, "grace": plan.grace},
            "hosts": [asdict(node.host) for node in plan.nodes],
            "settings": {
                name: getattr(settings, name)
                for name in ("transport", "ssh_config", "user", "connect_timeout", "fanout", "grace")
            },
            "files": dict(files),
            "user": user,
        }
        self._write(json.dumps(order).encode() + b"\n")

    def dismiss(self) -> None:
        """All is done: it leaves, and is waited for."""
        self._write(BYE)
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait()

    def leave_to_it(self) -> None:
        """We leave although something may still run somewhere: let it finish that."""
        assert self._child.stdin is not None
        self._child.stdin.close()

    def _write(self, data: bytes) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(data)
            self._child.stdin.flush()
        except BrokenPipeError:
            return  # it was killed: the lease remains


class _Collector:
    """A subscriber that appends the rest of each host's main stream to the file that the launcher had begun."""

    broken = False

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def __call__(self, event: Event, state: RunState) -> None:
        from fanout.events import MAIN_STREAM, Chunk

        if isinstance(event, Chunk) and event.stream == MAIN_STREAM:
            descriptor = os.open(self._files[event.host], os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(descriptor, event.data, event.offset)
            finally:
                os.close(descriptor)


def main() -> None:
    """Wait for the word; act on silence."""
    order = b""
    while True:
        data = os.read(0, 65536)
        if not data:
            break
        order += data
    if order.endswith(BYE) or b"\n" not in order:
        return
    _stop_everything(json.loads(order.split(b"\n", 1)[0]))


def _stop_everything(order: Mapping[str, Any]) -> None:
    """Log in everywhere, stop, look, collect, forget; give up on what cannot be reached in time."""
    from fanout.fan import Clock, Fan
    from fanout.launch import Session
    from fanout.link import FanOptions
    from fanout.settings import Settings
    from fanout.transports.pick import Picker

    settings = Settings(**order["settings"])
    hosts = [_host(entry) for entry in order["hosts"]]
    plan = _plan(order["plan"], hosts)
    clock = Clock()
    picker = Picker(settings, user=order["user"], agent=False)
    options = FanOptions(dials=settings.fanout, connect_timeout=settings.connect_timeout, by="the guardian")
    fan = Fan(hosts, picker, options, clock)
    for name, path in order["files"].items():
        fan.links[name].resume(plan, *_so_far(path))
    session = Session(fan, [host.name for host in hosts], [_Collector(order["files"])])
    fan.start()
    session.end(grace=settings.grace, until=clock() + 2 * settings.grace + MARGIN_SECONDS)
    fan.close()


def _so_far(path: str) -> tuple[int, int]:
    """(bytes, CRC-32) of a log file as far as the launcher came."""
    size, crc = 0, 0
    try:
        with open(path, "rb") as file:
            while data := file.read(1 << 20):
                size += len(data)
                crc = zlib.crc32(data, crc)
    except FileNotFoundError:
        pass
    return size, crc


def _host(entry: Mapping[str, Any]) -> Host:
    from fanout.hosts import Host, Origin

    values = {name: _tuples(value) for name, value in entry.items()}
    return Host(**{**values, "origin": Origin(**entry["origin"])})


def _tuples(value: Any) -> Any:
    """JSON has lists where the values have tuples."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _plan(entry: Mapping[str, Any], hosts: Sequence[Host]) -> LaunchPlan:
    """As much of the plan as it takes to find the run again on each host."""
    from fanout.plan import LaunchPlan, NodePlan

    nodes = tuple(
        NodePlan(
            host=host, rank=rank, nproc=None, cwd="/", argv=(), env=(), needs=(), claims=(), run_id=entry["run_id"]
        )
        for rank, host in enumerate(hosts)
    )
    return LaunchPlan(
        run_id=entry["run_id"], task=(), nodes=nodes, master_addr="", master_port=0, grace=entry["grace"], lease=0.0
    )


if __name__ == "__main__":
    main()
