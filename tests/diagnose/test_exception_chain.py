"""Exceptions of one traceback: an error of a library of communication is no sure cause, and the chain decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fanout.diagnose.exception_chain import split_chain
from tests.diagnose.test_why import verdict as diagnose_files

PEER = "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.9]:30095."
HANDLING = "\nDuring handling of the above exception, another exception occurred:\n\n"
CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
SITE = "/opt/venv/lib/python3.11/site-packages"


def trace(error: str, *paths: str) -> str:
    frames = "".join(f'  File "{path}", line 7, in step\n    run()\n' for path in ("/app/train.py", *paths))
    return f"Traceback (most recent call last):\n{frames}{error}\n"


def diagnose(tmp_path: Path, text: str) -> dict[str, Any]:
    logs = tmp_path / "logs"
    logs.mkdir()
    marked = "".join(f"[rank1]: {line}\n" for line in text.splitlines())
    (logs / "n1.log").write_text("[rank0]: step 4 loss 2.0\n")
    (logs / "n2.log").write_text(f"[rank1]: step 4 loss 2.0\n{marked}")
    return diagnose_files(str(logs))


@pytest.mark.parametrize(
    "path",
    [
        f"{SITE}/torch/distributed/distributed_c10d.py",
        f"{SITE}/deepspeed/comm/comm.py",
        f"{SITE}/accelerate/utils/operations.py",
        f"{SITE}/horovod/torch/mpi_ops.py",
        f"{SITE}/ray/_private/worker.py",
        "mpi4py/MPI/Comm.pyx",
        "/usr/lib/python3.11/multiprocessing/connection.py",
    ],
)
def test_an_unknown_error_of_a_library_of_communication_is_no_sure_cause(path: str, tmp_path: Path) -> None:
    verdict = diagnose(tmp_path, trace("RuntimeError: internal state 17", path))
    assert (verdict["cause"]["host"], verdict["confidence"]) == ("n2", "low")


@pytest.mark.parametrize("path", [f"{SITE}/torch/nn/functional.py", f"{SITE}/torch/distributed/run.py", "/app/data.py"])
def test_an_unknown_error_of_other_code_is_the_cause(path: str, tmp_path: Path) -> None:
    verdict = diagnose(tmp_path, trace("RuntimeError: internal state 17", path))
    assert (verdict["cause"]["rank"], verdict["confidence"]) == (1, "high")


@pytest.mark.parametrize(
    ("text", "role", "confidence"),
    [
        (trace("KeyError: 'step'") + HANDLING + trace(PEER), "victim", ""),
        (trace("ValueError: bad shard") + HANDLING + trace(PEER), "root", "medium"),
        (trace("ValueError: bad shard") + HANDLING + trace("RuntimeError: step failed"), "root", "high"),
        (trace(PEER) + CAUSE + trace("TrainingError: step failed"), "victim", ""),
        (
            trace("OSError: [Errno 28] No space left on device") + CAUSE + trace("RuntimeError: no checkpoint"),
            "root",
            "high",
        ),
        (
            trace("ConnectionResetError: [Errno 104] reset", "/usr/lib/python3.11/multiprocessing/connection.py")
            + HANDLING
            + trace("RuntimeError: DataLoader worker (pid 93) is killed by signal: Killed. "),
            "root",
            "high",
        ),
        (
            trace(PEER) + HANDLING + trace("RuntimeError: DataLoader worker (pid 93) is killed by signal: Killed. "),
            "victim",
            "",
        ),
    ],
    ids=[
        "expected look-up",
        "error, then a lost peer",
        "two own errors",
        "lost peer as the cause",
        "disk as the cause",
        "connection to a loader that was killed",
        "lost peer, then a loader that was killed",
    ],
)
def test_the_chain_shows_whether_the_rank_is_a_victim(text: str, role: str, confidence: str, tmp_path: Path) -> None:
    verdict = diagnose(tmp_path, text)
    ranks = {each["rank"] for each in verdict["victims"]}
    assert (1 in ranks) == (role == "victim")
    if confidence:
        assert (verdict["cause"]["rank"], verdict["confidence"]) == (1, confidence)
    assert role == "root" or verdict["confidence"] != "high"


def test_a_torchrun_that_waits_in_its_exit_barrier_is_a_victim(tmp_path: Path) -> None:
    frame = (
        f'  File "{SITE}/torch/distributed/elastic/agent/server/api.py", line 980, in _exit_barrier\n    barrier()\n'
    )
    verdict = diagnose(tmp_path, trace("RuntimeError: unknown").replace("RuntimeError", f"{frame}RuntimeError"))
    assert 1 in {each["rank"] for each in verdict["victims"]}
    assert verdict["confidence"] != "high"


def test_a_message_of_several_lines_that_quotes_a_victim_is_no_sure_cause(tmp_path: Path) -> None:
    text = trace("TrainerError: step 9 failed:\n  worker: Connection closed by peer [10.0.0.9]:30095", "/app/loop.py")
    assert diagnose(tmp_path, text)["confidence"] != "high"


def test_the_exceptions_of_a_chain_are_split_with_their_frames() -> None:
    first, second = split_chain((trace("KeyError: 1", "/a.py") + HANDLING + trace("ValueError: 2")).splitlines())
    assert (first.text, first.raiser, first.while_handling) == ("KeyError: 1", "/a.py", False)
    assert (second.text, second.raiser, second.while_handling) == ("ValueError: 2", "/app/train.py", True)


CONNECTION_ERRORS = [
    "EOFError",
    "OSError: [Errno 107] Transport endpoint is not connected",
    "grpc._channel._InactiveRpcError: <_InactiveRpcError of RPC that terminated with:",
    "mpi4py.MPI.Exception: MPI_ERR_PROC_FAILED: Process failed",
    "horovod.common.exceptions.HorovodInternalError: Horovod has been shut down",
    "torch.distributed.elastic.rendezvous.api.RendezvousGracefulExitError: closed",
    "asyncio.exceptions.IncompleteReadError: 0 bytes read on a total of 4 expected bytes",
]


@pytest.mark.parametrize("error", CONNECTION_ERRORS)
def test_an_error_of_a_connection_is_no_sure_cause(error: str, tmp_path: Path) -> None:
    assert diagnose(tmp_path, trace(error))["confidence"] != "high"


@pytest.mark.parametrize("error", ["EOFError: Ran out of input", "OSError: [Errno 5] Input/output error", "queue.Full"])
def test_an_error_of_a_file_is_a_cause(error: str, tmp_path: Path) -> None:
    assert diagnose(tmp_path, trace(error))["confidence"] == "high"


LIBRARY_ERROR = (
    "torch.distributed.DistBackendError: NCCL error in: NCCLUtils.cpp:77, {what}, NCCL version 2.26.2\n{kind}: text\n"
    "Last error:\n{last}"
)


@pytest.mark.parametrize(
    ("what", "kind", "last", "sure"),
    [
        (
            "unhandled system error",
            "ncclSystemError",
            "Call to recv from 10.0.0.2<432> failed : Connection reset by peer",
            False,
        ),
        ("internal error", "ncclInternalError", "Socket recv failed while polling for opId=0x7f", False),
        ("remote process exited", "ncclRemoteError", "socketProgress: Connection closed by remote peer n1<432>", False),
        ("internal error", "ncclInternalError", "bootstrap: accept failed, peer closed", False),
        (
            "unhandled system error",
            "ncclSystemError",
            "Call to ibv_modify_qp failed with 110 Connection timed out",
            False,
        ),
        (
            "invalid usage",
            "ncclInvalidUsage",
            "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 4000",
            True,
        ),
        ("unhandled cuda error", "ncclUnhandledCudaError", "Cuda failure 2 'out of memory'", True),
    ],
)
def test_the_text_after_last_error_decides(what: str, kind: str, last: str, sure: bool, tmp_path: Path) -> None:
    verdict = diagnose(tmp_path, trace(LIBRARY_ERROR.format(what=what, kind=kind, last=last)))
    assert (verdict["confidence"] == "high") == sure
    if sure:
        assert verdict["cause"]["host"] == "n2"


RAY = (
    'Traceback (most recent call last):\n  File "/app/driver.py", line 9, in <module>\n    ray.get(refs)\n'
    "ray.exceptions.RayTaskError({kind}): ray::Worker.step() (pid=812, ip=10.0.0.7)\n"
    '  File "/app/worker.py", line 22, in step\n    run()\n{error}\n'
)


@pytest.mark.parametrize(("error", "named"), [("ValueError: bad reward", True), (PEER, False)])
def test_the_error_of_the_task_counts_not_rays_report_about_it(error: str, named: bool, tmp_path: Path) -> None:
    verdict = diagnose(tmp_path, RAY.format(kind=error.partition(":")[0], error=error))
    cause = verdict["cause"] or {}
    assert (cause.get("line") == error) == named
    assert named or verdict["confidence"] != "high"


def test_warnings_do_not_displace_the_exception_that_ended_the_process(tmp_path: Path) -> None:
    text = "[E612 03:14:07.8 socket.cpp:818] [c10d] The client socket has failed to connect to any network address of (n9, 29500).\n"
    error = "torch.distributed.DistNetworkError: The client socket has failed to connect to any network address of (n9, 29500)."
    verdict = diagnose(tmp_path, 5 * text + trace(error))
    assert verdict["cause"]["line"] == error


LOADER = "/opt/v/lib/python3.11/site-packages/torch/utils/data/dataloader.py"
POOL = "/opt/python/lib/python3.11/multiprocessing/pool.py"
PIPE = "/opt/python/lib/python3.11/multiprocessing/connection.py"


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        ((LOADER, PIPE), ("helper-lost", "medium")),
        ((POOL, PIPE), ("helper-lost", "medium")),
        ((PIPE,), ("peer-trouble", "low")),
        ((LOADER, "/app/bucket.py", "/opt/python/lib/python3.11/socket.py"), ("peer-trouble", "low")),
    ],
)
def test_the_connection_to_a_process_of_the_rank_is_no_connection_to_a_peer(
    paths: tuple[str, ...], found: tuple[str, str], tmp_path: Path
) -> None:
    verdict = diagnose(tmp_path, trace("ConnectionResetError: [Errno 104] Connection reset by peer", *paths))
    assert (verdict["cause"]["signature"], verdict["confidence"]) == found
