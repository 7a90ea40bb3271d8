"""The kinds of failure: how each is brought about, in how large a run, and who is to be named for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.drive import kill_processes
from tests.lab.lab import Lab
from tests.lab.machines import Host

Inject = Callable[[Lab, Host], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One of them. ``task``: the fault of task.py, if it has one; ``script``: lines of train.sh before torchrun, where
    ``$bad`` is 1 on the guilty host; ``inject``: what is done to that host once training goes on.

    ``of`` is what the verdict has to name: the rank, its host, or the network (or nothing) where no host is at fault.
    ``slow``: nothing fails, and the report has to name who was slower than the others. ``places`` are the positions that make sense.
    """

    name: str
    of: str = "rank"
    task: str = ""
    script: str = ""
    inject: Inject | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    places: tuple[str, ...] = ("first", "middle", "last")
    slow: bool = False

    @property
    def large(self) -> bool:
        """Four hosts with one rank each; otherwise two with two each."""
        return self.of != "rank"


def cut_host(lab: Lab, host: Host) -> None:
    """Cut the guilty host from the other hosts; the launcher still reaches all."""
    for other in lab.hosts:
        if other is not host:
            for address, v6 in ((other.address, False), (other.address6, True)):
                host.run_iptables("-I", "INPUT", "-s", address, "-j", "DROP", v6=v6)
                host.run_iptables("-I", "OUTPUT", "-d", address, "-j", "DROP", v6=v6)


def cut_all_hosts(lab: Lab, host: Host) -> None:
    """Cut every host from the others: only the launcher reaches them."""
    for each in lab.hosts:
        cut_host(lab, each)


def limit_memory(lab: Lab, host: Host) -> None:
    """Bound the guilty rank's memory by a control group; it waits for that before it grows."""
    (guilty,) = (each for each in host.list_processes() if _is_guilty(each.pid))
    for root, name, limit in (
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", 600 << 20),
        ("/sys/fs/cgroup", "memory.max", 600 << 20),
    ):
        if os.path.exists(f"{root}/cgroup.procs"):
            group = Path(root, f"fanout-verdicts-{os.getpid()}")
            group.mkdir(exist_ok=True)
            (group / name).write_text(str(limit))
            (group / "cgroup.procs").write_text(str(guilty.pid))
            host.write_file("/tmp/limited", "")
            return


def throttle_host(lab: Lab, host: Host) -> None:
    """Give the guilty host's rank 0.08 of a processor, by a control group."""
    (guilty,) = (each for each in host.list_processes() if _is_guilty(each.pid))
    for root, name, limit in (
        ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "8000"),
        ("/sys/fs/cgroup", "cpu.max", "8000 100000"),
    ):
        if os.path.exists(f"{root}/cgroup.procs"):
            group = Path(root, f"fanout-verdicts-{os.getpid()}")
            group.mkdir(exist_ok=True)
            (group / name).write_text(limit)
            (group / "cgroup.procs").write_text(str(guilty.pid))
            return


def remove_limits() -> None:
    """Remove the control groups, once they have no process."""
    for root in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup"):
        with contextlib.suppress(OSError):
            Path(root, f"fanout-verdicts-{os.getpid()}").rmdir()


def _is_guilty(pid: int) -> bool:
    """Return whether it is the rank itself. Its parent is torchrun, which has no RANK."""
    try:
        env = dict(entry.partition(b"=")[::2] for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return False
    return b"RANK" in env and env[b"RANK"] == env.get(b"GUILTY")


WAITS = {"PATIENCE": "8"}
MEETS = {"PET_RDZV_CONF": "timeout=25", "PATIENCE": "25"}
ENDLESS = {"STEPS": "4000"}
PACED = {"STEPS": "120"}

KINDS = (
    # what a rank does to itself
    *(
        Kind(name=name, task=name)
        for name in (
            "exception",
            "key-error",
            "thread",
            "sys-exit",
            "os-exit",
            "early-exit",
            "sigkill",
            "sigterm",
            "segv",
            "bus",
            "abort",
            "memory-error",
            "open-files",
            "disk-full",
            "loader-killed",
        )
    ),
    Kind(name="memory", task="memory", env=WAITS, inject=limit_memory),
    # what a rank does not do
    *(Kind(name=name, task=name, env=WAITS) for name in ("hang", "stopped", "shape", "order", "skips")),
    Kind(name="hang-early", task="hang-early", env=MEETS),
    Kind(name="slow-rank", task="slow-rank", env=PACED, slow=True),
    # what is wrong with a host
    Kind(name="slow-host", of="host", task="slow-host", env=PACED, inject=throttle_host, slow=True),
    Kind(name="no-module", of="host", task="no-module"),
    Kind(name="no-file", of="host", task="no-file"),
    Kind(name="no-torchrun", of="host", script="[ $bad = 1 ] && PATH=/usr/bin:/bin\n"),
    Kind(name="script-fails", of="host", script='[ $bad = 1 ] && { sleep 3; echo "no licence"; exit 5; }\n'),
    Kind(name="port-in-use", of="host", script="[ $bad = 1 ] && { python3 -c \"$SQUAT\" & sleep 1; }\n",
         env={"SQUAT": "import socket,time; s=socket.create_server(('',29500)); time.sleep(60)"}, places=("first",)),
    Kind(name="wrong-master", of="host", script="[ $bad = 1 ] && export MASTER_ADDR=10.77.0.99\n", env=MEETS,
         places=("middle", "last")),
    Kind(name="two-masters", of="host", script="[ $bad = 1 ] && export NODE_RANK=0\n", env=MEETS,
         places=("middle", "last")),
    Kind(name="wrong-rank", of="host", script="[ $bad = 1 ] && export NODE_RANK=1\n", env=MEETS,
         places=("last",)),
    Kind(name="wrong-world", of="host", script="[ $bad = 1 ] && export NNODES=5\n", env=MEETS, places=("first",)),
    Kind(name="torchrun-killed", of="host", env=ENDLESS, inject=lambda lab, host: kill_processes(host, "bin/torchrun")),
    Kind(name="host-reboots", of="host", env=ENDLESS | WAITS, inject=lambda lab, host: host.reboot_machine()),
    Kind(name="power-off", of="host", env=ENDLESS | WAITS, inject=lambda lab, host: host.power_off()),
    Kind(name="frozen", of="host", env=ENDLESS | WAITS, inject=lambda lab, host: host.freeze_processes()),
    Kind(name="cut-off", of="host", env=ENDLESS | WAITS, inject=cut_host),
    Kind(name="partition", of="network", env=ENDLESS | WAITS, inject=cut_all_hosts, places=("first",)),
)  # fmt: skip
