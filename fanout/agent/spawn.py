"""Starting train.sh: its environment, its working directory, and an execve that says why it failed.

The environment is that of the login, then what the plan says. A plan entry is text, or an object:
{"before": […], "after": […]} for a list of directories such as PATH and PYTHONPATH, where what is not absolute is
below the work directory; {"default": text} for a value that counts only where the login sets none. With "if": path an
object counts only where that path exists.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal

F_SETPIPE_SZ = 1031  # linux/fcntl.h; Python knows it from 3.10 on
PIPE_BYTES = 1 << 20  # the most that a user may ask for (fs.pipe-max-size)
PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None, use_errno=True)

# sshd's own variables make Debian's bash read .bashrc for every `bash -c`: its noise would land in the training log.
DROPPED = ("SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "SSH_AUTH_SOCK", "SSH_ORIGINAL_COMMAND", "FANOUT_STATE")


def pipe() -> tuple:
    """What a run writes its log into, its end for reading first: roomy, so that neither end often waits for the other."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    try:
        fcntl.fcntl(write, F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        pass  # this user has as much in pipes as he may: 64 KB then, as ever
    return read, write


def environment(login: dict, plan: dict, cwd: str) -> dict:
    """The environment of train.sh: ``login`` with the plan's entries worked out in ``cwd``."""
    env = {name: value for name, value in login.items() if name not in DROPPED}
    env["PWD"] = cwd
    for name, value in plan.items():
        if not isinstance(value, dict):
            env[name] = value
        elif "if" in value and not os.path.exists(os.path.join(cwd, value["if"])):
            continue
        elif "default" in value:
            env[name] = env.get(name) or value["default"]
        else:
            env[name] = _path_list(env.get(name, ""), value, cwd)
    return env


def _path_list(present: str, value: dict, cwd: str) -> str:
    before = [os.path.join(cwd, entry) if entry else cwd for entry in value.get("before", ())]
    after = [os.path.join(cwd, entry) if entry else cwd for entry in value.get("after", ())]
    return ":".join(before + ([present] if present else []) + after)


def find_program(name: str, env: dict, cwd: str) -> str:
    """The file that execve shall get. Raises OSError as the shell would see it (127 not found, 126 not runnable)."""
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
        raise PermissionError(13, "Permission denied", blocked)
    raise FileNotFoundError(2, "not found on PATH (%s)" % env.get("PATH", ""), name)


def start(argv: list, env: dict, cwd: str, output: int) -> tuple:
    """Fork and execve in a session of its own, stdout and stderr into ``output``; return the pid and a pipe.

    The pipe ends when execve has succeeded; otherwise it brings, as JSON, how the start ended. It may be long in coming:
    the working directory may be on a file server that does not answer.
    PDEATHSIG goes by the *thread* that forked, so this must be called from the main thread.
    """
    trouble_read, trouble_write = os.pipe()
    keeper = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _become(argv, env, cwd, output, keeper)
        except Exception as error:  # an exec that fails in any way must say so: there is no other word of it
            os.write(trouble_write, json.dumps(_failure(error)).encode())
        finally:
            os._exit(127)
    os.close(trouble_write)
    return pid, trouble_read


def _failure(error: Exception) -> dict:
    """Return the end of a start that failed, with the exit status that a shell would give it."""
    code = 127 if isinstance(error, FileNotFoundError) else 126
    why = "%s: %s" % (type(error).__name__, error)
    if isinstance(error, OSError):
        why = "%s: %s" % (error.filename, error.strerror)
    return {"code": code, "signal": None, "why": why[:4000]}


def _become(argv: list, env: dict, cwd: str, output: int, keeper: int) -> None:
    os.setsid()
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != keeper:
        os._exit(127)  # the keeper died between fork and prctl
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue  # KILL, STOP and libc's own
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(cwd)
    program = find_program(argv[0], env, cwd)
    try:
        os.execve(program, argv, env)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, program) from None
