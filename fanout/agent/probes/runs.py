"""Runs of this user on this host: lists live runs and what ended runs left behind, and removes the latter.

A process is killed only with proof that it is ours: it has our uid, its environment carries a run's mark, and that run
has no live keeper. A keeper is live if its socket answers; a file with a pid proves nothing.
"""

from __future__ import annotations

import os
import socket

from .. import frames, kill_sweep, prepare, processes, run_files, smi, state_dir
from .created_containers import list_containers, remove_containers
from .host import read_age
from .other_runs import list_other_runs
from .probe_tools import FactUnavailable, ToolProcess, read_start

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Callable

AGENT_MARK = "@%s READY"  # part of the command line of every agent
ANSWER_SECONDS = 3.0
KILL_SECONDS = 20.0
MAX_CLIMBS = 10


def ask_runs(args: dict[str, Any]) -> dict[str, Any]:
    """Return every run with a directory here, every process of a run, live or ended, the containers that fanout created,
    and the runs of other users."""
    roots = state_dir.list_state_dirs()
    runs = _describe_runs(roots)
    kept = {(entry["run"], entry["node"]) for entry in runs if entry["alive"]}
    created, silent = list_containers()
    return {
        "created": created,
        "silent_engines": silent,
        "searched": roots or state_dir.list_candidates(),
        "runs": runs,
        "processes": _list_processes(kept),
        "others": list_other_runs({}),
        "container": processes.is_in_container(),
    }


