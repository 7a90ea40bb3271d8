"""Shared parts of the check tests: recorded facts of a healthy host, a scripted asker, and a forking asker."""

from __future__ import annotations

import copy
import json
import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fanout.agent.probes.registry import load_probe
from fanout.checks.engine.definition import CheckContext, CheckRequest, MeshTest, PortTest
from fanout.checks.network.mesh import choose_pairs
from fanout.model.events import AnswerReason
from fanout.model.hosts import Host, Origin
from fanout.model.rpc import ProbeAnswer, ProbeRequest
from tests.processes import reap_child

GPU = {
    "vendor": "nvidia", "problem": "", "driver": "580.95.05", "module": "580.95.05", "processes": [], "throttled": [],
    "direct": "dma-buf", "links": {"paths": {"NV18": 28}, "peers": {"OK": 28}},
    "pending": {}, "recovery": {"0": "None"}, "fabric": {"0": "Completed Success"}, "xids": [], "xids_unread": "",
    "gpus": [
        {
            "index": str(index), "uuid": f"GPU-{index}", "name": "NVIDIA H100 80GB HBM3", "memory.total": "81559",
            "memory.used": "4", "driver_version": "580.95.05", "compute_mode": "Default",
            "persistence_mode": "Enabled", "ecc.errors.uncorrected.volatile.total": "0", "mig.mode.current": "Disabled",
            "temperature.gpu": "31", "pcie.link.width.current": "16", "pcie.link.width.max": "16",
            "power.limit": "700.00",
        }
        for index in range(8)
    ],
}  # fmt: skip


def build_hosts(count: int, **more: Any) -> tuple[Host, ...]:
    """Return gpu01, gpu02 … as a hostfile with one line for each describes them."""
    return tuple(
        Host(name=f"gpu{number:02}", origin=Origin(file="hosts.txt", line=number), **more)
        for number in range(1, count + 1)
    )


def build_address(number: int) -> str:
    return f"10.0.{number >> 8}.{number & 255}"


def build_file(path: str, sha: str = "aa11bb22cc33", size: int = 900, **more: Any) -> dict[str, Any]:
    return {
        "path": path, "kind": "file", "size": size, "sha256": sha, "readable": True, "writable": True,
        "searchable": False, "mtime": 1.0, "ahead": -100.0, "mode": 0o644, "uid": 1000, "real": path, "crlf": False,
        "above": {"path": path.rpartition("/")[0], "writable": True}, **more,
    }  # fmt: skip


def build_missing_file(path: str) -> dict[str, Any]:
    return {
        "path": path, "kind": "missing", "error": "No such file or directory",
        "above": {"path": "/home/ann", "writable": True},
    }  # fmt: skip


def build_rehearsal(number: int, *argv: str, **more: Any) -> dict[str, Any]:
    """Return the rehearsal of host ``number`` of four: train.sh passes all arguments on, unless ``argv`` is given."""
    passed = (
        "--nnodes=4",
        f"--node-rank={number - 1}",
        "--nproc-per-node=8",
        "--rdzv_endpoint=10.0.0.1:29500",
        "task.py",
        "cfg.yaml",
    )
    call = {
        "program": "torchrun", "argv": list(argv or passed), "cwd": "/home/ann/proj", "env": {},
        "python": "/home/ann/venv/bin/python3", "real": "/home/ann/venv/bin/torchrun",
    }  # fmt: skip
    given = {
        "NNODES": "4", "NODE_RANK": str(number - 1), "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500",
        "NPROC_PER_NODE": "8", "task": ["task.py", "cfg.yaml"],
    }  # fmt: skip
    return {
        "status": 86,
        "seconds": 0.1,
        "calls": [call],
        "count": 1,
        "words": "",
        "errors": [],
        "given": given,
        **more,
    }


def build_gpus(name: str) -> dict[str, Any]:
    """Return the GPUs that nvidia-smi reports on that host: equal on all hosts, except for their UUIDs."""
    rows: Any = GPU["gpus"]
    return {**GPU, "gpus": [{**row, "uuid": f"{row['uuid']}-of-{name}"} for row in rows]}


