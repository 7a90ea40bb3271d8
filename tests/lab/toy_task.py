"""Training without torch for scenes of restarts: all ranks make each step together, rank 0 writes checkpoints.

    task.py [FAULT …]     FAULT is ATTEMPT:RANK:STEP:HOW; ATTEMPT ``*`` is every attempt, a STEP of 0 is before the first

TOY_SPACE: a directory of the host in which rank 0 writes each checkpoint first. TOY_TORN=1 writes only half of the second
checkpoint. TOY_GATE=1: a fault waits for the file ``go``. TOY_SAVER: ``saves`` (on SIGUSR1 all ranks save after the same step
and exit with 75), ``deaf`` (it handles SIGUSR1 and SIGTERM, and goes on), or nothing.

HOW: kill (SIGKILL to itself), hang, error (ValueError), import (a missing module), loose (an error at a later step in each
attempt), crash (SIGSEGV), cuda (an error of a GPU), memory (wait for a limit, then use more memory), timeout (a report
that a peer did not answer), reset (an NCCL error that names no host), stale (a fault of the file server, after which fanout
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
from typing import Any

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
    """Fail as a real rank does. With TOY_GATE, wait until the test is ready for it."""
    if how and os.environ.get("TOY_GATE"):
        wait_for_file("go")
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
    elif how == "cuda":
        Path(f"pid.{host}").write_text(str(os.getpid()))
        sys.exit("torch.AcceleratorError: CUDA error: an illegal memory access was encountered")
    elif how == "timeout":
        wait_for_file("go")
        sys.exit(
            "RuntimeError: [../gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation to complete"
        )
    elif how == "memory":
        Path(f"grows.{attempt}.{host}").touch()
        wait_for_file(f"go.{attempt}")
        kept = [b"x" * (1 << 20) for _ in range(1000)]
        sys.exit(f"{len(kept)} MB did not reach the limit")
    elif how.isdigit():
        sys.exit(int(how))


def wait_for_file(name: str) -> None:
    """Wait until the test has written a file, at most 60 s."""
    ends = time.monotonic() + 60
    while not os.path.exists(name) and time.monotonic() < ends:
        time.sleep(0.05)


#: The ranks wait in a file with the name of a collective, so that a stack shows which rank does not wait.
BARRIER = "def all_reduce(is_ready):\n    while not is_ready():\n        sleep(0.01)\n"
collective: dict[str, Any] = {"sleep": time.sleep}
exec(compile(BARRIER, "/site-packages/torch/distributed/toy.py", "exec"), collective)


def wait_for_others(step: int) -> None:
    """Wait until every rank is at this step, as in an all-reduce."""
    collective["all_reduce"](lambda: has_everyone_reached(step))


def has_everyone_reached(step: int) -> bool:
    try:
        return min(int(Path(f"at.{attempt}.{other}").read_text()) for other in range(world)) >= step
    except (OSError, ValueError):
        return False


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
    if space := os.environ.get("TOY_SPACE"):
        Path(space, "staged").write_bytes(bytes(1 << 20))
    if os.environ.get("TOY_TORN"):
        Path("saved").mkdir(exist_ok=True)
        Path(f"saved/checkpoint-{step}").write_text("half")
    with open("checkpoint.json.new", "w") as file:
        file.write(json.dumps({"step": step})[: 5 if os.environ.get("TOY_TORN") and step > every else None])
    os.replace("checkpoint.json.new", "checkpoint.json")


def read_checkpoint() -> int:
    """Return the step of the checkpoint. An unreadable one raises the error of a library that names the file."""
    text = Path("checkpoint.json").read_text()
    try:
        return int(json.loads(text)["step"])
    except ValueError:
        newest = f"{os.getcwd()}/saved/checkpoint-{2 * every}"
        raise OSError(f"Unable to load weights from pytorch checkpoint file for '{newest}' at '{newest}'.") from None


start = step = 0
if os.environ.get("TOY_SAVER") == "saves":
    signal.signal(signal.SIGUSR1, request_save)
elif os.environ.get("TOY_SAVER") == "deaf":
    for deaf in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(deaf, lambda *_: None)
write_mark("start")
if resumes and os.path.exists("checkpoint.json"):
    start = read_checkpoint()
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
