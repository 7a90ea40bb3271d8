"""Stack hook: a Python process of the run dumps its stack on a signal and when it is ended. PYTHONPATH alone installs
it.

Python imports ``sitecustomize`` at its start if it finds one. Ours registers faulthandler, whose handler is written in
C and works while a collective blocks. It handles our signal, crashes, and the SIGTERM with which torchrun ends a rank
(the rank then ends as usual). A rank that would share the keeper's pipe with other ranks, for example under the launcher
of DeepSpeed, gets files for its stdout and stderr (``rank_logs``): on a shared pipe, lines of ranks mix. It also records where torch would dump its flight recorder. Then it removes itself from
sys.path and imports the user's own sitecustomize. If PYTHONPATH is ignored (-I, -E, -S, a container), nothing happens,
and that process has no stack.
"""

from __future__ import annotations

import os

SIGNAL = 60  # an unused real-time signal; USR1 and USR2 have a meaning in many programs
MIN_DESCRIPTOR = 200  # the lowest number for its descriptor: programs that expect low numbers still get them

SITECUSTOMIZE = '''\
"""Added by fanout: `fanout stacks` reads this process's stack, and a rank gets its own log. `--stacks off` leaves it out."""
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [_entry for _entry in sys.path if _entry != _here]
try:
    _pipe, _local = os.environ.get("FANOUT_PIPE"), os.environ.get("LOCAL_RANK", "")
    _rank = os.environ.get("RANK", "")
    if _pipe and _rank.isdigit() and _local.isdigit():
        _run = "rank-%%s-%%d" %% (_rank, os.getpid())
        _place = os.path.join(os.path.dirname(_here), "ranks", _run, "attempt_0", _local)
        for _number, _name in ((1, "stdout.log"), (2, "stderr.log")):
            _seen = os.fstat(_number)
            if _seen.st_mode & 0o170000 == 0o010000 and str(_seen.st_ino) == _pipe:
                os.makedirs(_place, 0o700, exist_ok=True)
                _file = os.open(os.path.join(_place, _name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                os.dup2(_file, _number)
                os.close(_file)
except Exception:
    pass
try:
    import _signal
    import faulthandler
    import fcntl

    _path = os.path.join(os.path.dirname(_here), "stacks", str(os.getpid()))
    _file = os.open(_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        _high = fcntl.fcntl(_file, fcntl.F_DUPFD_CLOEXEC, %d)
        os.close(_file)
    except OSError:
        _high = _file
    if "RANK" in os.environ:
        _words = (os.environ["RANK"], os.environ.get("LOCAL_RANK", "-"), os.getppid())
        os.write(_high, ("#rank %%s %%s %%d\\n" %% _words).encode())
        _dumps = os.environ.get("TORCH_FR_DUMP_TEMP_FILE") or os.environ.get("TORCH_NCCL_DEBUG_INFO_TEMP_FILE")
        if _dumps:
            os.write(_high, b"#dumps " + os.fsencode(os.path.join(os.getcwd(), _dumps)) + b"\\n")
    faulthandler.enable(_high)
    faulthandler.register(%d, _high, all_threads=True)
    if _signal.getsignal(15) == _signal.SIG_DFL:
        faulthandler.register(15, _high, all_threads=True, chain=True)
except Exception:
    pass
sys.modules.pop("sitecustomize", None)
import sitecustomize  # the user's own; if there is none, Python expects this error
''' % (MIN_DESCRIPTOR, SIGNAL)


def install_hook(env: dict, directory: str) -> None:
    """Write the hook below the run's directory and add it to ``env``. If the disk is full, only the stacks are lost."""
    place = os.path.join(directory, "python")
    try:
        os.mkdir(place, 0o700)
        os.mkdir(os.path.join(directory, "stacks"), 0o700)
        with open(os.path.join(place, "sitecustomize.py"), "w") as file:
            file.write(SITECUSTOMIZE)
    except OSError:
        return
    env["PYTHONPATH"] = place + (":" + env["PYTHONPATH"] if env.get("PYTHONPATH") else "")
