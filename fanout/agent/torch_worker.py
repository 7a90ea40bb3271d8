"""Worker of the deep check: in the task's own Python it joins the other ranks through torch and runs all-reduces.

fanout never imports this file. Its text goes to a host as data, and the Python that train.sh would find runs it. It
exchanges lines of JSON over a channel. It receives the launcher's steps; it sends each stage that it enters (so that a
hang has a place) and the result of each step. The process ends when the channel closes.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import time
from datetime import timedelta

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, TextIO

    Step = Dict[str, Any]

KILL_SECONDS = 2.0
LARGEST_EXACT = 1 << 24  # fp32 is exact for every integer up to here, so a correct sum is correct bit for bit


class TorchWorker:
    """The process that has imported torch. Each step runs in a child, so a hang or crash costs only that step."""

    def __init__(self, channel: socket.socket, words: TextIO) -> None:
        self._channel, self._text = channel, words
        self._step: Step = {}
        self._child = 0
        self._pipe = -1

    def serve(self) -> None:
        """Import torch, report its facts, then run one step after the other. A new step kills a hung previous one."""
        self._send({"stage": "import"})
        began = _run_guarded(_import_torch, {})
        if began.get("error"):
            self._send({"done": "begin", **began})
            return
        self._start_step({"do": "begin", "id": "begin"})
        while True:
            waited: List[Any] = [self._channel, self._pipe] if self._child else [self._channel]
            ready = select.select(waited, [], [])[0]
            if self._child and self._pipe in ready:
                self._forward_output()
            elif self._channel in ready:
                line = self._text.readline()
                if not line:
                    return
                self._kill_step()
                self._start_step(json.loads(line))

    def _send(self, message: Step) -> None:
        self._channel.sendall(json.dumps(message).encode() + b"\n")

    def _start_step(self, step: Step) -> None:
        self._step = step
        self._pipe, writer = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
            TorchStep(step, writer).run()
        os.close(writer)

    def _forward_output(self) -> None:
        """Forward the child's output unchanged. If the child has closed its pipe, report how it ended."""
        data = os.read(self._pipe, 1 << 16)
        if data:
            self._channel.sendall(data)
            return
        os.close(self._pipe)
        _, status = os.waitpid(self._child, 0)
        self._child = 0
        if status:
            how = "killed by signal %d" % os.WTERMSIG(status) if os.WIFSIGNALED(status) else "it exited by itself"
            self._send({"done": self._step["id"], "error": how, "died": True})

    def _kill_step(self) -> None:
        """Kill the previous step, unless it is the store, which all other ranks need."""
        if not self._child:
            return
        if self._step["do"] != "serve":
            os.kill(self._child, signal.SIGKILL)
            _wait_for_end(self._child)
        os.close(self._pipe)
        self._child = 0


