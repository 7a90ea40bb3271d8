"""Shells, launchers, schedulers and crash handlers: what they print about the end of a process gives the cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.diagnose.signatures import load_builtin
from tests.diagnose.test_field import LOST, OOM, WAITED, found, prefixed, trace

STEP = "step 1 loss 2\n"
VICTIM = WAITED.format(r=0, size="NumelIn=4, NumelOut=4")
HYDRA = "=" * 79 + "\n=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES\n{0}\n" + "=" * 79 + "\n"
CANCELLED = "slurmstepd: error: *** STEP 88.0 ON gpu01 CANCELLED AT 2026-11-22T15:42:08{0} ***\n"

#: files, signature, host, rank, confidence
CASES: dict[str, tuple[dict[str, str], str, str | None, int | None, str]] = {
    "dash, a crash": ({"gpu01.log": STEP + "Segmentation fault (core dumped)\n", "gpu02.log": STEP + LOST.format(r=1)},
                      "shell-crashed", "gpu01", None, "high"),
    "fish": ({"gpu01.log": STEP + "fish: Job 1, 'python train.py' terminated by signal SIGKILL (Forced quit)\n"},
             "shell-killed", "gpu01", None, "high"),
    "a job of an interactive bash": ({"gpu01.log": STEP + "[1]+  Killed                  python train.py\n"},
                                     "shell-killed", "gpu01", None, "high"),
    "a script in a pipeline": ({"gpu01.log": STEP + "     9876 Killed                  | python -u train.py\n"},
                               "shell-killed", "gpu01", None, "high"),
    "a missing tool explains nothing if the program failed later": (
        {"gpu01.log": "train.sh: line 3: conda: command not found\n" + STEP + trace("KeyError: 'img'", "[rank1]: ")},
        "python-exception", "gpu01", 1, "high"),
    "a missing tool is the cause if nothing else failed": (
        {"gpu01.log": "train.sh: line 3: nvidia-smi: command not found\n"}, "no-other-command", "gpu01", None, "medium"),
    "nohup has no torchrun": ({"gpu01.log": "nohup: failed to run command 'torchrun': No such file or directory\n"},
                              "no-command", "gpu01", None, "medium"),
    "the terminal of torchrun ended": (
        {"gpu01.log": STEP + LOST.format(r=0), "gpu02.log": STEP + "W0508 10:11:09.388000 124326 torch/distributed/elastic/agent"
         "/server/api.py:723] Received 1 death signal, shutting down workers\n"}, "torchrun-hangup", "gpu02", None, "low"),
    "only the exception of a stopped torchrun": (
        {"gpu01.log": STEP + LOST.format(r=0), "gpu02.log": STEP + trace(
            "torch.distributed.elastic.multiprocessing.api.SignalException: Process 20146 got signal: 15")},
        "torchrun-stop-request", "gpu02", None, "low"),
    "DeepSpeed, a crash": ({"gpu02.log": STEP + "[2025-03-20 20:31:29,269] [ERROR] [launch.py:325:sigkill_handler] ['python'] "
                            "exits with return code = -11\n"}, "deepspeed-killed", "gpu02", None, "high"),
    "prterun, wrapped": ({"run.log": STEP + "-" * 74 + "\nprterun noticed that process rank 2 with PID 1617008 on node cpu155 "
                          "exited on\nsignal 9 (Killed).\n" + "-" * 74 + "\n"}, "mpi-rank-signal", "cpu155", 2, "high"),
    "prterun, wrapped before the node": (
        {"run.log": STEP + "prterun noticed that process rank 1 with PID 2550555\non node dgx111 exited on signal 9 (Killed)\n"},
        "mpi-rank-signal", "dgx111", 1, "high"),
    "Open MPI's handler": ({"gpu02.log": STEP + "[gpu02:48213] *** Process received signal ***\n[gpu02:48213] Signal: "
                            "Segmentation fault (11)\n"}, "mpi-signal-handler", "gpu02", None, "high"),
    "Hydra with a rank": ({"run.log": STEP + HYDRA.format("=   RANK 5 PID 5490 RUNNING AT gn59\n=   KILLED BY SIGNAL: 9 (Killed)")},
                          "hydra-signal", "gn59", 5, "high"),
    "Hydra, exit 1": ({"run.log": STEP + HYDRA.format("=   PID 5490 RUNNING AT gn59\n=   EXIT CODE: 1")},
                      "hydra-termination", "gn59", None, "medium"),
    "Slurm's memory limit on a task": ({"slurm-7.out": STEP + "srun: error: gpu03: task 5: Out Of Memory\n"
                                        "srun: Terminating StepId=7.0\nsrun: error: gpu01: tasks 0-3: Killed\n"},
                                       "slurm-oom", "gpu03", None, "high"),
    "Slurm killed the others after one had failed": (
        {"slurm-7.out": STEP + "srun: error: gpu03: task 5: Exited with exit code 1\nsrun: Terminating StepId=7.0\n"
         + CANCELLED.format("") + "srun: error: gpu01: tasks 0-3: Killed\n"}, "slurm-task-exit", "gpu03", None, "medium"),
    "Slurm's time limit": ({"slurm-7.out": STEP + CANCELLED.format(" DUE TO TIME LIMIT") + "srun: Job step aborted: Waiting up to 32 "
                            "seconds for job step to finish.\nsrun: error: gpu02: task 1: Killed\n"},
                           "slurm-time-limit", "gpu01", None, "high"),
    "Slurm lost a node": ({"slurm-7.out": STEP + "srun: error: Node failure on gpu03\nsrun: Job step aborted: Waiting up to 32 seconds "
                           "for job step to finish.\nsrun: error: gpu02: task 1: Killed\n"}, "slurm-node-failed", "gpu03", None, "high"),
    "cancelled in Slurm": ({"slurm-7.out": STEP + CANCELLED.format("") + "srun: error: gpu01: task 0: Killed\n"},
                           "slurm-cancelled", "gpu01", None, "low"),
    "an error before Slurm stopped the rest": (
        {"slurm-7.out": prefixed("1: ", STEP + trace(OOM, "[rank1]: ")) + prefixed("0: ", STEP) + CANCELLED.format("")
         + "srun: error: gpu02: task 1: Exited with exit code 1\nsrun: error: gpu01: task 0: Killed\n"},
        "cuda-out-of-memory", "gpu02", 1, "high"),
    "Kubernetes evicted a pod": ({"pod-2.log": STEP + "  Reason:   Evicted\n  Message:  The node was low on resource: memory.\n"},
                                 "kubernetes-evicted", "pod-2", None, "high"),
    "exit 137 of a container": ({"pod-2.log": STEP + "      Reason:       Error\n      Exit Code:    137\n"},
                                "container-killed", "pod-2", None, "high"),
    "docker compose": ({"all.log": "node-0  | " + STEP + prefixed("node-1  | ", STEP * 3) + "node-1 exited with code 137\n"},
                       "container-killed", "node-1", None, "high"),
    "systemd-oomd": ({"gpu02.journal.log": "Jun 12 03:14:06 gpu02 systemd-oomd[612]: Killed /user.slice/user-1000.slice/session-5.scope "
                      "due to memory pressure for /user.slice being 72.33% > 50.00% for > 20s with reclaim activity\n",
                      "gpu02.log": STEP, "gpu01.log": STEP + LOST.format(r=0)}, "oom-daemon-session", "gpu02", None, "high"),
    "an uncaught C++ exception": (
        {"gpu02.log": STEP + "terminate called after throwing an instance of 'std::runtime_error'\n  what():  boom\n"},
        "cpp-exception", "gpu02", None, "medium"),
    "a C++ exception of a victim": (
        {"gpu01.log": STEP + "terminate called after throwing an instance of 'c10::DistBackendError'\n  what():  [PG ID 0 PG GUID 0"
         "(default_pg) Rank 0] Process group watchdog thread terminated with exception: NCCL error: remote process exited or there "
         "was a network error, NCCL version 2.21.5\n", "gpu02.log": STEP + "Killed\n"}, "shell-killed", "gpu02", None, "high"),
    "corrupted memory": ({"gpu02.log": STEP + "free(): invalid pointer\nAborted (core dumped)\n"},
                         "heap-corruption", "gpu02", None, "medium"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_end_of_a_process_gives_the_cause(name: str, tmp_path: Path) -> None:
    files, signature, host, rank, confidence = CASES[name]
    verdict = found(tmp_path / "logs", files)
    cause = verdict["cause"]
    assert cause is not None
    assert (cause["signature"], cause["host"], cause["rank"]) == (signature, host, rank)
    assert verdict["confidence"] == confidence


CRASH = """\
Fatal Python error: Segmentation fault

