"""The runs of this user on this host: those that go on, what ended ones left behind, and removing the latter.

Only what can be proved to be ours is ever ended: a process of our uid whose environment carries a run's mark, and whose
run has no keeper that lives. A keeper lives if its socket answers; a file with a pid in it proves nothing.
"""

from __future__ import annotations

import os
import socket
import subprocess

from . import frames, place, prepare, procs, record, sweep
from .probes_host import age_of
from .probes_tools import read

TYPE_CHECKING = False  # what typing says, without the price of importing it on a host
if TYPE_CHECKING:
    from typing import Any, Callable

KEEPER = "@%s READY"  # stands in the command line of every agent
ANSWER_SECONDS = 3.0
KILL_SECONDS = 20.0
CLIMBS = 10


def ask_runs(args: dict[str, Any]) -> dict[str, Any]:
    """Every run with a directory here, and every process of a run, whether its run goes on or not."""
    roots = place.existing()
    runs = [_run(root, run, node) for root in roots for run, node in place.runs(root)]
    kept = {(entry["run"], entry["node"]) for entry in runs if entry["alive"]}
    return {"looked": roots or place.candidates(), "runs": runs, "processes": _processes(kept)}


def live(args: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs of this user that go on here, with what they claim: port-29500, gpu-0."""
    found = []
    for root in place.existing():
        for run, node in place.runs(root):
            directory = place.run_directory(root, run, node)
            if _standing(directory) is not None:
                claims = prepare.read_about(directory).get("claims", [])
                found.append({"run": run, "node": node, "claims": [str(claim) for claim in claims][:64]})
    return found[:32]


def is_kept(pid: int) -> bool:
    """Whether a process belongs to a run whose keeper lives."""
    return bool(procs.mark_of(pid)[0]) and _has_keeper(pid)


def leftovers(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Our own processes of runs: they carry FANOUT_RUN_ID or are a torchrun of this user; ``kept``: the run goes on."""
    mine = os.getuid()
    found: list[dict[str, Any]] = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            if os.stat("/proc/" + name).st_uid != mine:
                continue
            marks = read("/proc/%s/environ" % name, 1 << 18).split("\0")
            argv = read("/proc/%s/cmdline" % name).rstrip("\0").split("\0")
        except OSError:
            continue
        run = next((mark.partition("=")[2] for mark in marks if mark.startswith("FANOUT_RUN_ID=")), "")
        torchrun = any(os.path.basename(word) == "torchrun" for word in argv[:2]) or "torch.distributed.run" in argv[:4]
        if run or torchrun:
            found.append({"pid": int(name), "command": " ".join(argv)[:120], "run": run, "age": age_of(int(name))})
    for row in found:
        row["kept"] = is_kept(int(row["pid"]))
    return sorted(found, key=lambda row: int(row["pid"]))[:64]


def _run(root: str, run: str, node: int) -> dict[str, Any]:
    directory = place.run_directory(root, run, node)
    facts, standing = record.read_status(directory), _standing(directory)
    return {
        "run": run,
        "node": node,
        "directory": directory,
        "alive": standing is not None,
        "standing": standing or {},
        "about": prepare.read_about(directory),
        "phase": facts.get("phase", ""),
        "main": facts.get("main"),
        "keeper": facts.get("keeper"),
        "keeper_state": (procs.stat_of(facts.get("keeper", 0)) or [""])[0],
        "exited": facts.get("exited"),
        "left": [entry["pid"] for entry in facts.get("gone", {}).get("left", ())],
        "stopped": facts.get("stopped", ""),
        "bytes": _bytes(directory),
        "changed": round(record.age(directory), 1),
        "followed": standing is None and place.followed(directory),
    }


def _standing(directory: str) -> dict[str, Any] | None:
    """What the run's keeper says of itself; None where none answers."""
    keeper = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    keeper.settimeout(ANSWER_SECONDS)
    splitter = frames.Splitter()
    try:
        keeper.connect(prepare.socket_path(directory))
        while True:
            data = keeper.recv(65536)
            if not data:
                return None
            for message in splitter.feed(data):
                if isinstance(message, dict) and message["t"] == "standing":
                    return message
    except socket.timeout:
        return {"t": "standing", "relays": 0, "heard": None, "lease": None}  # it is there, and too busy to talk
    except (OSError, frames.BadFrame):
        return None
    finally:
        keeper.close()


def _bytes(directory: str) -> int:
    total = 0
    for where, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except OSError:
                continue
    return total


def _processes(kept: set[tuple[str, int]]) -> list[dict[str, Any]]:
    found = []
    for pid in procs.all_pids():
        run, node = procs.mark_of(pid)
        seen = procs.stat_of(pid)
        if not run or not seen or not procs.runs(pid, seen[0]) or pid == os.getpid():
            continue
        keeper = (run, node) in kept or _has_keeper(pid)
        if not keeper and not procs.is_running(pid, seen[3]):
            continue  # it ended while we looked: a shell in a loop has such children all the time
        found.append(dict(procs.describe(pid), run=run, node=node, start=seen[3], age=age_of(pid), kept=keeper))
    memory = _gpu_memory() if found else {}
    return [dict(process, gpu_mb=memory.get(process["pid"])) for process in found]


def _has_keeper(pid: int) -> bool:
    """Is a keeper above it? That lives then, wherever its directory is: nothing of its tree can get out from below it.

    Where a parent ends while we climb, its child has another one by then: we climb again, and what cannot be settled so
    is not proved to be nobody's.
    """
    for _ in range(CLIMBS):
        above = pid
        while above > 1:
            seen = procs.stat_of(above)
            if not seen:
                break
            above = seen[1]
            if KEEPER in procs.command_of(above):
                return True
        else:
            return False
        if not procs.stat_of(pid):
            return False
    return True


def _gpu_memory() -> dict[int, int]:
    """pid -> MiB of GPU memory, as nvidia-smi tells; {} where there is none."""
    argv = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(
            argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10
        ).stdout.decode()
    except (OSError, subprocess.SubprocessError):
        return {}
    memory: dict[int, int] = {}
    for line in text.splitlines():
        pid, _, used = line.partition(",")
        if pid.strip().isdigit() and used.strip().isdigit():
            memory[int(pid)] = memory.get(int(pid), 0) + int(used)
    return memory


def ask_clean(args: dict[str, Any]) -> dict[str, Any]:
    """End the listed processes and remove the listed directories, each only if its run has no keeper and no reader now; look again.

    ``args["runs"]`` are [run, node]; ``args["processes"]`` are [pid, start time], as ``ask_runs`` told them.
    """
    wanted = {(int(pid), int(start)) for pid, start in args["processes"]}
    ended = {(str(run), int(node)) for run, node in args["runs"]}
    kept = {(entry["run"], entry["node"]) for entry in ask_runs({})["runs"] if entry["alive"] or entry["followed"]}

    def find() -> list[int]:
        return [pid for pid, start in wanted if _ours(pid, start)]

    def of_run(run: str, node: int) -> Callable[[], list[int]]:
        return lambda: procs.marked(["FANOUT_RUN_ID=%s" % run, "FANOUT_NODE=%d" % node])

    killed, _ = sweep.kill_all(find, KILL_SECONDS)
    for root in place.existing():
        for run, node in place.runs(root):
            if (run, node) in ended - kept:
                more, left = sweep.kill_all(of_run(run, node), KILL_SECONDS)
                killed += more
                if not left:
                    place.remove_run(root, run, node)
        place.tidy(root)
    return dict(ask_runs({}), killed=killed)


def _ours(pid: int, start: int) -> bool:
    """Is it still the process that was listed, and nobody's?"""
    return procs.is_running(pid, start) and bool(procs.mark_of(pid)[0]) and not _has_keeper(pid)
