"""Rehearsal: runs the real train.sh in a sandbox in which a recorder replaces torchrun and logs how it was called.

The recorder stays first on PATH, even if the script activates an environment. It covers every known torchrun on this
host, and every Python that PYTHONPATH reaches loads it. It exits with its own status, which shows whether train.sh
passes it on. A call that bypasses all three runs in a sandbox without network, for a few seconds.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import time

from .. import spawn
from ..outside_calls import OutsideWatch
from . import recorder, sandbox
from .files import find_elsewhere, find_python, which
from .launcher_file import read_launcher_file
from .probe_tools import FactUnavailable, read_or_empty, read_start

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

_SECONDS = 6.0
_LARGEST = 64 << 20  # bytes that the script may write into one file of the sandbox
_MOST_CALLS = 16
_VARIABLES = (
    "NNODES",
    "NODE_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "NPROC_PER_NODE",
    "PYTHONPATH",
    "OMP_NUM_THREADS",
    "RANK",
    "WORLD_SIZE",
)
#: What the text of a program names if it starts ranks, or is one.
_MARKS = (
    "NNODES",
    "NODE_RANK",
    "MASTER_ADDR",
    "WORLD_SIZE",
    "init_process_group",
    "accelerate",
    "lightning",
    "deepspeed",
)

_ERROR = re.compile(
    r"(?:line \d+|\b\d+): .*(?:No such file or directory|Not a directory|Is a directory|Permission denied|not found|syntax error"
    r"|unexpected|unbound variable|cannot execute|bad interpreter|parameter (?:null or )?not set)"
)
_PYTHON_ERROR = re.compile(
    r"^(?:ModuleNotFoundError|ImportError|FileNotFoundError|NotADirectoryError|CondaError): |can't open file|Run 'conda init'"
)
_HIDDEN = re.compile(r"(?: |^|')(?:/run|/var/run|/dev/shm)/")


def ask_rehearse(args: dict[str, Any]) -> dict[str, Any]:
    """Return how train.sh calls torchrun, with exactly the command line, directory and environment of a run."""
    cwd = os.path.expanduser(args["cwd"])
    if not os.path.isdir(cwd):
        raise FactUnavailable("no directory %s" % cwd)
    env = spawn.build_environment(dict(os.environ), args["env"], cwd)
    result_file = os.memfd_create("rehearsal")
    known_programs = find_elsewhere("torchrun", {"workdir": cwd})

    def act() -> dict[str, Any]:
        return _run_rehearsal(args, cwd, env, known_programs)

    def write_result(result: dict[str, Any]) -> None:
        os.write(result_file, json.dumps(result).encode())

    sandbox.run_sandboxed([cwd, os.path.expanduser("~")], act, write_result)
    answer: dict[str, Any] = json.loads(os.pread(result_file, 1 << 20, 0).decode())
    return answer


def _run_rehearsal(args: dict[str, Any], cwd: str, env: dict[str, str], known_programs: list[str]) -> dict[str, Any]:
    """Install the recorder in the sandbox, run the script until it ends or times out, and return what was recorded."""
    launchers = args["launchers"]
    recorder.install_recorder(launchers)
    known = [program for program in [which("torchrun", env.get("PATH", "")), *known_programs] if program]
    pythons = {os.path.realpath(program): find_python(program) for program in known}  # read before it is covered
    for program in known:
        sandbox.cover_program(program, recorder.PROGRAMS + "/torchrun")
    recorder.cover_detachers(env.get("PATH", os.defpath))
    script_env = dict(env, FANOUT_TASK=args["task"], FANOUT_PLAYED_BY="", FANOUT_BASH_ENV=env.get("BASH_ENV", ""))
    script_env["BASH_ENV"] = recorder.LIBRARY + "/bash"
    script_env["PATH"] = recorder.PROGRAMS + ":" + env.get("PATH", os.defpath)
    script_env["PYTHONPATH"] = recorder.LIBRARY + ":" + env.get("PYTHONPATH", "")
    output = os.memfd_create("rehearsal")
    began = time.monotonic()
    hidden = spawn.sets_path(args["env"])
    status = _run_script(args["argv"], script_env, cwd, output, float(args.get("seconds", _SECONDS)), hide_path=hidden)
    calls = _read_calls(pythons, launchers)
    return {
        "errors": _find_errors(os.pread(output, 1 << 20, 0).decode("utf-8", "replace"), args["argv"]),
        "status": status,
        "seconds": round(time.monotonic() - began, 2),
        "calls": calls[-_MOST_CALLS:],
        "count": len(calls),
        "detached": _read_detached(),
        "named": _find_outside_calls(args["argv"], cwd),
        "programs": _read_programs(),
        "left": _list_left_launchers(),
        "words": os.pread(output, 1 << 20, max(0, os.fstat(output).st_size - 2000)).decode("utf-8", "replace")[-400:],
    }


def _find_errors(text: str, argv: list[str]) -> list[str]:
    """Return the shell's errors about the script's lines: missing files or programs, syntax errors.

    In the sandbox /run and /dev/shm are empty. So a file that is missing there may exist in a run.
    """
    files = {os.path.basename(word) for word in argv if word.endswith((".sh", ".bash"))} or {"bash"}
    found = []
    for line in text.splitlines():
        is_error = any(file in line for file in files) and _ERROR.search(line)
        if (is_error or _PYTHON_ERROR.search(line)) and not _HIDDEN.search(line):
            found.append(line.strip()[:200])
    return list(dict.fromkeys(found))[:5]


def _run_script(
    argv: list[str], env: dict[str, str], cwd: str, output: int, seconds: float, *, hide_path: bool
) -> int | None:
    """Return the script's exit status (128 and more for a signal); None on timeout. As its init, our end kills all of
    it."""
    deadline = time.monotonic() + seconds
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST, _LARGEST))
    script, began = spawn.start_process(argv, env, cwd, output, hide_path=hide_path)
    with open(began, "rb") as file:
        trouble = file.read()
    if trouble:
        raise FactUnavailable(json.loads(trouble.decode())["why"])
    status = None
    while True:
        try:
            pid, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status  # and no process is left that could call the recorder
        if pid == script:
            status = 128 + os.WTERMSIG(code) if os.WIFSIGNALED(code) else os.WEXITSTATUS(code)
            recorder.write_program(
                recorder.RECORDS + "/ended", ""
            )  # a launcher that sees it was left behind by the script
        if pid:
            continue
        left = deadline - time.monotonic()
        if left <= 0 or not signal.sigtimedwait([signal.SIGCHLD], left):
            return status


def _list_records(suffix: str) -> list[str]:
    """Return the paths of the recorder's files of one kind, in the order of the calls."""
    names = os.listdir(recorder.RECORDS) if os.path.isdir(recorder.RECORDS) else []
    paths = [os.path.join(recorder.RECORDS, name) for name in names if name.endswith(suffix)]
    return sorted(paths, key=lambda path: os.stat(path).st_mtime_ns)


