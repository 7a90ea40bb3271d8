"""Start of train.sh: its environment, its working directory, and an execve that reports why it failed.

The environment is that of the login, then the plan's entries. A plan entry is text, or an object. {"before": […],
"after": […]} is for a list of directories such as PATH and PYTHONPATH; relative ones are below the work directory.
{"default": text} counts only if the login sets no value. An object with "if": path counts only if that path exists.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal

F_SETPIPE_SZ = 1031  # linux/fcntl.h; Python has it from 3.10 on
PIPE_BYTES = 1 << 20  # the most that a user may request (fs.pipe-max-size)
PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None, use_errno=True)

# sshd's variables make Debian's bash read .bashrc for each `bash -c`: its output would go into the training log.
DROPPED_VARIABLES = ("SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "SSH_AUTH_SOCK", "SSH_ORIGINAL_COMMAND", "FANOUT_STATE")


def make_pipe() -> tuple:
    """Return the pipe for a run's output, (read end, write end): large, so that the ends rarely wait."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    try:
        fcntl.fcntl(write, F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        pass  # the user's pipe limit is reached: the pipe keeps its default of 64 KB
    return read, write


def build_environment(login: dict, plan: dict, cwd: str) -> dict:
    """Return train.sh's environment: ``login`` with the plan's entries resolved in ``cwd``."""
    env = {name: value for name, value in login.items() if name not in DROPPED_VARIABLES}
    env["PWD"] = cwd
    for name, value in plan.items():
        if not isinstance(value, dict):
            env[name] = value
        elif "if" in value and not os.path.exists(os.path.join(cwd, value["if"])):
            continue
        elif "default" in value:
            env[name] = env.get(name) or value["default"]
        else:
            env[name] = _join_paths(env.get(name, ""), value, cwd)
    return env


def _join_paths(present: str, value: dict, cwd: str) -> str:
    before = [os.path.join(cwd, entry) if entry else cwd for entry in value.get("before", ())]
    after = [os.path.join(cwd, entry) if entry else cwd for entry in value.get("after", ())]
    return ":".join(before + ([present] if present else []) + after)


def sets_path(plan: dict) -> bool:
    """Return whether the user gave PATH a value for the run: no message may hold it."""
    return isinstance(plan.get("PATH"), str)


def find_program(name: str, env: dict, cwd: str, *, hide_path: bool = False) -> str:
    """Return the file that execve shall get. Raises OSError as a shell sees it (127 not found, 126 not runnable).

    With ``hide_path`` no error holds a directory of PATH.
    """
    if "/" in name:
        return os.path.join(cwd, name)
    blocked = ""
    for directory in env.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":"):
        path = os.path.join(cwd, directory, name)
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            blocked = blocked or path
    if blocked:
        raise PermissionError(13, "Permission denied", name if hide_path else blocked)
    shown = "the value that the run sets" if hide_path else env.get("PATH", "")
    raise FileNotFoundError(2, "not found on PATH (%s)" % shown, name)


def start_process(argv: list, env: dict, cwd: str, output: int, *, hide_path: bool = False) -> tuple:
    """Fork and execve in a new session, stdout and stderr into ``output``; return the pid and a pipe.

    The pipe closes when execve has succeeded; otherwise it contains, as JSON, how the start ended. That may take long,
    because the working directory may be on an unresponsive file server. PDEATHSIG is bound to the *thread* that forked,
    so call this from the main thread.
    """
    trouble_read, trouble_write = os.pipe()
    keeper = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _exec_program(argv, env, cwd, output, keeper, hide_path=hide_path)
        except Exception as error:  # a failed exec must be reported: nothing else reports it
            os.write(trouble_write, json.dumps(_describe_failure(error)).encode())
        finally:
            os._exit(127)
    os.close(trouble_write)
    return pid, trouble_read


def _describe_failure(error: Exception) -> dict:
    """Return the end of a failed start, with the exit status that a shell would give it."""
    code = 127 if isinstance(error, FileNotFoundError) else 126
    why = "%s: %s" % (type(error).__name__, error)
    if isinstance(error, OSError):
        why = "%s: %s" % (error.filename, error.strerror)
    return {"code": code, "signal": None, "reason": "not-started", "why": why[:4000]}


def _exec_program(argv: list, env: dict, cwd: str, output: int, keeper: int, *, hide_path: bool) -> None:
    os.setsid()
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != keeper:
        os._exit(127)  # the keeper died between fork and prctl
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue  # KILL, STOP and libc's own signals
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(cwd)
    program = find_program(argv[0], env, cwd, hide_path=hide_path)
    try:
        os.execve(program, argv, env)
    except OSError as error:
        shown = argv[0] if hide_path else program
        raise type(error)(error.errno, error.strerror, shown) from None
