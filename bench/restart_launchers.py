"""Launchers of the restart benchmark: fanout, torchrun, NVRx and a restart by hand, each on the machines of a lab."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.installed import get_command
from tests.lab import ns
from tests.lab.lab import Lab
from tests.lab.specs import USER
from tests.processes import end_process, join_threads

PROJECT = f"/home/{USER}/shared/project"
HOSTS = ("h1", "h2", "h3", "h4")
SPARE = "h5"
PORT = 29400  # of the rendezvous
NVRX = ("nvidia-resiliency-ext", "defusedxml", "nvidia-ml-py", "packaging", "psutil", "pynvml", "pyyaml")
FLAGS = ("--venv", sys.prefix, "--lease", "15", "--grace", "5")
TASK = "restart_task.py"


@dataclass(slots=True)
class Output:
    """Lines that a program printed, each with its time."""

    child: subprocess.Popen[bytes]
    lines: list[tuple[float, str]] = field(default_factory=list)
    _reader: threading.Thread | None = None

    def start_reading(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.lines.append((time.monotonic(), line.decode(errors="replace").rstrip()))

    def close(self) -> None:
        self.child.kill()
        if self._reader is not None:
            join_threads(self._reader)
        end_process(self.child, kill=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartLauncher:
    """A contender. ``start`` starts the run; ``after`` is what a person does after the failure, if it is by hand.

    ``add_spare`` starts the spare host once the others train, so that it is not one of the first four.
    """

    name: str
    start: Callable[[Lab], list[Output]]
    add_spare: Callable[[Lab], Output] | None = None
    after: Callable[[Lab, list[Output], bool], list[Output]] | None = None
    absent: str = ""


def start_on_launcher(lab: Lab, argv: Sequence[str]) -> Output:
    """Start a program on the launching machine, in the project."""
    child = lab.launcher.start_program(
        argv, user=USER, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={"OMP_NUM_THREADS": "1"}
    )
    output = Output(child=child)
    output.start_reading()
    return output


def write_hostfile(lab: Lab, names: Sequence[str], spares: Sequence[str] = ()) -> None:
    """Write the hostfile of fanout."""
    lines = [f"{name} slots=1\n" for name in names] + [f"{name} slots=1 spare\n" for name in spares]
    lab.launcher.write_file(f"{PROJECT}/hosts.txt", "".join(lines), user=USER)


def start_fanout(lab: Lab) -> list[Output]:
    """Start a run with restarts and a spare host."""
    write_hostfile(lab, HOSTS, [SPARE])
    return [start_on_launcher(lab, (*get_command(), "run", "--max-restarts", "3", *FLAGS, "hosts.txt", TASK))]


def start_fanout_by_hand(lab: Lab) -> list[Output]:
    """Start a run without restarts."""
    write_hostfile(lab, HOSTS)
    return [start_on_launcher(lab, (*get_command(), "run", *FLAGS, "hosts.txt", TASK))]


def restart_by_hand(lab: Lab, outputs: list[Output], is_lost: bool) -> list[Output]:
    """Wait for the end of the run, or interrupt it when the host is reported; edit the hostfile; start it again."""
    (output,) = outputs
    if is_lost:
        wait_for_line(output, "link lost")
        for _ in range(3):  # the third Ctrl-C does not wait for the lost host
            output.child.send_signal(2)
            threading.Event().wait(0.5)
        write_hostfile(lab, [name if name != "h3" else SPARE for name in HOSTS])
    output.child.wait(120)
    return [start_on_launcher(lab, (*get_command(), "run", *FLAGS, "hosts.txt", TASK))]


def wait_for_line(output: Output, text: str, *, timeout: float = 120.0) -> float:
    """Wait until a line has the text; return its time. Raises LabError."""
    ns.wait_until(lambda: any(text in line for _, line in list(output.lines)), timeout, f"{text!r} is printed")
    return next(at for at, line in output.lines if text in line)


def start_over_ssh(lab: Lab, name: str, program: str) -> Output:
    """Start an elastic launcher on one host, as a person does in a terminal."""
    words = f"--nnodes 3:4 --max-restarts 3 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint h1:{PORT} --rdzv-id bench {TASK}"
    command = f"cd {PROJECT} && OMP_NUM_THREADS=1 exec {program} {words}"
    return start_on_launcher(lab, ("ssh", name, command))


def add_spare_over_ssh(lab: Lab, program: str) -> Output:
    """Start an elastic launcher on the spare host; return once it is connected to the rendezvous."""
    output = start_over_ssh(lab, SPARE, program)
    ns.wait_until(lambda: _has_joined(lab), 120.0, f"{SPARE} joins the rendezvous")
    return output


def _has_joined(lab: Lab) -> bool:
    """Return whether the spare host has a connection to the rendezvous."""
    tables = [Path(f"/proc/{lab[SPARE].pid}/net/{name}").read_text() for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return any(row[2].endswith(f":{PORT:04X}") and row[3] == "01" for row in rows)  # 01: established


def build_elastic_launcher(name: str, program: str, absent: str = "") -> RestartLauncher:
    """Return a launcher that runs on every host and agrees with the others in a rendezvous."""
    return RestartLauncher(
        name=name,
        start=lambda lab: [start_over_ssh(lab, host, program) for host in HOSTS],
        add_spare=lambda lab: add_spare_over_ssh(lab, program),
        absent=absent,
    )


def install_nvrx(directory: Path) -> str:
    """Install NVRx into a virtual environment that uses this one's torch; return the reason if that fails, else ""."""
    venv.create(directory, with_pip=True)
    argv = [str(directory / "bin" / "pip"), "install", "-q", "--no-deps", *NVRX]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    except subprocess.TimeoutExpired:
        return "its installation took over 5 minutes"
    if done.returncode:
        return f"it cannot be installed: {done.stderr.strip().splitlines()[-1]}"
    packages = next(Path(sys.prefix).glob("lib/python*/site-packages"))
    for own in directory.glob("lib/python*/site-packages"):
        (own / "torch-of-this-environment.pth").write_text(f"{packages}\n")
    return ""


def list_launchers(nvrx: Path, nvrx_reason: str) -> list[RestartLauncher]:
    """Return all contenders."""
    return [
        RestartLauncher(name="fanout --max-restarts 3", start=start_fanout),
        RestartLauncher(name="fanout, restarted by hand", start=start_fanout_by_hand, after=restart_by_hand),
        build_elastic_launcher("torchrun c10d", f"{sys.prefix}/bin/torchrun"),
        build_elastic_launcher(
            "NVRx ft_launcher", f"{nvrx}/bin/ft_launcher --ignore-missing-fault-tol-cfg", nvrx_reason
        ),
    ]