Thread 0x00007fbef8237b80 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 320 in wait

Current thread 0x00007fedd9241b80 (most recent call first):
  File "/home/ann/proj/ops.py", line 41 in fused_kernel
  File "/home/ann/proj/train.py", line 88 in step
"""


def test_a_python_crash_names_the_innermost_frame_of_its_thread(tmp_path: Path) -> None:
    verdict = found(tmp_path / "logs", {"gpu01.log": STEP + CRASH})
    assert verdict["cause"]["says"] == "crashed: Segmentation fault in fused_kernel (ops.py:41)"


def test_a_cpp_exception_shows_its_message(tmp_path: Path) -> None:
    verdict = found(tmp_path / "logs", CASES["an uncaught C++ exception"][0])
    assert verdict["cause"]["says"].endswith("(std::runtime_error): boom")


@pytest.mark.parametrize(
    "line",
    [
        "worker 3 killed by user", "INFO 12 Killed workers", "cat: /data/x: Permission denied", "exit code: 0",
        "ls: cannot access '/data': No such file or directory", "srun: job 7 queued and waiting for resources",
        "step 137 exited with code 0", "Terminated 3 idle workers", "Signal: strong",
    ],
)  # fmt: skip
def test_an_ordinary_line_is_no_end_of_a_process(line: str) -> None:
    match = load_builtin().match_line(line)
    assert match is None or match[0].role == "noise"
