"""Logs from the field, of other launchers, shells, containers and accelerators, and the verdict of ``why`` on each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.diagnose.test_why import call_why

TRACE = '{m}Traceback (most recent call last):\n{m}  File "/app/train.py", line 10, in <module>\n{m}    step(batch)\n{m}{e}\n'
WAITED = (
    "[rank{r}]:[E508 10:32:31.929096 ProcessGroupNCCL.cpp:632] [Rank {r}] Watchdog caught collective operation timeout: "
    "WorkNCCL(SeqNum=7, OpType=ALLREDUCE, {size}, Timeout(ms)=600000) ran for 600065 milliseconds before timing out.\n"
)
LOST = (
    "[rank{r}]:[E508 10:11:14.102030 ProcessGroupNCCL.cpp:1834] [PG ID 0 PG GUID 0 Rank {r}] Process group watchdog thread "
    "terminated with exception: NCCL error: remote process exited or there was a network error, NCCL version 2.21.5\n"
)
NUMEL = "NumelIn=4, NumelOut=4"


def trace(error: str, mark: str = "") -> str:
    return TRACE.format(m=mark, e=error)


def failed(code: int, local: int, pid: int, at: str = "0508 10:11:15.200000") -> str:
    where = "torch/distributed/elastic/multiprocessing/api.py:869"
    return f"E{at} 88 {where}] failed (exitcode: {code}) local_rank: {local} (pid: {pid}) of binary: /opt/conda/bin/python\n"


def reported(host: str, *ranks: tuple[int, int, int, int]) -> str:
    """Return torchrun's report: (rank, local rank, exit code, pid) of each."""
    entries = "".join(
        f"[{n}]:\n  time      : 2025-05-08_10:11:15\n  host      : {host}\n  rank      : {rank} (local_rank: {local})\n"
        f"  exitcode  : {code} (pid: {pid})\n  error_file: <N/A>\n  traceback : To enable traceback see: https://pytorch.org\n"
        for n, (rank, local, code, pid) in enumerate(ranks)
    )
    rules = "=" * 60, "-" * 60
    return f"{rules[0]}\ntrain.py FAILED\n{rules[1]}\nFailures:\n{entries}{rules[1]}\nRoot Cause (first observed failure):\n{entries}{rules[0]}\n"


def prefixed(prefix: str, text: str) -> str:
    return "".join(f"{prefix}{line}\n" for line in text.splitlines())


def docker(text: str) -> str:
    return "".join(
        json.dumps({"log": line + "\n", "stream": "stderr", "time": f"2025-05-08T10:11:{13 + n:02}.123Z"}) + "\n"
        for n, line in enumerate(text.splitlines())
    )


def killed_by(line: str) -> dict[str, str]:
    return {
        "node0.log": "2025-05-02 10:00:01 INFO loaded\n" + WAITED.format(r=0, size=NUMEL),
        "node1.log": f"2025-05-02 10:00:01 INFO shards 12/48\n{line}\n",
    }


BAD = "[rank9]: ValueError: bad shard 7"
HCCL = (
    "[rank{r}]: RuntimeError: InnerRunOpApi:OpParamMaker.cpp:281 OPS function error: HcclAllreduce, error code is 6\n"
    "[rank{r}]: [ERROR] 2025-04-08-18:07:20 (PID:{p}, Device:0, RankID:{r}) ERR01100 OPS call acl api failed.\n"
    "[rank{r}]: EI0006: [PID: {p}] 2025-04-08-18:07:20.444.436 Getting socket times out. Reason: Remote Rank did not send "
    "the data in time.\n"
)
NPU = "[rank{r}]: RuntimeError: npuSynchronizeDevice:x.ts:456 NPU function error: AclrtSynchronizeDevice, error code is {c}\n"
EI0002 = "[rank{r}]: EI0002: [PID: 5] The Notify register has not received the Notify record from remote rank [3].\n"
DIST = (
    "[rank0]: torch.distributed.DistBackendError: NCCL error in: NCCLUtils.cpp:77, {what}, NCCL version 2.21.5\n"
    "[rank0]: {kind}: Internal check failed.\n[rank0]: Last error:\n[rank0]: {last}\n"
)
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 2 has a total capacity of 79.10 GiB"
XID = "NVRM: Xid (PCI:0000:4c:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
STOPPED = (
    "W0508 10:11:09.388000 12 torch/distributed/elastic/agent/server/api.py:723] Received 15 death signal, shutting down workers\n"
    "W0508 10:11:09.389000 12 torch/distributed/elastic/multiprocessing/api.py:900] Sending process 45 closing signal SIGTERM\n"
)
DEEPSPEED = "[2025-03-20 20:31:{s},269] [ERROR] [launch.py:325:sigkill_handler] ['python', '-u', 'train.py'] exits with return code = {c}\n"
RAY = "(WorkerDict pid=9045, ip=10.0.0.2) "