class TorchStep:
    """One step in a child process, and its current stage."""

    def __init__(self, step: Step, pipe: int) -> None:
        self._step, self._pipe = step, pipe
        self._stage = ""

    def run(self) -> None:
        """Run the step, report its result, and exit. The step that serves the store stays."""
        step = self._step
        what: Dict[str, Callable[[Step], Step]] = {
            "begin": self._report_torch, "idle": lambda step: {}, "serve": self._serve_store, "join": self._join_store, "sum": self._run_all_reduces, "burn": self._run_matmuls,
        }  # fmt: skip
        result = _run_guarded(what[step["do"]], step)
        if result.get("error"):
            result.setdefault("stage", self._stage)
        self._send({"done": step["id"], **result})
        while step["do"] == "serve" and not result.get("error"):
            signal.pause()
        os._exit(0)  # torch's threads may hang in a broken process group

    def _send(self, message: Step) -> None:
        os.write(self._pipe, json.dumps(message).encode() + b"\n")

    def enter_stage(self, stage: str) -> None:
        self._stage = stage
        self._send({"stage": stage})

    def _report_torch(self, step: Step) -> Step:
        import torch
        import torch.distributed as dist

        local = int(os.environ.get("FANOUT_DEEP_LOCAL", "0"))
        return {
            "torch": torch.__version__,
            "distributed": dist.is_available(),
            "nccl": dist.is_available() and dist.is_nccl_available(),
            "gpu": torch.cuda.get_device_name(local) if torch.cuda.is_available() else "",
        }

    def _serve_store(self, step: Step) -> Step:
        self._server = self._open_store(step, server=True)
        return {}

    def _join_store(self, step: Step) -> Step:
        self._open_store(step).add("joined", 1)
        return {}

    def _open_store(self, step: Step, *, server: bool = False) -> Any:
        """Open torch's TCPStore as torchrun does: node 0 serves it, all other nodes connect."""
        import torch.distributed as dist

        self.enter_stage("store")
        return dist.TCPStore(  # type: ignore[attr-defined]
            step["addr"], step["port"], None, server, timedelta(seconds=step["timeout"]), wait_for_workers=False
        )

    # -- all-reduces over a group

    def _run_all_reduces(self, step: Step) -> Step:
        """Form the group, then all-reduce one element and each of ``sizes`` (bytes) until one takes too long.

        If a size fails, the measurements before it are reported too.
        """
        import torch
        import torch.distributed as dist

        done: List[List[Any]] = []
        wait = timedelta(seconds=step["timeout"])
        try:
            store = dist.distributed_c10d.PrefixStore("%s.%d" % (step["id"], step["group"]), self._open_store(step))
            absent = self._wait_for_ranks(store, step["rank"], step["world"], step["timeout"])
            if absent:
                return {"error": "not all ranks arrived", "absent": absent, "sizes": done}
            device = torch.device("cpu")
            if step["backend"] == "nccl":
                device = torch.device("cuda", int(os.environ.get("FANOUT_DEEP_LOCAL", "0")))
                torch.cuda.set_device(device)
            self.enter_stage("group")
            dist.init_process_group(
                step["backend"],
                store=dist.distributed_c10d.PrefixStore("group", store),
                rank=step["rank"],
                world_size=step["world"],
                timeout=wait,
            )
            for size in [4, *step["sizes"]]:
                if not _fits_limit(done, size, step["limit"]):
                    break
                self.enter_stage("sum of %d bytes" % size)
                done.append([size, *_time_all_reduce(size // 4, step, device)])
                self._send({"sizes": done})  # if the next size takes too long, the launcher uses these
        except Exception as error:
            return {"error": _describe_error(error), "sizes": done}
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
        return {"sizes": done}

    def _wait_for_ranks(self, store: Any, rank: int, world: int, seconds: float) -> List[int]:
        """Wait until all ranks have arrived. Return the ranks that have not arrived when the timeout is over."""
        self.enter_stage("arrive")
        store.set("here-%d" % rank, "1")
        deadline = time.monotonic() + seconds
        count = store.add("count", 1)
        while count < world and time.monotonic() < deadline:
            time.sleep(0.05)
            count = store.add("count", 0)
        return [] if count >= world else [other for other in range(world) if not _has_key(store, "here-%d" % other)]

    # -- work for the GPU

    def _run_matmuls(self, step: Step) -> Step:
        """Repeat one matrix product. Return the bits of the first result, the number of differing elements, and the
        TFLOPS."""
        import torch

        self.enter_stage("burn")
        torch.cuda.set_device(int(os.environ.get("FANOUT_DEEP_LOCAL", "0")))
        n = step["n"]
        maker = torch.Generator().manual_seed(1)  # generated on the CPU: the same bits for every GPU
        left, right = (torch.randn(n, n, generator=maker).bfloat16().cuda() for _ in range(2))
        first = left @ right
        torch.cuda.synchronize()
        rounds, began = 0, time.perf_counter()
        differing = torch.zeros((), dtype=torch.int64, device="cuda")
        while time.perf_counter() - began < step["seconds"]:
            for _ in range(8):
                differing += (left @ right != first).sum()  # stays on the GPU until the end
            torch.cuda.synchronize()
            rounds += 8
        took = time.perf_counter() - began
        bits = int(first.view(torch.int16).long().sum()) ^ int((first.view(torch.int16).long() ** 2).sum())
        return {"bits": bits, "differing": int(differing), "tflops": 2 * n**3 * rounds / took / 1e12}


def _has_key(store: Any, key: str) -> bool:
    """Return whether the key exists. A store older than ``check`` is tested by a short wait."""
    try:
        store.wait([key], timedelta(milliseconds=10))
    except Exception:
        return False
    return True


def _fits_limit(done: List[List[Any]], size: int, limit: float) -> bool:
    """Return whether the next size keeps the limit, if the time grows with the size. All ranks get the same answer."""
    return not done or done[-1][0] < 1 << 16 or done[-1][1] * size / done[-1][0] <= limit


def _time_all_reduce(count: int, step: Step, device: Any) -> List[Any]:
    """Return [mean seconds of the slowest rank, number of wrong elements on this rank]."""
    import torch
    import torch.distributed as dist

    world = step["world"]
    whole = world * (world + 1) // 2
    period = max(2, min(251, LARGEST_EXACT // whole))
    base = torch.arange(period, device=device).float().repeat(count // period + 1)[:count].contiguous()
    tensor = base * (step["rank"] + 1)
    began = time.perf_counter()
    dist.all_reduce(tensor)
    wrong = int((tensor != base.mul_(whole)).sum())
    first = _reduce_max(time.perf_counter() - began, device)
    times = int(max(1, min(10, step["limit"] / 4 / first)))
    tensor.zero_()
    dist.barrier()
    began = time.perf_counter()
    for _ in range(times):
        dist.all_reduce(tensor)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return [_reduce_max((time.perf_counter() - began) / times, device), wrong]


def _reduce_max(seconds: float, device: Any) -> float:
    import torch
    import torch.distributed as dist

    longest = torch.tensor([seconds], device=device, dtype=torch.float64)
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    return float(longest)


def _wait_for_end(child: int) -> None:
    """Wait for a killed child. One that hangs in the kernel, for example in a GPU driver, ends later."""
    until = time.monotonic() + KILL_SECONDS
    while not os.waitpid(child, os.WNOHANG)[0] and time.monotonic() < until:
        time.sleep(0.005)


def _run_guarded(what: Callable[[Step], Step], step: Step) -> Step:
    try:
        return what(step)
    except Exception as error:
        return {"error": _describe_error(error)}


def _describe_error(error: Exception) -> str:
    """Return the first line of torch's error, which names the cause."""
    text = str(error).strip().splitlines()
    return "%s: %s" % (type(error).__name__, text[0][:300] if text else "")


def _import_torch(step: Step) -> Step:
    """Import torch once before any step, because the import takes longer than all steps together. Later forks are
    cheap.

    Nothing here may start torch's threads or CUDA: neither survives a fork.
    """
    import torch.distributed

    return {"torch": torch.__version__}


def main(channel: socket.socket, words: TextIO) -> None:
    """Run the worker; called by the line that received this text."""
    TorchWorker(channel, words).serve()
    os._exit(0)
