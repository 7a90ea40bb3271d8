"""``fanout demo``: simulate hosts on this machine, and run a real training job on them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from fanout.commands.check import run_check
from fanout.commands.run import run_training
from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.request import Request
from fanout.run.process_context import ProcessContext
from fanout.run.stop_signals import SIGNALS, STOP_INSTEAD, filter_handled_signals

TASK = ("tasks/train_llada2_bd.py", "configs/sft/llada2_mini_bd_sft.yaml")

OUTPUT_FLAGS = ("output", "color", "show", "grep", "hide", "fold", "prefix", "metric")


def run_demo(request: Request, process: ProcessContext, parse: Callable[[Sequence[str]], Request]) -> int:
    """Simulate the hosts, check them, and train on them; return the exit status of the run.

    ``parse`` reads the command lines that the demo prints, so that they mean what they mean when a user types them.
    """
    from fanout.demo import embedded_lab

    if not request.given["stay"] and not all(os.path.isfile(os.path.join(process.cwd, path)) for path in TASK):
        raise UsageError(
            f"the demo trains {TASK[0]}, which is not in {process.cwd}",
            hint="run make demo in a checkout of fanout, or only simulate the hosts:  fanout demo --stay",
        )
    with embedded_lab.open_lab(Path(process.cwd) / request.given["dir"], request.given["count"]) as lab:
        hostfile = os.path.relpath(lab.hostfile, process.cwd)
        connect = ["--ssh-config", os.path.relpath(lab.ssh_config, process.cwd)]
        process.print_message(
            f"this machine simulates {len(lab.hosts)} hosts, each with its own ssh server: {hostfile}"
        )
        if request.given["stay"]:
            process.print_message(
                f"try, in another terminal:  fanout check {' '.join(connect)} {hostfile}   (Ctrl-C here stops the hosts)"
            )
            signal.sigwait(filter_handled_signals(SIGNALS) or [STOP_INSTEAD])
            return ExitStatus.SUCCESS
        process.print_message(f"$ fanout check {' '.join(connect)} {hostfile} {' '.join(TASK)}")
        code = run_check(parse(["check", *connect, hostfile, *TASK]), process)
        if code:
            return code
        process.print_message(f"$ fanout run {' '.join(connect)} {hostfile} {' '.join(TASK)}")
        flags = [f"--{name}={request.flags[name]}" for name in OUTPUT_FLAGS if request.flags.get(name) is not None]
        flags += ["--timestamps"] if request.flags.get("timestamps") else []
        return run_training(parse(["run", *flags, *connect, hostfile, *TASK]), process, leavable=False)
