"""How busy this host is, measured every few seconds in a child of its own: a tool that hangs hangs nobody but it.

The child dies with the relay, and its tool with it. What it costs is bounded: it is nice, and where a measurement takes
long the next one comes later. A tool that gives no answer is left alone for longer and longer.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time

from . import procs, spawn

EVERY_SECONDS = 5.0
TOOL_SECONDS = 4.0
STOP_SECONDS = 0.5
SHARE = 20  # a measurement that takes a second is followed by twenty without one
LONGEST_PAUSE = 600.0
PLACES = ":/usr/bin:/usr/local/cuda/bin:/opt/rocm/bin:/usr/local/sbin"
NVIDIA = ("utilization.gpu", "memory.used", "memory.total", "temperature.gpu", "power.draw")
TOOLS = {
    "nvidia-smi": ["--query-gpu=" + ",".join(NVIDIA), "--format=csv,noheader,nounits"],
    "rocm-smi": ["--showuse", "--showmeminfo", "vram", "--showtemp", "--showpower", "--json"],
}


class Gauge:
    """The relay's end: a pipe on which one line of JSON comes for each measurement."""

    def __init__(self) -> None:
        self._reader = -1
        self._child = 0
        self._rest = b""

    def start(self) -> None:
        """Begin to measure; nothing where that is going on already."""
        if self._child:
            return
        parent = os.getpid()
        self._reader, writer = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            _live(writer, parent)
        os.close(writer)

    def descriptors(self) -> list:
        """What to wait for."""
        return [self._reader] if self._reader >= 0 else []

    def hear(self, ready: list) -> list:
        """The measurements that have come."""
        if self._reader not in ready:
            return []
        data = os.read(self._reader, 65536)
        if not data:
            self.stop()
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line.decode()) for line in lines]

    def stop(self) -> None:
        """End the measuring child. It dies with the relay where it hangs in the kernel now."""
        if self._child:
            os.close(self._reader)
            os.kill(self._child, signal.SIGKILL)
            procs.collect(self._child, STOP_SECONDS)
            self._reader, self._child = -1, 0


def _live(writer: int, parent: int) -> None:
    """The child, which holds nothing of the relay's but its end of the pipe."""
    try:
        spawn.LIBC.prctl(spawn.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            return
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(writer, 3)
        os.closerange(4, 4096)
        os.nice(10)
        measure(3, EVERY_SECONDS)
    finally:
        os._exit(0)


def measure(writer: int, every: float) -> None:
    """Measure for ever; ends with the reader."""
    tool, before = Tool(), _ticks()
    pause = min(every, 1.0)  # the first is soon there
    while True:
        time.sleep(pause)
        began = time.monotonic()
        now = _ticks()
        load: dict = {"cpu": _share(before, now), "memory": _memory()}
        before = now
        load.update(tool.ask())
        os.write(writer, json.dumps(load).encode() + b"\n")
        pause = max(every, min(LONGEST_PAUSE, SHARE * (time.monotonic() - began)))


class Tool:
    """The GPU maker's tool, where there is one."""

    def __init__(self) -> None:
        self._name, self._path = "", ""
        for directory in ((os.environ.get("PATH") or os.defpath) + PLACES).split(":"):
            for name in TOOLS:
                path = os.path.join(directory, name)
                if not self._path and os.access(path, os.X_OK) and not os.path.isdir(path):
                    self._name, self._path = name, path
        self._pause = 0.0
        self._next = 0.0
        self._stuck = 0  # a child that has been killed and does not die

    def ask(self) -> dict:
        """``{"gpus": [...]}``, ``{"gpu_error": why}``, or nothing where there is no tool."""
        if not self._path:
            return {}
        if self._stuck and os.waitpid(self._stuck, os.WNOHANG)[0]:
            self._stuck = 0
        if self._stuck or time.monotonic() < self._next:
            return {"gpu_error": "%s does not answer" % self._name}
        text = self._run()
        try:
            gpus = _nvidia(text) if self._name == "nvidia-smi" else _amd(text)
        except ValueError:
            gpus = []
        if gpus:
            self._pause = 0.0
            return {"gpus": gpus}
        self._pause = min(LONGEST_PAUSE, max(EVERY_SECONDS, self._pause * 2))
        self._next = time.monotonic() + self._pause
        return {"gpu_error": "%s does not answer" % self._name}

    def _run(self) -> str:
        """What it prints within its time; "" if it is not done then."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                spawn.LIBC.prctl(spawn.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                os.dup2(writer, 1)
                os.dup2(0, 2)
                os.closerange(3, 64)
                os.execve(self._path, [self._name, *TOOLS[self._name]], dict(os.environ, LC_ALL="C"))
            finally:
                os._exit(127)
        os.close(writer)
        try:
            text = _read_until(reader, time.monotonic() + TOOL_SECONDS)
        finally:
            os.close(reader)
        os.kill(child, signal.SIGKILL)
        end = time.monotonic() + 0.5
        while not os.waitpid(child, os.WNOHANG)[0]:
            if time.monotonic() > end:  # it hangs in the kernel: it dies when the driver lets it go
                self._stuck = child
                break
            time.sleep(0.01)
        return text


def _read_until(reader: int, deadline: float) -> str:
    parts: list = []
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(reader, 65536)
        if not part:
            return b"".join(parts).decode("utf-8", "replace")
        parts.append(part)
    return ""


def _nvidia(text: str) -> list:
    gpus = []
    for line in text.splitlines():
        values = [_number(cell) for cell in line.split(",")]
        if len(values) == len(NVIDIA):
            util, used, total, temp, watts = values
            gpus.append({"util": util, "used": _mib(used), "total": _mib(total), "temp": temp, "watts": watts})
    return gpus


def _amd(text: str) -> list:
    gpus = []
    for name, card in json.loads(text).items():
        if not name.startswith("card"):
            continue
        found: dict = {"util": None, "used": None, "total": None, "temp": None, "watts": None}
        for key, cell in card.items():
            for what, words in (
                ("util", "GPU use"), ("used", "VRAM Total Used"), ("total", "VRAM Total Memory"),
                ("temp", "Temperature"), ("watts", "Power (W)"),
            ):  # fmt: skip
                if words in key and found[what] is None:
                    found[what] = _number(str(cell))
        gpus.append(found)
    return gpus


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None  # [N/A], [Not Supported]


def _mib(value: float | None) -> float | None:
    return None if value is None else value * 1048576


def _ticks() -> tuple | None:
    """(busy, all) of all processors since boot."""
    try:
        with open("/proc/stat", "rb") as file:
            values = [int(word) for word in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return sum(values) - values[3] - values[4], sum(values)  # idle and waiting for a disk are not busy


def _share(before: tuple | None, now: tuple | None) -> float | None:
    if before is None or now is None or now[1] <= before[1]:
        return None
    share: float = round(100.0 * (now[0] - before[0]) / (now[1] - before[1]), 1)
    return share


def _memory() -> list | None:
    """[bytes in use, bytes there are]."""
    facts = {}
    try:
        with open("/proc/meminfo", "rb") as file:
            for line in file:
                words = line.split()
                facts[words[0]] = int(words[1]) * 1024
        return [facts[b"MemTotal:"] - facts[b"MemAvailable:"], facts[b"MemTotal:"]]
    except (OSError, KeyError, ValueError, IndexError):
        return None
