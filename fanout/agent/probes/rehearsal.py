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
from . import sandbox
from .files import find_elsewhere, find_python, which
from .probe_tools import FactUnavailable, read_or_empty, read_start

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

RECORDED = 86  # the recorder's exit status: neither a shell nor torchrun uses it
_SECONDS = 6.0
_LARGEST = 64 << 20  # bytes that the script may write into one file of the sandbox
_LAUNCHERS = ("torchrun", "accelerate", "deepspeed", "llamafactory-cli", "colossalai", "mpirun", "mpiexec", "srun")
_MODULES = (
    "torch.distributed.run",
    "torch.distributed.launch",
    "accelerate.commands.launch",
    "deepspeed.launcher.runner",
)
_VARIABLES = ("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "NPROC_PER_NODE", "PYTHONPATH", "OMP_NUM_THREADS")

_ERROR = re.compile(
    r"(?:line \d+|\b\d+): .*(?:No such file or directory|Not a directory|Is a directory|Permission denied|not found|syntax error"
    r"|unexpected|unbound variable|cannot execute|bad interpreter|parameter (?:null or )?not set)"
)
_HIDDEN = re.compile(r"(?: |^)(?:/run|/var/run|/dev/shm)/")

_RECORDER_DIR = sandbox.INSIDE + "/stage"
_PROGRAMS, _LIBRARY, _RECORDS = _RECORDER_DIR + "/bin", _RECORDER_DIR + "/lib", _RECORDER_DIR + "/records"

# Writes the command and its environment. Each file is moved into place, so no reader sees half of one.
_RECORDER = """#!/bin/sh
mkdir -p %(records)s
printf '%%s\\0' "$FANOUT_PLAYED_BY" "$PWD" "$0" "$@" > %(records)s/$$.part
cat /proc/self/environ > %(records)s/$$.env
mv %(records)s/$$.part %(records)s/$$.argv
exit %(status)d
""" % {"records": _RECORDS, "status": RECORDED}

# A python on PATH: a call that would start the training is recorded; any other call runs the real python.
_PYTHON = """#!/bin/sh
others= IFS=:
for folder in $PATH; do [ "$folder" = %(programs)s ] || others="$others:$folder"; done
unset IFS
real=$(PATH=$others; command -v "${0##*/}") || exit 127
before=
for word do
  case "$before $word" in
    %(modules)s) export FANOUT_PLAYED_BY="$real"; exec %(programs)s/torchrun "$@" ;;
    " $FANOUT_TASK" | "-u $FANOUT_TASK") export FANOUT_PLAYED_BY="$real"; exec %(programs)s/task "$@" ;;
  esac
  before=$word
done
exec "$real" "$@"
"""

# Every bash reads it first: an environment that the script activates must not precede the recorder on PATH.
_BASH = """
[ -z "$FANOUT_BASH_ENV" ] || . "$FANOUT_BASH_ENV"
trap 'case "$PATH" in %(programs)s:*) ;; *) PATH=%(programs)s:$PATH ;; esac' DEBUG
"""

# For any Python with our PYTHONPATH: checks its command line before it imports anything of torch.
_CUSTOMIZE = """
import os, sys
words = open("/proc/self/cmdline", "rb").read().decode("utf-8", "replace").split("\\0")[1:-1]
name = os.path.basename(words[0]) if words else ""
module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
task = next((word for word in words if not word.startswith("-")), "")
os.environ["FANOUT_PLAYED_BY"] = sys.executable
if name in %(launchers)r:
    os.execv("%(programs)s/" + name, words)
if module in %(modules)r:
    os.execv("%(programs)s/torchrun", [module] + words)
if task == os.environ.get("FANOUT_TASK") and "-c" not in words:
    os.execv("%(programs)s/task", ["task"] + words)
del os.environ["FANOUT_PLAYED_BY"]
"""


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
    _install_recorder()
    known = [program for program in [which("torchrun", env.get("PATH", "")), *known_programs] if program]
    pythons = {os.path.realpath(program): find_python(program) for program in known}  # read before it is covered
    for program in known:
        sandbox.cover_program(program, _PROGRAMS + "/torchrun")
    script_env = dict(env, FANOUT_TASK=args["task"], FANOUT_PLAYED_BY="", FANOUT_BASH_ENV=env.get("BASH_ENV", ""))
    script_env["BASH_ENV"] = _LIBRARY + "/bash"
    script_env["PATH"] = _PROGRAMS + ":" + env.get("PATH", os.defpath)
    script_env["PYTHONPATH"] = _LIBRARY + ":" + env.get("PYTHONPATH", "")
    output = os.memfd_create("rehearsal")
    began = time.monotonic()
    hidden = spawn.sets_path(args["env"])
    status = _run_script(args["argv"], script_env, cwd, output, float(args.get("seconds", _SECONDS)), hide_path=hidden)
    calls = _read_calls(pythons)
    return {
        "errors": _find_errors(os.pread(output, 1 << 20, 0).decode("utf-8", "replace"), args["argv"]),
        "status": status, "seconds": round(time.monotonic() - began, 2), "calls": calls[:4], "count": len(calls),
        "words": os.pread(output, 1 << 20, max(0, os.fstat(output).st_size - 2000)).decode("utf-8", "replace")[-400:],
    }  # fmt: skip


def _find_errors(text: str, argv: list[str]) -> list[str]:
    """Return the shell's errors about the script's lines: missing files or programs, syntax errors.

    In the sandbox /run and /dev/shm are empty. So a file that is missing there may exist in a run.
    """
    files = {os.path.basename(word) for word in argv if word.endswith((".sh", ".bash"))} or {"bash"}
    found = []
    for line in text.splitlines():
        if any(file in line for file in files) and _ERROR.search(line) and not _HIDDEN.search(line):
            found.append(line.strip()[:200])
    return list(dict.fromkeys(found))[:5]


def _install_recorder() -> None:
    for folder in (_PROGRAMS, _LIBRARY, _RECORDS):
        os.makedirs(folder)
    for name in (*_LAUNCHERS, "task"):
        _write_program(_PROGRAMS + "/" + name, _RECORDER)
    modules = " | ".join("'-m %s'" % module for module in _MODULES).replace("'", '"')
    names = {"launchers": _LAUNCHERS, "modules": _MODULES, "programs": _PROGRAMS}
    for name in ("python", "python3"):
        _write_program(_PROGRAMS + "/" + name, _PYTHON % dict(names, modules=modules))
    _write_program(_LIBRARY + "/bash", _BASH % names)
    _write_program(_LIBRARY + "/sitecustomize.py", _CUSTOMIZE % names)


def _write_program(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o755)


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
        if pid:
            continue
        left = deadline - time.monotonic()
        if left <= 0 or not signal.sigtimedwait([signal.SIGCHLD], left):
            return status


def _read_calls(pythons: dict[str, str]) -> list[dict[str, Any]]:
    """Return what the recorder wrote, in the order of the calls."""
    found = []
    names = [name for name in os.listdir(_RECORDS) if name.endswith(".argv")] if os.path.isdir(_RECORDS) else []
    for name in sorted(names, key=lambda name: os.stat(os.path.join(_RECORDS, name)).st_mtime_ns):
        path = os.path.join(_RECORDS, name)
        by, cwd, called, *words = read_start(path).split("\0")[:-1]
        pairs = (pair.partition("=") for pair in read_or_empty(path[:-5] + ".env").split("\0"))
        env = {key: value for key, _, value in pairs}
        program, real = os.path.basename(called), by or _find_real_program(called, cwd, env.get("PATH", ""))
        found.append({
            "program": program, "argv": [word[:300] for word in words[:60]], "cwd": cwd, "real": real,
            "python": by or pythons.get(os.path.realpath(real)) or find_python(real),
            "env": {key: _strip_recorder_dirs(value)[:3000] for key, value in env.items() if _is_recorded_variable(key)},
        })  # fmt: skip
    return found


def _is_recorded_variable(key: str) -> bool:
    return key in _VARIABLES or key.startswith("PET_")


def _find_real_program(called: str, cwd: str, path: str) -> str:
    """Return the program that a run would start here: the one that the recorder covers, else the first on the script's
    PATH."""
    if os.path.dirname(called) != _PROGRAMS:
        return os.path.join(cwd, called)
    return which(os.path.basename(called), _strip_recorder_dirs(path))


def _strip_recorder_dirs(path: str) -> str:
    """Return a list of directories without those of the recorder."""
    return ":".join(folder for folder in path.split(":") if folder not in (_PROGRAMS, _LIBRARY))