def list_live(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return this user's live runs here, with their claims (port-29500, gpu-0)."""
    found = []
    for root in state_dir.list_state_dirs():
        for run, node in state_dir.list_runs(root):
            directory = state_dir.run_path(root, run, node)
            if _query_keeper(directory) is not None:
                claims = prepare.read_run_info(directory).get("claims", [])
                found.append({"run": run, "node": node, "claims": [str(claim) for claim in claims][:64]})
    return found[:32]


def has_live_keeper(directory: str) -> bool:
    """Return whether the keeper of the run in this directory is alive."""
    return _query_keeper(directory) is not None


def is_kept(pid: int) -> bool:
    """Return whether a process belongs to a run with a live keeper."""
    return bool(processes.read_mark(pid)[0]) and _has_keeper(pid)


def find_leftovers(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return this user's processes with FANOUT_RUN_ID, and its torchruns. ``kept``: the run has a live keeper."""
    mine = os.getuid()
    found: list[dict[str, Any]] = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            if os.stat("/proc/" + name).st_uid != mine:
                continue
            marks = read_start("/proc/%s/environ" % name, 1 << 18).split("\0")
            argv = read_start("/proc/%s/cmdline" % name).rstrip("\0").split("\0")
        except OSError:
            continue
        run = next((mark.partition("=")[2] for mark in marks if mark.startswith("FANOUT_RUN_ID=")), "")
        torchrun = any(os.path.basename(word) == "torchrun" for word in argv[:2]) or "torch.distributed.run" in argv[:4]
        if run or torchrun:
            found.append({"pid": int(name), "command": " ".join(argv)[:120], "run": run, "age": read_age(int(name))})
    for row in found:
        row["kept"] = is_kept(int(row["pid"]))
    return sorted(found, key=lambda row: int(row["pid"]))[:64]


def _describe_runs(roots: list[str]) -> list[dict[str, Any]]:
    return [_describe_run(root, run, node) for root in roots for run, node in state_dir.list_runs(root)]


def _describe_run(root: str, run: str, node: int) -> dict[str, Any]:
    directory = state_dir.run_path(root, run, node)
    facts, status = run_files.read_status(directory), _query_keeper(directory)
    other_version = run_files.has_other_version(facts)
    if other_version:  # only what every version has: the rest may have other names or meanings
        facts = {"keeper": int(facts.get("keeper", 0))}
    return {
        "run": run,
        "node": node,
        "directory": directory,
        "alive": status is not None,
        "keeper_status": status or {},
        "other_version": other_version,
        "run_info": {} if other_version else prepare.read_run_info(directory),
        "phase": facts.get("phase", ""),
        "main": facts.get("main"),
        "keeper": facts.get("keeper"),
        "keeper_state": (processes.read_stat(facts.get("keeper", 0)) or [""])[0],
        "exited": facts.get("exited"),
        "left": [entry["pid"] for entry in facts.get("cleaned_up", {}).get("left", ())],
        "stopped": facts.get("stopped", ""),
        "bytes": _measure_bytes(directory),
        "changed": round(run_files.read_age(directory), 1),
        "followed": status is None and state_dir.is_record_read(directory),
    }


def _query_keeper(directory: str) -> dict[str, Any] | None:
    """Return the keeper's own status of the run; None if no keeper answers. It is empty for one of another version."""
    keeper = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    keeper.settimeout(ANSWER_SECONDS)
    splitter = frames.FrameSplitter()
    try:
        keeper.connect(run_files.open_socket_path(directory))
        while True:
            data = keeper.recv(65536)
            if not data:
                return None
            for message in splitter.feed(data):
                is_known = isinstance(message, dict) and message.get("v") == frames.PROTOCOL_VERSION
                return message if is_known else {}
    except socket.timeout:
        return {}  # too busy to answer
    except (OSError, frames.BadFrame):
        return None
    finally:
        keeper.close()


def _measure_bytes(directory: str) -> int:
    total = 0
    for where, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except OSError:
                continue
    return total


def _list_processes(kept: set[tuple[str, int]]) -> list[dict[str, Any]]:
    found = []
    for pid in processes.list_pids():
        run, node = processes.read_mark(pid)
        seen = processes.read_stat(pid)
        if not run or not seen or not processes.has_live_thread(pid, seen[0]) or pid == os.getpid():
            continue
        keeper = (run, node) in kept or _has_keeper(pid)
        if not keeper and not processes.is_running(pid, seen[3]):
            continue  # it ended meanwhile: a shell loop has such children all the time
        found.append(
            dict(processes.describe_process(pid), run=run, node=node, start=seen[3], age=read_age(pid), kept=keeper)
        )
    memory = _read_gpu_memory() if found else {}
    return [dict(process, gpu_mb=memory.get(process["pid"])) for process in found]


def _has_keeper(pid: int) -> bool:
    """Return whether a keeper is an ancestor of the process. Nothing of a keeper's tree can leave it.

    If a parent ends during the climb, its child gets another parent, so the climb starts again. If the climbs do not
    settle it, the process counts as kept: it is not proven to be an orphan.
    """
    for _ in range(MAX_CLIMBS):
        above = pid
        while above > 1:
            seen = processes.read_stat(above)
            if not seen:
                break
            above = seen[1]
            if AGENT_MARK in processes.read_command(above):
                return True
        else:
            return False
        if not processes.read_stat(pid):
            return False
    return True


def _read_gpu_memory() -> dict[int, int]:
    """Return pid -> MiB of GPU memory from nvidia-smi; {} if there is none."""
    _, tool = smi.find_tool(("nvidia-smi",), os.environ.get("PATH") or os.defpath)
    if not tool:
        return {}
    argv = [tool, *smi.build_nvidia_query(("pid", "used_memory"), "compute-apps")]
    try:
        _, text = ToolProcess(argv, dict(os.environ, LC_ALL="C"), 10.0).get_output()
    except FactUnavailable:
        return {}
    memory: dict[int, int] = {}
    for pid, used in smi.split_nvidia_rows(text, 2):
        if pid.isdigit() and used.isdigit():
            memory[int(pid)] = memory.get(int(pid), 0) + int(used)
    return memory


def ask_clean(args: dict[str, Any]) -> dict[str, Any]:
    """Kill the listed processes and delete the listed directories, only for runs without keeper or reader; then list
    again.

    ``args["runs"]`` are [run, node], ``args["processes"]`` are [pid, start time], and ``args["containers"]`` are [engine,
    name], as ``ask_runs`` returned them.
    """
    wanted = {(int(pid), int(start)) for pid, start in args["processes"]}
    ended = {(str(run), int(node)) for run, node in args["runs"]}
    runs = _describe_runs(state_dir.list_state_dirs())
    kept = {(entry["run"], entry["node"]) for entry in runs if entry["alive"] or entry["followed"]}

    def find() -> list[int]:
        return [pid for pid, start in wanted if _is_orphan(pid, start)]

    def of_run(run: str, node: int) -> Callable[[], list[int]]:
        return lambda: processes.find_marked(["FANOUT_RUN_ID=%s" % run, "FANOUT_NODE=%d" % node])

    killed, _ = kill_sweep.kill_all(find, KILL_SECONDS)
    for root in state_dir.list_state_dirs():
        for run, node in state_dir.list_runs(root):
            if (run, node) in ended - kept:
                more, left = kill_sweep.kill_all(of_run(run, node), KILL_SECONDS)
                killed += more
                if not left:
                    state_dir.remove_run(root, run, node)
        state_dir.remove_stale_files(root)
    if args.get("containers"):
        remove_containers([list(map(str, each)) for each in args["containers"]])
    return dict(ask_runs({}), killed=killed)


def _is_orphan(pid: int, start: int) -> bool:
    """Return whether the pid is still the listed process, and an orphan."""
    return processes.is_running(pid, start) and bool(processes.read_mark(pid)[0]) and not _has_keeper(pid)