def build_healthy_facts(number: int, *, gpu: bool = True) -> dict[str, Any]:
    """Return the facts of host ``number`` (from 1) as ``ask_facts`` returns them."""
    name = f"gpu{number:02}"
    facts: dict[str, Any] = {
        "identity": {
            "hostname": name, "host_id": f"boot-{number}/net:[1]", "given": False, "boot_id": f"boot-{number}",
            "netns": "net:[1]", "machine_id": f"machine-{number}",
        },
        "user": {"name": "ann", "uid": 1000, "gid": 1000, "groups": [1000], "umask": 0o22, "home": "/home/ann", "shell": "/bin/bash"},
        "agent": {"version": [3, 11, 2], "executable": "/usr/bin/python3"},
        "limits": {"nofile": 1048576, "nproc": 96365, "memlock": -1, "stack": 8388608, "as": -1, "cpu": -1, "fsize": -1, "core": 0},
        "memory": {"total": 2 << 40, "available": (2 << 40) - (number << 30), "swap_used": 0, "cap": 0, "pids_cap": 0},
        "cpu": {"count": 128, "usable": 128, "load": 0.5, "governor": "performance"},
        "kernel": {"release": "6.8.0-60-generic", "machine": "x86_64", "system": "Ubuntu 24.04", "up": 1e6, "reboot_required": False, "ptrace_scope": "0", "core_pattern": "|/usr/lib/systemd/systemd-coredump %P", "log_barred": "", "numa_balancing": False},
        "session": {"logind": True, "linger": True, "remove_ipc": True, "kill_user_processes": False, "system_user": False},
        "environment": {}, "stuck": [], "leftovers": [], "runs": [], "other_runs": [],
        "interfaces": [
            {"name": "lo", "addresses": ["127.0.0.1/8", "::1/128"], "up": True, "running": True, "loopback": True, "mtu": 65536, "speed": 0, "duplex": "", "received": 9, "bad": 0},
            {"name": "eth0", "addresses": [f"{build_address(number)}/16"], "up": True, "running": True, "loopback": False, "mtu": 9000, "speed": 100000, "duplex": "full", "received": 10**9, "bad": 7},
        ],
        "route": {"ipv4": "eth0", "ipv6": ""},
        "ports": {"low": 32768, "high": 60999, "reserved": ""},
        "residue": {}, "infiniband": [], "ras": [], "segments": [], "upgrades": {"unattended": True, "free": []},
        "services": {"firewall": [], "time": ["chronyd"], "killer": [], "synchronised": True},
        "own_name": {"addresses": [build_address(number)], "error": "", "seconds": 0.001},
        "reverse": [{"address": "10.0.0.250", "name": "gpu250", "seconds": 0.001}],
        "files": {
            "workdir": build_file("/home/ann/proj", kind="directory", searchable=True, entries=9, mount={"type": "ext4", "source": "/dev/sda1", "point": "/", "options": "rw", "of": "rw"}),
            "script": build_file("/home/ann/proj/train.sh", mentions=["torchrun", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "NPROC_PER_NODE"], activates=False),
            "task": build_file("/home/ann/proj/task.py"),
            "config": build_file("/home/ann/proj/cfg.yaml"),
        },
        "programs": {
            "path": "/home/ann/venv/bin:/usr/bin",
            "found": {"bash": "/usr/bin/bash", "torchrun": "/home/ann/venv/bin/torchrun", "python3": "/home/ann/venv/bin/python3", "python": "", "git": "/usr/bin/git", "tee": "/usr/bin/tee", "nvidia-smi": "/usr/bin/nvidia-smi", "py-spy": "/home/ann/venv/bin/py-spy"},
            "elsewhere": [], "venv": {"dir": "/home/ann/venv", "exists": True},
        },
        "space": {
            place: {"path": f"/{place}", "free": (1200 - number) << 30, "total": 2 << 40, "inodes": 10**8, "inodes_total": 2 * 10**8, "type": kind, "writable": True, "mount": {"point": "/", "options": "rw"}}
            for place, kind in (("workdir", "ext4"), ("tmp", "ext4"), ("home", "ext4"), ("shm", "tmpfs"))
        },
        "tree": {"head": "4f2a9c1", "code": "ab" * 8, "dirty": {}, "empty_modules": [], "files": {}, "whole": True, "left_out": []},
        "locks": [],
        "software": {
            "version": [3, 11, 9], "executable": "/home/ann/venv/bin/python3", "prefix": "/home/ann/venv",
            "packages": {"torch": "2.9.1", "nvidia-nccl-cu12": "2.27.5", "numpy": "2.1.0"},
            "torch": {"version": "2.9.1+cu128", "cuda": "12.8", "hip": None, "baton": 1}, "absent": [], "syntax": "", "own": {}, "pip": "yes",
        },
        "gpu": build_gpus(name), "missing": {},
        "rehearsal": build_rehearsal(number),
        "clock": {"began": 100.0, "ended": 100.2},
    }  # fmt: skip
    if not gpu:
        del facts["gpu"]
        facts["missing"] = {"gpu": "no GPU"}
        facts["software"]["packages"].pop("nvidia-nccl-cu12")
        facts["software"]["torch"]["version"] = "2.9.1+cpu"
    return copy.deepcopy(facts)


