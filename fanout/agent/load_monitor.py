"""Load monitor: measures CPU, memory and GPU load every few seconds in its own child process, so a hung tool blocks
only that child.

The child and its tool die with the relay. Its cost is bounded: it runs with a raised nice value, and slow measurements
are followed by longer pauses. If a tool gives no answer, the pauses before the next attempt grow.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time

from . import processes, smi, spawn

EVERY_SECONDS = 5.0
TOOL_SECONDS = 4.0
STOP_SECONDS = 0.5
PAUSE_FACTOR = 20  # one second of measuring is followed by 20 seconds without
LONGEST_PAUSE = 600.0
NVIDIA = ("utilization.gpu", "memory.used", "memory.total", "temperature.gpu", "power.draw")
TOOLS = {
    "nvidia-smi": smi.build_nvidia_query(NVIDIA),
    "rocm-smi": ["--showuse", "--showmeminfo", "vram", "--showtemp", "--showpower", "--json"],
}


class LoadMonitor:
    """The relay's end of the load monitor: a pipe with one line of JSON per measurement."""

    def __init__(self) -> None:
        self._reader = -1
        self._child = 0
        self._rest = b""

    def start(self) -> None:
        """Start measuring, unless that has been done already."""
        if self._child:
            return
        parent = os.getpid()
        self._reader, writer = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            _run_child(writer, parent)
        os.close(writer)

    def get_descriptors(self) -> list:
        """Return the descriptors to wait for."""
        return [self._reader] if self._reader >= 0 else []

    def receive(self, ready: list) -> list:
        """Return the measurements that have arrived."""
        if self._reader not in ready:
            return []
        data = os.read(self._reader, 65536)
        if not data:
            self.stop()
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line.decode()) for line in lines]

    def stop(self) -> None:
        """Kill the child. If it hangs in the kernel, it dies with the relay."""
        if self._child:
            os.close(self._reader)
            os.kill(self._child, signal.SIGKILL)
            processes.wait_for_end(self._child, STOP_SECONDS)
            self._reader, self._child = -1, 0


def _run_child(writer: int, parent: int) -> None:
    """Run the child, which keeps only its end of the pipe."""
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
        measure_load(3, EVERY_SECONDS)
    finally:
        os._exit(0)


def measure_load(writer: int, every: float) -> None:
    """Measure until the reader closes the pipe."""
    tool, before = GpuTool(), read_cpu_ticks()
    pause = min(every, 1.0)  # so that the first measurement comes soon
    while True:
        time.sleep(pause)
        began = time.monotonic()
        now = read_cpu_ticks()
        load: dict = {"cpu": compute_busy_percent(before, now), "memory": read_memory()}
        before = now
        load.update(tool.query())
        os.write(writer, json.dumps(load).encode() + b"\n")
        pause = max(every, min(LONGEST_PAUSE, PAUSE_FACTOR * (time.monotonic() - began)))


class GpuTool:
    """The GPU vendor's tool, if the host has one."""

    def __init__(self) -> None:
        self._name, self._path = smi.find_tool(tuple(TOOLS), os.environ.get("PATH") or os.defpath)
        self._pause = 0.0
        self._next = 0.0
        self._stuck = 0  # a child that was killed and has not died yet

    def query(self) -> dict:
        """Return ``{"gpus": [...]}``, ``{"gpu_error": reason}``, or {} if there is no tool."""
        if not self._path:
            return {}
        if self._stuck and os.waitpid(self._stuck, os.WNOHANG)[0]:
            self._stuck = 0
        if self._stuck or time.monotonic() < self._next:
            return {"gpu_error": "%s does not answer" % self._name}
        text = self._run_tool()
        try:
            gpus = _parse_nvidia(text) if self._name == "nvidia-smi" else _parse_amd(text)
        except ValueError:
            gpus = []
        if gpus:
            self._pause = 0.0
            return {"gpus": gpus}
        self._pause = min(LONGEST_PAUSE, max(EVERY_SECONDS, self._pause * 2))
        self._next = time.monotonic() + self._pause
        return {"gpu_error": "%s does not answer" % self._name}

    def _run_tool(self) -> str:
        """Return the tool's output; "" if the tool does not finish in time."""
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
            if time.monotonic() > end:  # it hangs in the kernel and dies when the driver returns
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


def _parse_nvidia(text: str) -> list:
    gpus = []
    for row in smi.split_nvidia_rows(text, len(NVIDIA)):
        util, used, total, temp, watts = map(smi.parse_number, row)
        gpus.append({"util": util, "used": _from_mib(used), "total": _from_mib(total), "temp": temp, "watts": watts})
    return gpus


def _parse_amd(text: str) -> list:
    gpus = []
    for card in smi.parse_rocm(text)[0]:
        found: dict = {"util": None, "used": None, "total": None, "temp": None, "watts": None}
        for key, cell in card.items():
            for what, words in (
                ("util", "GPU use"), ("used", "VRAM Total Used"), ("total", "VRAM Total Memory"),
                ("temp", "Temperature"), ("watts", "Power (W)"),
            ):  # fmt: skip
                if words in key and found[what] is None:
                    found[what] = smi.parse_number(str(cell))
        gpus.append(found)
    return gpus


def _from_mib(value: float | None) -> float | None:
    return None if value is None else value * 1048576


def read_cpu_ticks() -> tuple | None:
    """Return (busy, total) ticks of all CPUs since boot."""
    try:
        with open("/proc/stat", "rb") as file:
            values = [int(word) for word in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return sum(values) - values[3] - values[4], sum(values)  # idle time and iowait do not count as busy


def compute_busy_percent(before: tuple | None, now: tuple | None) -> float | None:
    """Return the share of time in which the CPUs were busy between two readings; None without both."""
    if before is None or now is None or now[1] <= before[1]:
        return None
    share: float = round(100.0 * (now[0] - before[0]) / (now[1] - before[1]), 1)
    return share


def read_memory() -> list | None:
    """Return [bytes in use, total bytes]."""
    facts = {}
    try:
        with open("/proc/meminfo", "rb") as file:
            for line in file:
                words = line.split()
                facts[words[0]] = int(words[1]) * 1024
        return [facts[b"MemTotal:"] - facts[b"MemAvailable:"], facts[b"MemTotal:"]]
    except (OSError, KeyError, ValueError, IndexError):
        return None
