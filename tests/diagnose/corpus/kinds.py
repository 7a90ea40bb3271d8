"""Kinds of causes: what a reader would call the failure, and the signatures that mean it."""

from __future__ import annotations

import re
import signal

from fanout.diagnose.verdict import Cause

#: Kind -> its signatures. A signature of no kind is judged by the text that the verdict shows.
KINDS: dict[str, tuple[str, ...]] = {
    "exception": (
        "undefined-symbol",
        "no-other-command", "conda-not-ready", "shell-no-file", "shell-not-executable", "slurm-no-program", "bad-alloc", "cpp-exception",
        "python-exception", "stated-error", "stated-by-program", "hydra-override", "tyro-parsing", "flags-parsing",
        "called-process", "loss-not-finite", "torchrun-local-rank", "circular-import", "version-skew", "no-module",
        "no-library", "no-file", "no-script", "no-main-module", "no-command", "crlf", "no-space", "stale-file",
        "too-many-files", "python-memory", "loader-timeout", "too-many-threads", "env-missing",
    ),
    "gpu-memory": ("cuda-out-of-memory", "cuda-memory-taken", "nccl-gpu-memory"),
    "gpu-fault": (
        "rccl-hip-failure", "rocm-memory-fault", "rocm-gpu-hang", "rocm-queue-aborted", "amdgpu-reset",
        "xid", "sxid", "gpu-lost", "cuda-ecc", "cuda-illegal-access", "cuda-kernel-failed", "cuda-assert", "cuda-busy", "cuda-ordinal",
        "cuda-fabric-manager", "cuda-compat", "cuda-old-driver", "nvml-mismatch", "nvml-unknown", "npu-device-error", "nccl-cuda",
    ),
    "killed": (
        "batch-memory-limit", "systemd-unit-killed", "composer-rank-killed", "lightning-child-killed", "spawned-process-killed",
        "oom-daemon-session", "oom-daemon-unit", "container-killed", "kubernetes-evicted", "ray-memory-monitor", "ray-raylet-oom",
        "shell-killed", "shell-killed-zsh", "python-died-of-signal", "deepspeed-killed", "mpi-rank-signal",
        "ray-worker-died", "slurm-oom", "kubernetes-oom", "kernel-oom", "oom-daemon", "loader-killed", "helper-lost",
    ),
    "crash": (
        "kernel-panic",
        "mpi-signal-handler", "container-crashed", "fatal-python-abort", "crash-handler", "heap-corruption", "native-assertion",
       "shell-crashed", "shell-aborted", "deepspeed-aborted", "fatal-python-error", "nccl-segfault", "loader-shm", "shm-wiped"),
    "stopped": (
        "torchrun-interrupted",
        "batch-time-limit", "lightning-stopped", "kubernetes-liveness",
        "shell-terminated", "shell-hangup", "torchrun-hangup", "torchrun-stop-request", "slurm-time-limit", "slurm-preempted",
       "torchrun-death-signal", "slurm-cancelled"),
    "exit": (
        "lightning-ended", "spawn-exited",
        "mpi-abort", "deepspeed-exit",
        "mpi-first-exit", "slurm-task-exit",
       "exit", "deepspeed-return", "hydra-termination"),
    "waits": (
        "torchrun-unkillable",
        "silent", "vanished", "apart", "quiet-host", "blamed", "pointed", "missing-node", "monitored-barrier", "nccl-desync",
        "store-waits-for-rank", "nccl-unique-id", "hccl-notify-timeout", "torchrun-worker-stuck", "kernel-hung-task",
        "kernel-lockup", "nfs-silent", "early",
    ),
    "lost": (
        "mpi-daemon-lost", "slurm-node-failed", "kubernetes-node-lost", "ray-node-dead",
       "lost", "ssh-lost", "ssh-no-connection", "ssh-refused", "ssh-host-key", "ssh-hung-up", "link-down"),
    "network": ("network", "store-loopback", "gloo-mesh", "nccl-connect-failed", "store-timeout", "store-refused", "socket-no-address"),
    "setup": (
        "hccl-setup",
        "kubernetes-image",
        "store-port-in-use", "store-wrong-service", "store-no-such-name", "socket-all-digits", "numbers", "nccl-same-gpu",
        "nccl-version", "nccl-world-size", "nccl-rank-twice", "nccl-no-interface", "nccl-bad-family", "gloo-no-interface",
        "gloo-loopback", "ib-memlock", "ib-queue-pair", "nccl-shm", "nccl-crossed", "nccl-nvls", "nccl-nic-count",
    ),
    "link": ("ib-event", "ib-completion"),
    "mismatch": ("hccl-parameters-differ", "ddp-parameters-differ", "collective-mismatch", "gloo-size", "nccl-truncated"),
    "victim": (
        "hccl-transport", "nccl-call-failed", "store-socket-timeout", "store-connection-lost", "rccl-cuda-error", "nccl-cuda-stopped",
        "nccl-dump-signal", "checkpoint-of-ranks", "horovod-shut-down", "cpp-library-exception",
        "nccl-timeout", "nccl-remote-error", "nccl-peer-closed", "nccl-socket-closed", "nccl-progress", "nccl-heartbeat",
        "gloo-closed", "gloo-reset", "gloo-timeout", "store-gone", "store-lost", "store-waits-for-key",
        "store-waits-for-clients", "rendezvous-lost", "rendezvous-timeout", "rendezvous-role-missing",
        "hccl-socket-timeout", "dist-backend", "peer-trouble", "nccl-system-error", "nccl-cuda-error", "hccl-operation",
        "ray-reports",
    ),
}  # fmt: skip
_BY_SIGNATURE = {signature: kind for kind, signatures in KINDS.items() for signature in signatures}
_REPORT_A_SIGNAL = (
    "deepspeed-killed",
    "mpi-rank-signal",
    "mpi-rank-aborted",
    "python-died-of-signal",
    "hydra-signal",
    "slurm-task-signal",
    "composer-rank-killed",
    "lightning-child-killed",
    "spawned-process-killed",
    "systemd-unit-killed",
    "spawn-exited",
    "lightning-ended",
)
_BY_SIGNAL = {4: "crash", 6: "crash", 7: "crash", 8: "crash", 9: "killed", 11: "crash", 15: "stopped"}


def classify_cause(cause: Cause) -> str:
    """Return the kind of a cause, or "" if its signature has none."""
    number = _find_signal(cause)
    if number in _BY_SIGNAL:
        return _BY_SIGNAL[number]
    return _BY_SIGNATURE.get(cause.signature, "")


def _find_signal(cause: Cause) -> int:
    """Return the signal that ended the process, from its exit code or from the report of a launcher; else 0."""
    code = cause.code if cause.code is not None else cause.host_code
    if cause.signature in ("signal", "exit") and code is not None:
        return -code if code < 0 else code - 128
    if cause.signature in _REPORT_A_SIGNAL:
        found = re.search(r"signal:? (\d+)|(SIG[A-Z]+)|(Killed)|(Segmentation|Bus error)", cause.says)
        numbers = (
            [int(found[1] or 0), int(getattr(signal, found[2] or "", 0)), found[3] and 9, found[4] and 11]
            if found
            else []
        )
        return next((number for number in numbers if number), 0)
    return 0
