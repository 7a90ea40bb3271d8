"""Table of failure classes: what fanout does after each kind of first cause, and why.

``docs/restarts.md`` is generated from this table. The first class that matches decides. Its rows follow measurements of
others: ByteRobust (arXiv 2509.16293), Meta's RSC clusters (arXiv 2410.21680), the NVRx and DLRover sources.
"""

from __future__ import annotations

from typing import Literal

from fanout.model.frozen import frozen

Answer = Literal["restart", "replace", "stop"]
Wait = Literal["none", "repeated", "always"]


@frozen
class FailureClass:
    """What fanout does after one kind of failure.

    ``answer`` is the first choice: restart on the same hosts, replace the host of the cause, or stop. ``limit`` is the
    number of restarts after this class without progress between them (None: the budget of --max-restarts). ``wait``:
    which restarts after this class wait, longer each time. Only a fault of a shared service needs a wait before the
    first one: nothing else recovers by itself. ``needs_progress``: stop if the attempt reported no step.
    ``replaces_repeat``: replace the host if the same host caused the same class before, without progress between;
    ``repeats_ever``: also with progress between. ``replaces_single``: if
    exactly one host has the cause, replace it instead. ``in_place_if_clean``: without a spare, restart on the same
    host if it passes the check. ``stops_at_same_place``: stop if the last attempt ended with the same error at the same
    step.
    """

    name: str
    signatures: frozenset[str]
    answer: Answer
    why: str
    limit: int | None = None
    wait: Wait = "none"
    needs_progress: bool = False
    replaces_repeat: bool = False
    repeats_ever: bool = False
    replaces_single: bool = False
    in_place_if_clean: bool = False
    stops_at_same_place: bool = False


def _row(name: str, signatures: str, answer: Answer, why: str, **more: object) -> FailureClass:
    return FailureClass(name=name, signatures=frozenset(signatures.split()), answer=answer, why=why, **more)  # type: ignore[arg-type]


