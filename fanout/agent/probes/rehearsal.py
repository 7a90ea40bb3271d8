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
from .launcher_file import read_launcher_file
from .probe_tools import FactUnavailable, read_or_empty, read_start

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

RECORDED = 86  # the recorder's exit status: neither a shell nor torchrun uses it
_SECONDS = 6.0
_LARGEST = 64 << 20  # bytes that the script may write into one file of the sandbox
_DETACHERS = ("nohup", "setsid", "disown", "tmux", "screen", "ssh", "pdsh", "at")  # disown is a builtin of bash
_NOT_RUN = ("tmux", "screen", "at")  # they would start the ranks where the recorder does not see their end
_VARIABLES = ("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "NPROC_PER_NODE", "PYTHONPATH", "OMP_NUM_THREADS")

_ERROR = re.compile(
    r"(?:line \d+|\b\d+): .*(?:No such file or directory|Not a directory|Is a directory|Permission denied|not found|syntax error"
    r"|unexpected|unbound variable|cannot execute|bad interpreter|parameter (?:null or )?not set)"
)
_PYTHON_ERROR = re.compile(
    r"^(?:ModuleNotFoundError|ImportError|FileNotFoundError|NotADirectoryError|CondaError): |can't open file|Run 'conda init'"
)
_HIDDEN = re.compile(r"(?: |^|')(?:/run|/var/run|/dev/shm)/")

_RECORDER_DIR = sandbox.INSIDE + "/stage"
_PROGRAMS, _LIBRARY, _RECORDS = _RECORDER_DIR + "/bin", _RECORDER_DIR + "/lib", _RECORDER_DIR + "/records"

# Writes the command and its environment. Each file is moved into place, so no reader sees half of one. A background
# process of a shell without job control ignores SIGINT: it lives a second longer, and then sees whether the script has
# ended without it. A subcommand that starts no ranks has no effect.
_RECORDER = """#!/bin/sh
%(filter)s
mkdir -p %(records)s
printf '%%s\\0' "$FANOUT_PLAYED_BY" "$PWD" "$0" "$@" > %(records)s/$$.part
cat /proc/self/environ > %(records)s/$$.env
mv %(records)s/$$.part %(records)s/$$.argv
case "$(grep SigIgn /proc/$$/status)" in
  *[2367abefABEF]) sleep 1; [ ! -e %(records)s/ended ] || ln %(records)s/$$.argv %(records)s/$$.left ;;
esac
exit %(status)d
"""

# A program that may detach the ranks from the script: it is recorded, and then starts as usual. git and rsync use ssh too.
_DETACHER = """#!/bin/sh
others= IFS=:
for folder in $PATH; do [ "$folder" = %(programs)s ] || others="$others:$folder"; done
unset IFS
real=$(PATH=$others; command -v "${0##*/}") || { echo "${0##*/}: command not found" >&2; exit 127; }
read parent < /proc/$PPID/comm
case "$parent" in git*|rsync|scp|sftp|sshfs) exec "$real" "$@" ;; esac
back=; case "$(grep SigIgn /proc/$$/status)" in *[2367abefABEF]) back=1 ;; esac
mkdir -p %(records)s
printf '%%s\\0' "$back" "$0" "$@" > %(records)s/$$.hidden
mv %(records)s/$$.hidden %(records)s/$$.detached
case "${0##*/}" in %(not_run)s) exit 0 ;; esac
exec "$real" "$@"
"""

# A python on PATH: a call that would start the training is recorded; any other call runs the real python.
_PYTHON = """#!/bin/sh
others= IFS=:
for folder in $PATH; do [ "$folder" = %(programs)s ] || others="$others:$folder"; done
unset IFS
real=$(PATH=$others; command -v "${0##*/}") || exit 127
before=
for word do
  case "$before $word" in
%(modules)s
    " $FANOUT_TASK" | "-u $FANOUT_TASK" | "-m $FANOUT_TASK") export FANOUT_PLAYED_BY="$real"; exec %(programs)s/task "$@" ;;
  esac
  before=$word
done
exec "$real" "$@"
"""

# Every bash reads it first: an environment that the script activates must not precede the recorder on PATH.
_BASH = """
[ -z "$FANOUT_BASH_ENV" ] || . "$FANOUT_BASH_ENV"
trap 'case "$PATH" in %(programs)s:*) ;; *) PATH=%(programs)s:$PATH ;; esac
case "$BASH_COMMAND" in disown*) mkdir -p %(records)s; printf "1\\0disown\\0" > %(records)s/disown.detached ;; esac' DEBUG
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
    os.execv("%(programs)s/" + %(modules)r[module], [module] + words)
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
    launchers = args["launchers"]
    _install_recorder(launchers)
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
    calls = _read_calls(pythons, launchers)
    return {
        "errors": _find_errors(os.pread(output, 1 << 20, 0).decode("utf-8", "replace"), args["argv"]),
        "status": status,
        "seconds": round(time.monotonic() - began, 2),
        "calls": calls[-4:],
        "count": len(calls),
        "detached": _read_detached(),
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


def _install_recorder(launchers: dict[str, Any]) -> None:
    for folder in (_PROGRAMS, _LIBRARY, _RECORDS):
        os.makedirs(folder)
    for name in (*launchers, "task"):
        starts = launchers.get(name, {}).get("starts")
        only = 'case "$1" in -*|%s) ;; *) exit 0 ;; esac' % "|".join(starts) if starts else ""
        values = {"filter": only, "records": _RECORDS, "status": RECORDED}
        _write_program(_PROGRAMS + "/" + name, _RECORDER % values)
    owners = {module: name for name, row in launchers.items() for module in row["modules"]}
    cases = "\n".join(
        '    "-m %s") export FANOUT_PLAYED_BY="$real"; exec %s/%s "$@" ;;' % (module, _PROGRAMS, name)
        for module, name in owners.items()
    )
    for name in ("python", "python3"):
        _write_program(_PROGRAMS + "/" + name, _PYTHON % {"programs": _PROGRAMS, "modules": cases})
    names = {"programs": _PROGRAMS, "records": _RECORDS, "not_run": "|".join(_NOT_RUN)}
    for name in _DETACHERS:
        _write_program(_PROGRAMS + "/" + name, _DETACHER % names)
    _write_program(_LIBRARY + "/bash", _BASH % names)
    customize = {"programs": _PROGRAMS, "launchers": tuple(launchers), "modules": owners}
    _write_program(_LIBRARY + "/sitecustomize.py", _CUSTOMIZE % customize)


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
            _write_program(_RECORDS + "/ended", "")  # a launcher that sees it was left behind by the script
        if pid:
            continue
        left = deadline - time.monotonic()
        if left <= 0 or not signal.sigtimedwait([signal.SIGCHLD], left):
            return status


def _list_records(suffix: str) -> list[str]:
    """Return the paths of the recorder's files of one kind, in the order of the calls."""
    names = os.listdir(_RECORDS) if os.path.isdir(_RECORDS) else []
    paths = [os.path.join(_RECORDS, name) for name in names if name.endswith(suffix)]
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


def _list_left_launchers() -> list[str]:
    """Return the launchers that were still alive when the script had ended: it did not wait for them."""
    return [os.path.basename(read_start(path).split("\0")[2]) for path in _list_records(".left")]


def _find_real_program(called: str, cwd: str, path: str) -> str:
    """Return the program that a run would start here: the one that the recorder covers, else the first on the script's
    PATH."""
    if os.path.dirname(called) != _PROGRAMS:
        return os.path.join(cwd, called)
    return which(os.path.basename(called), _strip_recorder_dirs(path))


def _strip_recorder_dirs(path: str) -> str:
    """Return a list of directories without those of the recorder."""
    return ":".join(folder for folder in path.split(":") if folder not in (_PROGRAMS, _LIBRARY))