#: files, signature, host, rank, confidence
CASES: dict[str, tuple[dict[str, str], str, str | None, int | None, str]] = {
    "bash says Killed": (killed_by("/data/train.sh: line 24: 71232 Killed                  python -u pretrain.py"),
                         "shell-killed", "node1", None, "high"),
    "bash in Chinese": (killed_by("train.sh: 行 24: 71232 已杀死               python -u pretrain.py"),
                        "shell-killed", "node1", None, "high"),
    "bash in Japanese": (killed_by("train.sh: 24 行: 71232 強制終了            python -u pretrain.py"),
                         "shell-killed", "node1", None, "high"),
    "bash in Korean": (killed_by("train.sh: 줄 24: 71232 죽었음                  python -u pretrain.py"),
                       "shell-killed", "node1", None, "high"),
    "bash in German": (killed_by("train.sh: Zeile 24: 71232 Getötet                python -u pretrain.py"),
                       "shell-killed", "node1", None, "high"),
    "zsh says killed": (killed_by("train.sh:24: killed     python -u pretrain.py"), "shell-killed", "node1", None, "high"),
    "dash says Killed": (killed_by("Killed"), "shell-killed", "node1", None, "high"),
    "bash says Segmentation fault": (killed_by("train.sh: line 9: 4122 Segmentation fault      (core dumped) python x.py"),
                                     "shell-crashed", "node1", None, "high"),
    "accelerate's launcher": ({"gpu01.log": trace("subprocess.CalledProcessError: Command '['python', 'train.py']' died with "
                                                  "<Signals.SIGKILL: 9>.")}, "python-died-of-signal", "gpu01", None, "high"),
    "DeepSpeed over pdsh": (
        {"run.log": prefixed("gpu01: ", "[2025-03-20 20:12:01,101] [INFO] [launch.py:145:main] WORLD INFO DICT\n{'loss': 1.2}\n")
         + prefixed("gpu02: ", DEEPSPEED.format(s=29, c=-9)) + "pdsh@head: gpu02: ssh exited with exit code 247\n"
         + prefixed("gpu01: ", LOST.format(r=0) + DEEPSPEED.format(s=41, c=-6))}, "deepspeed-killed", "gpu02", None, "high"),
    "mpirun": ({"run.log": "step 1 loss 2\n" + "-" * 60 + "\nmpirun noticed that process rank 11 with PID 48213 on node gpu02 "
                "exited on signal 9 (Killed).\n" + "-" * 60 + "\n"}, "mpi-rank-signal", "gpu02", 11, "high"),
    "HCCL: all waited": ({f"npu0{h + 1}.log": "".join(trace("x", f"[rank{r}]: ").rpartition("[rank")[0] + HCCL.format(r=r, p=r + 9)
                                                      for r in (2 * h, 2 * h + 1)) for h in (0, 1)},
                         "network", None, None, "low"),
    "HCCL: one host is quiet": ({"npu01.log": HCCL.format(r=0, p=9) + HCCL.format(r=1, p=10) + failed(1, 0, 9),
                                 "npu02.log": "2025-04-08 18:05:20 INFO building the index cache\n"},
                                "quiet-host", "npu02", None, "medium"),
    "NPU error, the others wait": (
        {"npu01.log": NPU.format(r=0, c=507048) + EI0002.format(r=0) + NPU.format(r=1, c=507048) + EI0002.format(r=1),
         "npu02.log": NPU.format(r=2, c=507048) + EI0002.format(r=2) + NPU.format(r=3, c=507015)},
        "npu-device-error", "npu02", 3, "high"),
    "HIP": ({"amd01.log": trace("torch.OutOfMemoryError: HIP out of memory. Tried to allocate 4.50 GiB. GPU 3", "[rank3]: ")
             + LOST.format(r=2) + failed(1, 3, 53)}, "cuda-out-of-memory", "amd01", 3, "high"),
    "old form of a timeout": (
        {f"w{h}.log": "".join(WAITED.format(r=r, size="TensorShape=[1048576]") for r in range(4 * h, 4 * h + 4) if r != 5)
         + ("WARNING:torch.distributed.elastic.multiprocessing.api:Sending process 1201 closing signal SIGTERM\n" if h else "")
         + reported(f"w{h}", *((r, r % 4, -15 if r == 5 else -6, 1100 + 100 * h + r % 4) for r in range(4 * h, 4 * h + 4)))
         for h in (0, 1)}, "silent", "w1", 5, "medium"),
    "CRI": ({"pod-master-0.log": prefixed("2025-05-08T10:11:14.123456789Z stderr F ", LOST.format(r=0)),
             "pod-worker-1.log": prefixed("2025-05-08T10:11:13.123456789Z stderr F ", trace(BAD[9:], "[rank9]: "))},
            "python-exception", "pod-worker-1", 9, "high"),
    "docker's JSON": ({"worker1.log": docker("step 1 loss 2\n" + trace(BAD[9:], "[rank9]: "))},
                      "python-exception", "worker1", 9, "high"),
    "[ip] before the text": ({"all.log": prefixed("[10.0.0.1] ", "step 1 loss 2\n" + LOST.format(r=0))
                              + prefixed("[10.0.0.2] ", trace("KeyError: 'img'", "[rank1]: "))},
                             "python-exception", "10.0.0.2", 1, "high"),
    "parallel --tag": ({"all.log": "10.0.0.1\t{'loss': 1.2}\n" + prefixed("10.0.0.2\t", trace("KeyError: 'img'", "[rank1]: "))
                        + prefixed("10.0.0.1\t", LOST.format(r=0))}, "python-exception", "10.0.0.2", 1, "high"),
    "numbers of lines": ({"train.log": "".join(
        f"[{80740 + n}] {line}\n" for n, line in enumerate(("{'loss': 1.2}\n" * 6 + "".join(WAITED.format(r=r, size=NUMEL)
        for r in (0, 1, 2)) + trace("KeyError: 'img'", "[rank3]: ")).splitlines()))}, "python-exception", "train", 3, "high"),
    "journalctl": ({"journal.log": prefixed("Jun 12 03:14:06 gpu02 python3[301]: ", "step 1 loss 2\n" + trace("KeyError: 'img'", "[rank3]: "))
                    + prefixed("Jun 12 03:14:09 gpu01 python3[302]: ", LOST.format(r=0))}, "python-exception", "gpu02", 3, "high"),
    "syslog of two hosts": ({"syslog.log": f"Jun 12 03:14:06 gpu02 kernel: {XID}\nJun 12 03:14:07 gpu02 kernel: NVRM: GPU lost\n"
                             + prefixed("Jun 12 03:14:09 gpu01 train[30]: ", LOST.format(r=0))}, "xid", "gpu02", None, "medium"),
    "dmesg -T beside the log": (
        {"gpu02.dmesg.log": f"[Thu May  8 10:11:06 2025] {XID}\n",
         "gpu02.log": trace("torch.AcceleratorError: CUDA error: unspecified launch failure", "[rank10]: ") + failed(1, 2, 52)},
        "xid", "gpu02", None, "high"),
    "Ray's worker": ({"driver.log": "step 1 reward 0.3\n" + prefixed(RAY, trace(OOM)) + trace(
        f"ray.exceptions.RayTaskError(OutOfMemoryError): ray::WorkerDict.update() (pid=9045, ip=10.0.0.2)\n{OOM}")},
        "cuda-out-of-memory", "10.0.0.2", None, "medium"),  # its driver repeats it
    "Ray's worker died": ({"driver.log": "(TaskRunner pid=3001) step 4 reward 0.31\n(raylet, ip=192.168.1.4) A worker died or was "
        "killed while executing a task by an unexpected system error. Worker IP address: 192.168.1.4 Worker port: 1 Worker PID: 1508 x\n"
        + trace("ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.")},
        "ray-worker-died", "192.168.1.4", None, "high"),
    "srun --label, a short log": ({"slurm-88.out": prefixed("0:  ", "Rank 0 is up") + prefixed("2: ", trace(OOM, "[rank2]: "))
        + prefixed("0: ", LOST.format(r=0)) + "srun: error: node3: task 2: Exited with exit code 1\nsrun: Terminating StepId=88.0\n"},
        "cuda-out-of-memory", "node3", 2, "high"),
    "pdsh lost its ssh": ({"head.log": "gpu02: step 1 loss 2\ngpu01: step 1 loss 2\ngpu02: client_loop: send disconnect: Broken pipe\n"
                           "pdsh@head: gpu02: ssh exited with exit code 255\n"}, "ssh-lost", "gpu02", None, "low"),
    "torchrun was told to stop": ({"gpu01.log": "[default0]:step 1\n" + LOST.format(r=0) + failed(-6, 0, 121),
                                   "gpu02.log": "[default0]:step 1\n" + STOPPED}, "torchrun-death-signal", "gpu02", None, "low"),
    "torchrun was killed": ({"n0.log": trace("x", "[rank0]: ").rpartition("[rank0]: x")[0] + DIST.format(
        what="internal error", kind="ncclInternalError", last="Socket recv failed while polling for opId=0x7f") + failed(1, 0, 30),
        "n1.log": "step 1 loss 2\n/w/train.sh: line 9: 4122 Killed                  torchrun --nnodes 2 x.py\n"},
        "shell-killed", "n1", None, "high"),
    "Slurm's memory limit": ({"node2.log": "step 1 loss 2\nslurmstepd: error: Detected 1 oom_kill event in StepId=88.0. Some of the "
        "step tasks have been OOM Killed.\n", "node1.log": LOST.format(r=0)}, "slurm-oom", "node2", None, "high"),
    "Kubernetes's memory limit": ({"pod-1.log": "    Last State:     Terminated\n      Reason:       OOMKilled\n      Exit Code:    137\n"},
                                  "kubernetes-oom", "pod-1", None, "high"),
    "a crash in native code": ({"gpu01.log": "step 1\n[rank3]: Fatal Python error: Segmentation fault\n" + LOST.format(r=2)},
                               "fatal-python-error", "gpu01", 3, "high"),
    "Hydra": ({"run.log": "step 1 loss 2\n=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES\n=   PID 23847 RUNNING AT gpu03\n"
               "=   EXIT CODE: 9\n"}, "hydra-signal", "gpu03", None, "high"),
    "dash: not found": ({"gpu02.log": "train.sh: 12: torchrun: not found\n"}, "no-command", "gpu02", None, "medium"),
    "zsh: not found": ({"gpu02.log": "zsh: command not found: torchrun\n"}, "no-command", "gpu02", None, "medium"),
    "bash in Chinese: not found": ({"gpu02.log": "train.sh: 行 12: torchrun: 未找到命令\n"}, "no-command", "gpu02", None, "medium"),
    "all lost one address": ({f"gpu0{n}.log": trace(f"RuntimeError: [pair.cc:553] Connection closed by peer [10.0.0.9]:3000{n}. This is "
        "typically caused by a remote worker crashing.", f"[rank{n}]: ") for n in (1, 2, 3)}, "blamed", "10.0.0.9", None, "medium"),
    "reason under Last error": ({"n0.log": DIST.format(what="invalid usage", kind="ncclInvalidUsage",
        last="Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 4b000")}, "nccl-same-gpu", "n0", 0, "high"),
    "no GPU of that number": ({"gpu02.log": trace("torch.AcceleratorError: CUDA error: invalid device ordinal", "[rank11]: ")
        + failed(1, 3, 121)}, "cuda-ordinal", "gpu02", 11, "high"),
    "GPU memory taken": ({"g1.log": trace("RuntimeError: CUDA error: out of memory", "[rank4]: ")},
                         "cuda-memory-taken", "g1", 4, "high"),
    "a node never came": ({"node1.log": trace("torch.distributed.DistStoreError: wait timeout after 900000ms, keys: "
        "/none/torchelastic/role_info/1")}, "missing-node", None, None, "medium"),
    "a name of digits": ({"n1.log": "[E socket.cpp:753] [c10d] The client socket has failed to connect to any network address of "
        "(6841231, 47389).\n"}, "socket-all-digits", "n1", None, "medium"),
    "files named by addresses": ({"10.0.0.1_train.log": WAITED.format(r=0, size=NUMEL),
        "10.0.0.2_train.log": trace("OSError: We couldn't connect to the hub to load the files.", "[rank8]: ")},
        "peer-or-own", "10.0.0.2", 8, "high"),
    "fanout's own names of files": ({"10.77.0.12.rank-5-err.log": LOST.format(r=5)[9:],
        "10.77.0.13.rank-6-err.log": trace("KeyError: 'img'")}, "python-exception", "10.77.0.13", 6, "high"),
    "a progress bar on the line": ({"gpu01.log": "step 1\n 53%|#####     | 53/100 [00:01<00:01] "
        + trace("KeyError: 'img'", "[rank3]: ")}, "python-exception", "gpu01", 3, "high"),
    "time and host before the text": ({"gpu01.log": prefixed("10:11:12 gpu01 ", "step 1 loss 2\n" + trace("KeyError: 'img'"))},
                                      "python-exception", "gpu01", None, "medium"),
}  # fmt: skip