FAILURE_CLASSES = (
    _row(
        "host-lost",
        "lost kernel-lockup kernel-panic silent-host ssh-lost mpi-daemon-lost slurm-node-failed kubernetes-node-lost "
        "ray-node-dead",
        "replace",
        "a machine without power or network is repaired in hours, not in seconds",
        in_place_if_clean=True,
    ),
    _row(
        "rebooted",
        "rebooted",
        "restart",
        "a reset repairs many faults; a host that reboots twice has a defect",
        limit=2,
        replaces_repeat=True,
        repeats_ever=True,
    ),
    _row(
        "container-ended",
        "container-ended",
        "restart",
        "the host works; the next attempt creates a new container of the image, or enters the one that you started again; "
        "a second one points to the host",
        limit=2,
        replaces_repeat=True,
    ),
    _row(
        "gpu-broken",
        "gpu-lost cuda-ecc sxid npu-device-error",
        "replace",
        "ByteRobust removes the host at once; Meta measured that 78 % of these faults are hardware",
        in_place_if_clean=True,
    ),
    _row(
        "gpu-fault",
        "xid cuda-illegal-access cuda-assert cuda-kernel-failed nccl-cuda nccl-cuda-error rccl-hip-failure "
        "rccl-cuda-error rocm-memory-fault rocm-gpu-hang rocm-queue-aborted amdgpu-reset",
        "restart",
        "41 of 62 illegal memory accesses at ByteRobust came from user code",
        limit=1,
        replaces_repeat=True,
        stops_at_same_place=True,
    ),
    _row(
        "driver",
        "nvml-mismatch nvml-unknown cuda-fabric-manager cuda-old-driver cuda-compat cuda-busy nccl-nvls nccl-nic-count",
        "replace",
        "a driver fault does not go away by itself",
    ),
    _row(
        "crash",
        "signal fatal-python-error fatal-python-abort crash-handler heap-corruption cpp-exception "
        "cpp-library-exception native-assertion nccl-segfault shell-crashed shell-aborted systemd-unit-killed "
        "container-crashed python-died-of-signal spawned-process-killed composer-rank-killed lightning-child-killed "
        "deepspeed-killed mpi-rank-signal mpi-signal-handler mpi-rank-aborted hydra-signal hydra-termination "
        "slurm-task-signal ray-worker-died helper-lost deepspeed-aborted",
        "restart",
        "a crash comes from a memory fault or a bug; a second one on the same host points to the host",
        limit=2,
        wait="repeated",
        replaces_repeat=True,
    ),
    _row(
        "host-memory",
        "kernel-oom oom-daemon oom-daemon-unit oom-daemon-session slurm-oom kubernetes-oom kubernetes-evicted "
        "container-killed batch-memory-limit ray-memory-monitor ray-raylet-oom shell-killed loader-killed bad-alloc python-memory",
        "restart",
        "a slow leak survives a restart for long; a task that does not fit never does",
        limit=1,
        needs_progress=True,
    ),
    _row(
        "gpu-memory",
        "cuda-out-of-memory cuda-memory-taken nccl-gpu-memory",
        "restart",
        "memory of the ended attempt is free again; a batch that does not fit never does",
        limit=1,
        needs_progress=True,
    ),
    _row(
        "network",
        "network nccl-system-error nccl-connect-failed ib-completion ib-queue-pair ib-event link-down dist-backend "
        "peer-trouble hccl-operation hccl-transport store-timeout store-loopback store-refused socket-no-address ssh-no-connection "
        "ssh-hung-up",
        "restart",
        "a network fault without a named host usually passes",
        wait="always",
    ),
    _row(
        "host-cut-off",
        "cut-off",
        "replace",
        "the network test after the failure measured that this host is cut off",
        in_place_if_clean=True,
    ),
    _row(
        "hang",
        "hang apart missing silent torchrun-worker-stuck torchrun-unkillable kernel-hung-task loader-timeout "
        "kubernetes-liveness",
        "restart",
        "21 of 26 hangs at ByteRobust came from the infrastructure",
        replaces_repeat=True,
    ),
    _row(
        "left-the-run",
        "blamed quiet-host vanished",
        "restart",
        "the others lost this host or rank, and it reported no error; a second time points to the host",
        wait="repeated",
        replaces_repeat=True,
    ),
    _row(
        "mismatch",
        "mismatch collective-mismatch ddp-parameters-differ hccl-parameters-differ nccl-world-size nccl-rank-twice "
        "nccl-same-gpu nccl-truncated nccl-crossed nccl-bad-family gloo-size gloo-loopback node-rank nnodes "
        "torchrun-local-rank env-missing cuda-ordinal socket-all-digits",
        "stop",
        "wrong code or wrong numbers fail again",
    ),
    _row(
        "environment",
        "no-module no-library no-file no-command no-other-command crlf version-skew undefined-symbol nccl-version "
        "circular-import no-script no-main-module hydra-override tyro-parsing flags-parsing shell-no-file "
        "shell-not-executable slurm-no-program conda-not-ready kubernetes-image ssh-refused ssh-host-key store-no-such-name "
        "gloo-no-interface nccl-no-interface ib-memlock hccl-setup",
        "stop",
        "the environment or the command is wrong; if only one host has the fault, another host can work",
        replaces_single=True,
    ),
    _row(
        "disk-full",
        "no-space",
        "restart",
        "a full disk stays full, unless the end of the attempt freed space",
        limit=1,
    ),
    _row(
        "shared-memory",
        "loader-shm nccl-shm shm-wiped",
        "restart",
        "the segments of the ended attempt are free again",
        limit=1,
    ),
    _row(
        "file-server",
        "nfs-silent stale-file",
        "restart",
        "a file server that answers again serves the next attempt",
        wait="always",
    ),
    _row(
        "checkpoint-unreadable",
        "checkpoint-unreadable",
        "restart",
        "a file server may show the whole file a moment later; an incomplete file stays incomplete",
        limit=1,
    ),
    _row(
        "not-finite",
        "loss-not-finite",
        "restart",
        "3 of 4 losses that were not finite came from silent data corruption at ByteRobust",
        limit=1,
        stops_at_same_place=True,
    ),
    _row(
        "port-taken", "store-port-in-use store-wrong-service", "restart", "the next attempt takes another port", limit=1
    ),
    _row(
        "never-joined",
        "start-timeout missing-node meeting",
        "restart",
        "a host that starts too slowly once may be in time the next time",
        limit=1,
        replaces_repeat=True,
    ),
    _row(
        "resources",
        "too-many-files too-many-threads",
        "restart",
        "a leak survives a restart; a limit that is too low does not",
        limit=1,
        needs_progress=True,
    ),
    _row(
        "ended-outside",
        "torchrun-stop-request torchrun-death-signal torchrun-hangup torchrun-interrupted shell-terminated shell-hangup "
        "lightning-stopped slurm-cancelled slurm-time-limit slurm-preempted batch-time-limit",
        "stop",
        "a person or another program ended the processes on purpose",
    ),
    _row("lease", "unheard", "restart", "the hosts are healthy: only the launcher was away", limit=1),
    _row("background", "background-ended", "stop", "train.sh returns too early in each attempt"),
    _row("early-exit", "early-exit", "restart", "a host ended with 0 before the others", limit=1),
    _row(
        "user-code",
        "python-exception stated-error stated-by-program called-process exit ray-reports deepspeed-exit spawn-exited "
        "lightning-ended mpi-first-exit mpi-abort slurm-task-exit",
        "restart",
        "user code fails again at the same place, unless data or time played a part",
        limit=1,
        needs_progress=True,
        stops_at_same_place=True,
    ),
)

UNDETERMINED = FailureClass(
    name="undetermined",
    signatures=frozenset(),
    answer="restart",
    wait="repeated",
    replaces_repeat=True,
    why="without a known cause a restart costs little",
)

REQUESTED_RESTART = FailureClass(
    name="restart-code",
    signatures=frozenset(),
    answer="restart",
    why="the task saved its state and asked for a restart",
)

USAGE_CODES = (2, 17, 93, 126, 127)  # usage, Megatron-LM exit, NVRx "do not restart", not executable, not found

#: Exit statuses after SIGHUP, SIGINT or SIGTERM.
STOP_SIGNALS = (-1, -2, -15, 129, 130, 143)

#: Xids of broken hardware or a broken driver. The other ones usually come from the program.
HARDWARE_XIDS = (48, 62, 63, 64, 74, 79, 95, 119, 120)

#: Xid 154 reports a new recovery action of the GPU. These words in it mean that the GPU does not work until then.
RECOVERY_XID, RECOVERY_WORDS = 154, ("reset", "reboot")

USAGE_ERROR = FailureClass(
    name="usage-error",
    signatures=frozenset(),
    answer="stop",
    why="this exit status means that a restart cannot help",
)

TRANSIENT_TEXTS = (
    "ESTALE",
    "Stale file handle",
    "EIO",
    "Input/output error",
    "ConnectionError",
    "ConnectionResetError",
    "ReadTimeout",
    "TimeoutError",
    "Temporary failure in name resolution",
    "HTTP 5",
    "502 ",
    "503 ",
    "504 ",
)
