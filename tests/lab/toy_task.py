"""Training without torch for scenes of restarts: all ranks make each step together, rank 0 writes checkpoints.

    task.py [FAULT …]     FAULT is ATTEMPT:RANK:STEP:HOW; ATTEMPT ``*`` is every attempt, a STEP of 0 is before the first

TOY_SAVER: ``saves`` (on SIGUSR1 all ranks save after the same step and exit with 75), ``deaf`` (it handles SIGUSR1 and
SIGTERM, and goes on), or nothing. TOY_TORN=1 writes only half of the second checkpoint.

HOW: kill (SIGKILL to itself), hang, error (ValueError), import (a missing module), loose (an error at a later step in each
attempt), crash (SIGSEGV), reset (an NCCL error that names no host), stale (a fault of the file server, after which fanout
waits), or an exit status. Every step of a rank is a line in ``marks``, so a test sees which attempts overlapped.
"""

import contextlib
import errno
import json
import os
import signal
import sys
import time
from pathlib import Path

SIGNALS = {"kill": signal.SIGKILL, "crash": signal.SIGSEGV}
rank, world = int(os.environ["NODE_RANK"]), int(os.environ["NNODES"])
attempt, host = int(os.environ["FANOUT_ATTEMPT"]), os.environ.get("TOY_HOST", os.uname().nodename)
total, every = int(os.environ.get("TOY_STEPS", "60")), int(os.environ.get("TOY_SAVE", "20"))
pause = float(os.environ.get("TOY_PAUSE", "0.03"))
resumes = os.environ.get("TOY_RESUME", "1") == "1"


def write_mark(what: str) -> None:
    with open("marks", "a") as file:
        file.write(f"{what} {attempt} {rank} {host} {time.monotonic():.3f}\n")


def find_fault(step: int) -> str:
    """Return HOW of the fault for this rank at this step, "" if there is none."""
    for text in sys.argv[1:]:
        number, who, when, how = text.split(":") if text.count(":") == 3 else ("", "", "0", "")
        mine = number in ("*", str(attempt)) and who in ("*", str(rank), host)
        if mine and (int(when) == step or (how == "loose" and step == start + 15)):
            return how
    return ""


def fail_rank(how: str, step: int) -> None:
    """Fail as a real rank does."""
    if how in SIGNALS:
        os.kill(os.getpid(), SIGNALS[how])
    elif how == "hang":
        time.sleep(3600)
    elif how in ("error", "loose"):
        raise ValueError(f"bad sample {step}")
    elif how == "stale":
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "/data/part-7")
    elif how == "import":
        import module_that_no_host_has  # type: ignore[import-not-found]  # noqa: F401
    elif how == "reset":
        sys.exit(
            "RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:598] Connection closed by peer [10.9.9.9]:1"
        )
    elif how.isdigit():
        sys.exit(int(how))


def wait_for_others(step: int) -> None:
    """Wait until every rank is at this step, as in an all-reduce."""
    while True:
        try:
            if min(int(Path(f"at.{attempt}.{other}").read_text()) for other in range(world)) >= step:
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.01)


def request_save(number: int, frame: object) -> None:
    """Ask all ranks to save after the next step but one: they are at most one step apart."""
    with contextlib.suppress(FileExistsError), open(f"asked.{attempt}", "x") as file:
        file.write(str(step + 2))


def is_saving(step: int) -> bool:
    """Return whether all ranks save after this step."""
    try:
        return step >= int(Path(f"asked.{attempt}").read_text() or total)
    except OSError:
        return False


def write_checkpoint(step: int) -> None:
    with open("checkpoint.json.new", "w") as file:
        file.write(json.dumps({"step": step})[: 5 if os.environ.get("TOY_TORN") and step > every else None])
    os.replace("checkpoint.json.new", "checkpoint.json")


start = step = 0
if os.environ.get("TOY_SAVER") == "saves":
    signal.signal(signal.SIGUSR1, request_save)
elif os.environ.get("TOY_SAVER") == "deaf":
    for deaf in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(deaf, lambda *_: None)
write_mark("start")
if resumes and os.path.exists("checkpoint.json"):
    with open("checkpoint.json") as file:
        start = json.load(file)["step"]
fail_rank(find_fault(0), 0)
for step in range(start + 1, total + 1):
    time.sleep(pause)
    with open(f"at.{attempt}.{rank}.new", "w") as file:
        file.write(str(step))
    os.replace(f"at.{attempt}.{rank}.new", f"at.{attempt}.{rank}")
    wait_for_others(step)
    write_mark("step")
    print(f"step {step}/{total} loss {5 / step:.4f}", flush=True)
    if rank == 0 and (step % every == 0 or is_saving(step)):
        write_checkpoint(step)
    if is_saving(step):
        sys.exit(75)
    fail_rank(find_fault(step), step)
