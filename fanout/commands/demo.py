"""``fanout demo``: simulate hosts on this machine, and run a real job on them: training, a hello, or a failure."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from fanout.commands.check import run_check
from fanout.commands.run import run_training
from fanout.commands.stop import run_stop
from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.frozen import frozen
from fanout.model.request import Request
from fanout.run.process_context import ProcessContext
from fanout.run.stop_signals import SIGNALS, STOP_INSTEAD, filter_handled_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fanout.demo.embedded_lab import DemoLab

TRAINING = ("tasks/train_llada2_bd.py", "configs/sft/llada2_mini_bd_sft.yaml")
DIRECTORY = ".demo"
OUTPUT_FLAGS = ("output", "color", "show", "grep", "hide", "fold", "prefix", "metric")
LOST_HOST = "lost-host"
FAILURES = {
    "oom": "the last rank will run out of memory at step 15",
    "hang": "the last rank will wait for data without end at step 15, and the launcher will notice this after 5 s",
    "import": "the last rank will import a missing module at step 15",
    LOST_HOST: "the network of the last host will fail at step 15; after 8 s without contact its keeper stops its ranks",
}
FAILURE_FLAGS = {
    "hang": ("--hang-timeout", "5s", "--on-hang", "stop", "--grace", "5s"),
    LOST_HOST: ("--lease", "8s", "--grace", "2s"),
}
FAILURE_WORDS = {LOST_HOST: ("--timeout", "5")}

Parse = Callable[[Sequence[str]], Request]


@frozen
class DemoJob:
    """What the demo runs. ``embedded``: the task of the package, in a work directory of the lab."""

    words: tuple[str, ...]
    flags: tuple[str, ...] = ()
    embedded: bool = True
    checks: bool = False
    note: str = ""


def run_demo(request: Request, process: ProcessContext, parse: Parse) -> int:
    """Simulate the hosts and run the job on them; return the exit status of the run.

    ``parse`` reads the command lines that the demo prints, so that they mean what they mean when a user types them.
    """
    from fanout.demo import embedded_lab

    given = request.given
    if sum(map(bool, (given["stay"], given["hello"], given["fail"]))) > 1:
        raise UsageError("--stay, --hello and --fail exclude each other", hint="fanout demo --hello")
    job = choose_job(request, process)
    directory = Path(process.cwd) / (given["dir"] or choose_directory(process))
    with embedded_lab.open_lab(directory, given["count"]) as lab:
        hostfile = os.path.relpath(lab.hostfile, process.cwd)
        process.print_message(
            f"this machine simulates {len(lab.hosts)} hosts, each with its own ssh server: {hostfile}"
        )
        if given["stay"]:
            connect = f"--ssh-config {os.path.relpath(lab.ssh_config, process.cwd)}"
            process.print_message(
                f"try, in another terminal:  fanout check {connect} {hostfile}   (Ctrl-C here stops the hosts)"
            )
            signal.sigwait(filter_handled_signals(SIGNALS) or [STOP_INSTEAD])
            return ExitStatus.SUCCESS
        if job.note:
            process.print_message(job.note)
        return DemoRun(request, process, parse, lab, job).run()


def choose_job(request: Request, process: ProcessContext) -> DemoJob:
    """Return the job: what the flags say, or else training with torch, or training with Python alone."""
    kind = request.given["fail"]
    if request.given["hello"]:
        return DemoJob(words=("task.py", "hello"))
    if kind:
        flags = (*FAILURE_FLAGS.get(kind, ()), "--name", f"demo-{os.getpid()}")
        words = ("task.py", "train", "--fail", kind, *FAILURE_WORDS.get(kind, ()))
        return DemoJob(words=words, flags=flags, note=FAILURES[kind])
    is_checkout = all(os.path.isfile(os.path.join(process.cwd, path)) for path in TRAINING)
    if has_torchrun(process):
        if is_checkout:
            return DemoJob(words=TRAINING, embedded=False, checks=True)
        return DemoJob(words=("torch_task.py",), checks=True, note="the demo trains a small model with torch")
    note = "torch is not installed here: the demo trains a small model with Python alone"
    return DemoJob(words=("task.py", "train"), checks=True, note=note)


def has_torchrun(process: ProcessContext) -> bool:
    """Return whether the simulated hosts find torchrun: in the active environment, or on their PATH."""
    from fanout.demo.embedded_lab import PATH

    active = (process.environ.get("VIRTUAL_ENV"), process.environ.get("CONDA_PREFIX"), process.prefix)
    places = [os.path.join(prefix, "bin") for prefix in active if prefix]
    return shutil.which("torchrun", path=os.pathsep.join([*places, PATH])) is not None


def choose_directory(process: ProcessContext) -> str:
    """Return the directory of the lab: ``.demo`` here, or a temporary one if it cannot be made here."""
    from fanout.demo.workdir import is_usable_path

    if os.access(process.cwd, os.W_OK | os.X_OK) and is_usable_path(os.path.realpath(process.cwd)):
        return DIRECTORY
    return os.path.join(tempfile.gettempdir(), f"fanout-demo-{os.getpid()}")


class DemoRun:
    """One job on the simulated hosts, by the same commands that a user would type."""

    def __init__(self, request: Request, process: ProcessContext, parse: Parse, lab: DemoLab, job: DemoJob) -> None:
        self._request = request
        self._process = process
        self._parse = parse
        self._lab = lab
        self._job = job
        self._connect = ["--ssh-config", os.path.relpath(lab.ssh_config, process.cwd)]
        self._hostfile = os.path.relpath(lab.hostfile, process.cwd)

    def run(self) -> int:
        """Run the job; return the exit status of the run."""
        from fanout.demo.embedded_lab import write_project
        from fanout.demo.power_switch import PowerSwitch
        from fanout.demo.workdir import SWITCH

        if self._job.embedded:
            project = os.path.relpath(write_project(self._lab), self._process.cwd)
            self._connect = ["-C", project, *self._connect]
        if self._job.checks:
            request = self._read_command(["check", *self._connect, self._hostfile, *self._job.words])
            if code := run_check(request, self._process):
                return code
        words = [*self._job.flags, *self._connect, self._hostfile, *self._job.words]
        request = self._read_command(["run", *words], hidden=self._list_output_flags())
        servers = {host.name: server for host, server in zip(self._lab.hosts, self._lab.servers, strict=True)}
        with PowerSwitch(self._lab.directory / SWITCH, servers):
            code = run_training(request, self._process, leavable=False)
        if LOST_HOST in self._job.words:
            self._verify_lost_host()
        return code

    def _verify_lost_host(self) -> None:
        """Connect the lost host again, and verify that nothing of the run is left on it."""
        for server in self._lab.servers:
            server.reopen()
        self._process.print_message("the network works again: fanout can now verify that nothing is left")
        name = self._job.flags[self._job.flags.index("--name") + 1]
        run_stop(self._read_command(["stop", name]), self._process)

    def _read_command(self, words: list[str], hidden: Sequence[str] = ()) -> Request:
        """Print a command line and return its request; flags of the view are not printed."""
        self._process.print_message(f"$ fanout {' '.join(words)}")
        return self._parse([words[0], *hidden, *words[1:]])

    def _list_output_flags(self) -> list[str]:
        flags = [
            f"--{name}={self._request.flags[name]}"
            for name in OUTPUT_FLAGS
            if self._request.flags.get(name) is not None
        ]
        return flags + (["--timestamps"] if self._request.flags.get("timestamps") else [])
