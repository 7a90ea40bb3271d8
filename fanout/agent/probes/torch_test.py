"""The deep check's worker processes on a host: started like train.sh, given one step at a time, never left behind.

``opened`` is a long-lived question: it starts the processes, answers when torch is imported, and then accepts steps.
Each step comes from ``stepped``, a separate question, over an abstract socket. When ``opened`` ends in any way, the
workers end: they die with the process that started them, and that process dies with the launcher's connection.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import time

from .. import spawn

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Iterator

# Constant, like every shell text of fanout: the python beside torchrun, as train.sh would find it, loads the worker's
# source.
FIND_PYTHON = 't=$(command -v torchrun) && p=${t%/*}/python3 && [ -x "$p" ] || p=python3; exec "$p" "$@"'
BOOTSTRAP = (
    "import json,os,socket;c=socket.socket(fileno=int(os.environ.pop('FANOUT_DEEP_CHANNEL')));f=c.makefile('r');"
    "s={'__name__':'torch_worker'};exec(compile(json.loads(f.readline()),'<fanout>/torch_worker.py','exec'),s);s['main'](c,f)"
)
# Leave nothing on the disk: neither compiled modules nor compiled kernels.
KILL_SECONDS = 2.0
CACHE_OFF_ENV = {"PYTHONDONTWRITEBYTECODE": "1", "CUDA_CACHE_DISABLE": "1"}


class TorchProcess:
    """One worker process: its last stage and result, and how it ended."""

    def __init__(self, args: dict[str, Any], local: int) -> None:
        self.stage = "start"
        self.result: dict[str, Any] = {}
        self.sizes: list[Any] = []  # the all-reduces that this step has done so far
        self.ended = ""  # how it ended, once it has
        self.deadline = 0.0
        self._rest = b""
        ours, theirs = socket.socketpair()
        self.channel = ours
        self._output = os.memfd_create("deep")
        cwd = os.path.expanduser(args["workdir"])
        env = spawn.build_environment(dict(os.environ), args["env"], cwd)
        env.update(CACHE_OFF_ENV, FANOUT_DEEP_CHANNEL=str(theirs.fileno()), FANOUT_DEEP_LOCAL=str(local))
        argv = [*args["setup"], "sh", "-c", FIND_PYTHON, "fanout", "-u", "-c", BOOTSTRAP]
        with theirs:
            self._child = subprocess.Popen(
                argv,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                preexec_fn=_make_death_hook(os.getpid()),  # noqa: PLW1509  there is one thread here
            )
        self.send_step(args["source"])

    @property
    def is_open(self) -> bool:
        """Return whether a result is still expected."""
        return not self.result and not self.ended and time.monotonic() < self.deadline

    def send_step(self, message: Any) -> None:
        """Send the worker its next step."""
        self.result, self.stage, self.sizes = {}, "start", []
        try:
            self.channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass  # the process is dead; its channel reports that next

    def receive(self, wanted: str) -> bool:
        """Read the worker's messages: the result of the step ``wanted``, or how it ended. Return True if its stage
        changed."""
        try:
            data = self.channel.recv(1 << 16)
        except OSError:
            data = b""
        *lines, self._rest = (self._rest + data).split(b"\n")
        before = self.stage
        for line in lines:
            message = json.loads(line.decode())
            self.stage = message.get("stage", self.stage)
            self.sizes = message.get("sizes", self.sizes)
            if message.get("done") == wanted:
                self.result = message
        if not data:
            self.ended = self._describe_end()
        return self.stage != before

    def get_answer(self, seconds: float) -> dict[str, Any]:
        """Return the step's result; for a dead or hung worker, an error with its stage."""
        if self.ended and not self.result:
            return {"error": self.ended, "stage": self.stage, "died": True}
        late = {"error": "it did not finish this within %g s" % seconds, "stage": self.stage}
        return self.result or (dict(late, late=True, sizes=self.sizes) if self.sizes else late)

    def kill(self) -> None:
        """Kill the worker's process group."""
        if self._child.returncode is None:
            os.killpg(self._child.pid, signal.SIGKILL)
            try:
                self._child.wait(KILL_SECONDS)
            except subprocess.TimeoutExpired:
                pass  # it hangs in the kernel, for example in a GPU driver, and ends later
        self.ended = self.ended or "it was killed"

    def _describe_end(self) -> str:
        try:
            status = self._child.wait(2)
        except subprocess.TimeoutExpired:
            return "it closed its channel"
        lines = os.pread(self._output, 1 << 20, 0).decode("utf-8", "replace").strip().splitlines()
        how = "killed by signal %d" % -status if status < 0 else "it exited with status %d" % status
        return "%s: %s" % (how, lines[-1].strip()[-300:]) if lines else how


def _make_death_hook(parent: int) -> Any:
    """Return a function for the child before exec: the child gets SIGKILL when its parent dies."""

    def prepare() -> None:
        spawn.LIBC.prctl(spawn.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(127)

    return prepare


def opened(args: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Start ``count`` workers. The first answer describes torch in each worker, within ``begin`` seconds."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    workers: list[TorchProcess] = []
    try:
        server.bind("\0" + args["name"])
        server.listen(4)
        try:
            for local in range(int(args["count"])):
                workers.append(TorchProcess(args, local))
        except OSError as error:
            yield {"workers": [{"error": "%s: %s" % (error.filename or "sh", error.strerror), "died": True}]}
            return
        yield {"workers": _collect_answers(workers, "begin", float(args["begin"]))}
        while True:
            client, _ = server.accept()
            with client:
                _serve_step(client, workers)
    finally:
        for worker in workers:
            worker.kill()


def _serve_step(client: socket.socket, workers: list[TorchProcess]) -> None:
    """Accept one step from a process of this user, pass it to the workers, and return their results."""
    client.settimeout(5)
    _, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid != os.getuid():
        return
    try:
        with client.makefile("rwb") as file:
            step = json.loads(file.readline().decode())
            for worker, own in zip(workers, step["each"]):
                worker.send_step(dict(step["all"], **own))
            answers = _collect_answers(workers, step["id"], step["seconds"])
            file.write(json.dumps({"workers": answers}).encode() + b"\n")
    except (OSError, ValueError):
        pass  # the asking connection is gone


def _collect_answers(workers: list[TorchProcess], wanted: str, seconds: float) -> list[dict[str, Any]]:
    """Return each worker's result, or its stage. No stage may take longer than ``seconds``."""
    for worker in workers:
        worker.deadline = time.monotonic() + seconds
    while True:
        waited = [worker for worker in workers if worker.is_open]
        if not waited:
            return [worker.get_answer(seconds) for worker in workers]
        left = max(0.0, min(worker.deadline for worker in waited) - time.monotonic())
        ready = select.select([worker.channel for worker in waited], [], [], left)[0]
        for worker in waited:
            if worker.channel in ready and worker.receive(wanted):
                worker.deadline = time.monotonic() + seconds


def stepped(args: dict[str, Any]) -> dict[str, Any]:
    """Pass one step to the workers that ``opened`` holds under ``name``; return their results."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.connect("\0" + args["name"])
        with link.makefile("rwb") as file:
            file.write(json.dumps(args["step"]).encode() + b"\n")
            file.flush()
            answer: dict[str, Any] = json.loads(file.readline().decode())
    return answer