def _read_calls(pythons: dict[str, str], launchers: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the recorder wrote, in the order of the calls."""
    found = []
    variables = {name for row in launchers.values() for name in row["variables"]}.union(_VARIABLES)
    for path in _list_records(".argv"):
        by, cwd, called, *words = read_start(path).split("\0")[:-1]
        pairs = (pair.partition("=") for pair in read_or_empty(path[:-5] + ".env").split("\0"))
        env = {key: value for key, _, value in pairs}
        program, real = os.path.basename(called), by or _find_real_program(called, cwd, env.get("PATH", ""))
        call = {
            "program": program,
            "argv": [word[:300] for word in words[:60]],
            "cwd": cwd,
            "real": real,
            "python": by or pythons.get(os.path.realpath(real)) or find_python(real),
            "env": {
                key: _strip_recorder_dirs(value)[:3000]
                for key, value in env.items()
                if key in variables or key.startswith("PET_")
            },
        }
        file = read_launcher_file(words, cwd, env, launchers[program]) if program in launchers else None
        found.append(dict(call, file=file) if file else call)
    return found


def _read_detached() -> list[dict[str, Any]]:
    """Return the calls of programs that may detach the ranks from the script."""
    found = []
    for path in _list_records(".detached"):
        back, called, *words = read_start(path).split("\0")[:-1]
        row = {
            "program": os.path.basename(called),
            "argv": [word[:100] for word in words[:8]],
            "background": bool(back),
        }
        found.append(row)
    return found[:8]


def _find_outside_calls(argv: list[str], cwd: str) -> list[str]:
    """Return the calls in the text of the script that start processes outside its tree, in branches without effect too."""
    watch = OutsideWatch()
    watch.read_script(argv, cwd)
    return watch.calls


def _read_programs() -> list[dict[str, Any]]:
    """Return the Python programs that are no launcher known to fanout, in order, and what the text of each names."""
    found = []
    for path in _list_records(".python"):
        cwd, module, program, *_ = read_start(path).split("\0")
        text = read_or_empty(os.path.join(cwd, program), 1 << 18) if program else ""
        marks = [mark for mark in _MARKS if mark in text]
        found.append({"name": (module or program)[:300], "marks": marks})
    return found[-8:]


def _list_left_launchers() -> list[str]:
    """Return the launchers that were still alive when the script had ended: it did not wait for them."""
    return [os.path.basename(read_start(path).split("\0")[2]) for path in _list_records(".left")]


def _find_real_program(called: str, cwd: str, path: str) -> str:
    """Return the program that a run would start here: the one that the recorder covers, else the first on the script's
    PATH."""
    if os.path.dirname(called) != recorder.PROGRAMS:
        return os.path.join(cwd, called)
    return which(os.path.basename(called), _strip_recorder_dirs(path))


def _strip_recorder_dirs(path: str) -> str:
    """Return a list of directories without those of the recorder."""
    return ":".join(folder for folder in path.split(":") if folder not in (recorder.PROGRAMS, recorder.LIBRARY))