def build_request(count: int = 4, **more: Any) -> CheckRequest:
    settings: dict[str, Any] = {
        "hosts": build_hosts(count), "workdir": "/home/ann/proj", "task": "task.py", "config": "cfg.yaml",
        "venv": "/home/ann/venv", "imports": ("torch",),
        "connected_addresses": {f"gpu{number:02}": build_address(number) for number in range(1, count + 1)},
        "login_seconds": {f"gpu{number:02}": 0.3 for number in range(1, count + 1)},
    }  # fmt: skip
    return CheckRequest(**{**settings, **more})


def build_healthy_case(count: int = 4, *, gpu: bool = True, **more: Any) -> CheckContext:
    """Return a case without any finding; ``change_fact`` breaks one fact of it."""
    if not gpu:
        more.setdefault("hosts", build_hosts(count, slots=1))
    asked = build_request(count, **more)
    numbers = {host.name: number for number, host in enumerate(asked.hosts, 1) if host.name not in asked.unreached}
    facts = {name: build_healthy_facts(number, gpu=gpu) for name, number in numbers.items()}
    for row in facts.values():
        row["share"] = {"hosts": list(facts), "seconds": 0.0}
        row["rehearsal"]["calls"][0]["argv"][0] = f"--nnodes={count}"
        row["rehearsal"]["given"]["NNODES"] = str(count)
    reached = {name: build_address(number) for name, number in numbers.items()}
    fine = {"outcome": "ok", "connect": 0.0001, "sent": 200, "resent": 0}
    return CheckContext(
        request=asked,
        facts=facts,
        missing={name: row["missing"] for name, row in facts.items()},
        offsets=dict.fromkeys(facts, (0.0004, 0.001)),
        port=PortTest(
            port=asked.master_port,
            candidates=("10.0.0.1",),
            chosen="10.0.0.1",
            dials={
                (name, "10.0.0.1"): {**fine, "source": reached[name]} for name in facts if name != asked.first_host.name
            },
        ),
        mesh=MeshTest(
            addresses=reached,
            dials=dict.fromkeys(choose_pairs(list(facts)), fine),
            unasked="one host" if count == 1 else "",
        ),
    )


def change_fact(case: CheckContext, host: str, path: str, value: Any) -> CheckContext:
    """Return ``case`` with one fact of one host replaced; ``path`` is separated by slashes."""
    facts: dict[str, Any] = {name: copy.deepcopy(dict(row)) for name, row in case.facts.items()}
    *folders, last = path.split("/")
    place = facts[host]
    for folder in folders:
        place = place[int(folder)] if isinstance(place, list) else place[folder]
    place[last] = value
    return replace(case, facts=facts)