def found(place: Path, files: dict[str, str]) -> dict[str, Any]:
    place.mkdir()
    for name, text in files.items():
        (place / name).write_text(text)
    _, text = call_why("--json", ".", cwd=place)
    verdict: dict[str, Any] = json.loads(text)
    return verdict


@pytest.mark.parametrize("name", CASES)
def test_the_cause_is_named(name: str, tmp_path: Path) -> None:
    files, signature, host, rank, confidence = CASES[name]
    verdict = found(tmp_path / "logs", files)
    cause = verdict["cause"]
    assert cause is not None
    assert (cause["host"], cause["rank"], verdict["confidence"]) == (host, rank, confidence)
    assert signature in (cause["signature"], "peer-or-own")
    assert cause["rank"] not in [each["rank"] for each in verdict["victims"] if each["rank"] is not None]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if len(case[0]) > 1])
def test_without_the_log_of_one_host_no_wrong_verdict_has_high_confidence(name: str, tmp_path: Path) -> None:
    files, _, host, rank, _ = CASES[name]
    for number, left_out in enumerate(files):
        rest = {file: text for file, text in files.items() if file != left_out}
        verdict = found(tmp_path / str(number), rest)
        if verdict["confidence"] == "high":
            named = verdict["cause"]["host"], verdict["cause"]["rank"] if rank is not None else None
            assert named == (host, rank), left_out


def test_the_cause_in_dockers_json_is_quoted_as_the_program_wrote_it(tmp_path: Path) -> None:
    cause = found(tmp_path / "logs", CASES["docker's JSON"][0])["cause"]
    assert cause["line"] == "ValueError: bad shard 7"
    assert cause["traceback"][1] == '  File "/app/train.py", line 10, in <module>'