def drop_section(
    case: CheckContext, host: str, section: str, why: str, reason: AnswerReason = "unavailable"
) -> CheckContext:
    """Return ``case`` in which one host could not report one section."""
    facts = {name: dict(row) for name, row in case.facts.items()}
    facts[host].pop(section, None)
    return replace(
        case,
        facts=facts,
        missing={**case.missing, host: {section: why}},
        reasons={**case.reasons, host: {section: reason}},
    )


class ScriptedAsker:
    """Scripted answers: functions of (host, args) by the question's name. It records questions and cancellations."""

    def __init__(self, script: Mapping[str, Callable[[str, Mapping[str, Any]], ProbeAnswer]]) -> None:
        self._script = script
        self.asked: list[ProbeRequest] = []
        self.cancelled: list[tuple[str, int]] = []

    def ask(self, asks: Sequence[ProbeRequest]) -> list[ProbeAnswer]:
        self.asked += asks
        return [self._script[ask.what](ask.host, ask.args) for ask in asks]

    def is_still_open(self, host: str, handle: int) -> bool:
        return (host, handle) not in self.cancelled

    def cancel(self, host: str, handle: int) -> None:
        self.cancelled.append((host, handle))


class ForkingAsker:
    """Real answers: each question runs its probe in a forked child of this process, as in the agent's relay.

    ``env`` gives a host its own variables: with FANOUT_HOST_ID one machine acts as several hosts.
    """

    def __init__(self, env: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self._env = env or {}
        self._living: dict[int, tuple[str, int]] = {}

    def ask(self, asks: Sequence[ProbeRequest]) -> list[ProbeAnswer]:
        begun = [(ask, *self._start_question(ask)) for ask in asks]
        return [self._finish_question(ask, pid, reader, sent) for ask, pid, reader, sent in begun]

    def is_still_open(self, host: str, handle: int) -> bool:
        return handle in self._living

    def cancel(self, host: str, handle: int) -> None:
        assert self._living[handle][0] == host
        self._end_process(handle)

    @property
    def living(self) -> int:
        """Return the number of long-lived questions that were not cancelled."""
        return len(self._living)

    def close(self) -> None:
        for handle in tuple(self._living):
            self._end_process(handle)

    def _start_question(self, ask: ProbeRequest) -> tuple[int, int, float]:
        reader, writer = os.pipe()
        sent = time.time()
        pid = os.fork()
        if pid == 0:
            os.environ.update(self._env.get(ask.host, {}))
            _run_question(ask, writer)
        os.close(writer)
        return pid, reader, sent

    def _finish_question(self, ask: ProbeRequest, pid: int, reader: int, sent: float) -> ProbeAnswer:
        text, deadline = b"", time.monotonic() + ask.timeout
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(reader, 1 << 16) if ready else b""
            if not part:
                break
            text += part
        self._living[pid] = (ask.host, reader)
        if ask.what not in ("listen", "share") or not text:
            self._end_process(pid)
        if not text:
            return ProbeAnswer(error=f"no answer within {ask.timeout:g} s", reason="timeout")
        answer = json.loads(text)
        return ProbeAnswer(
            value=answer.get("value"), error=answer.get("error", ""), handle=pid, sent=sent, received=time.time()
        )

    def _end_process(self, pid: int) -> None:
        _, reader = self._living.pop(pid)
        os.kill(pid, signal.SIGKILL)
        reap_child(pid)
        os.close(reader)


def _run_question(ask: ProbeRequest, writer: int) -> None:
    """Run in the child: answer once, or answer and stay alive."""
    status = 1
    try:
        result = load_probe(ask.what)(dict(ask.args))
        for value in [result] if isinstance(result, dict) else result:
            os.write(writer, json.dumps({"value": value}).encode() + b"\n")
        status = 0
    except Exception as error:  # noqa: BLE001  as the relay does: the reason travels
        os.write(writer, json.dumps({"error": repr(error)}).encode() + b"\n")
    finally:
        os._exit(status)
