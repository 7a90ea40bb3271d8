"""Histories of failures: the output of ranks and torchrun in a failing run of four ranks on two hosts (or more)."""

from __future__ import annotations

from collections.abc import Sequence

from fanout.diagnose.collector import EvidenceCollector
from fanout.diagnose.first_cause import diagnose_evidence
from fanout.diagnose.verdict import Party, Verdict
from tests.histories import History

ADDRESS = {"gpu01": "10.0.0.1", "gpu02": "10.0.0.2", "gpu03": "10.0.0.3", "gpu04": "10.0.0.4"}

CLOSED = (
    "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [{peer}]:30095. "
    "This is typically caused by a remote worker crashing."
)
TIMED_OUT = (
    "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] "
    "Timed out waiting 12000ms for recv operation to complete"
)
STORE = "torch.distributed.DistStoreError: wait timeout after 12000ms, keys: /default_pg/0//cpu//0/{rank}"
NCCL = (
    "[rank{rank}]:[E626 05:06:30.929096625 ProcessGroupNCCL.cpp:632] [Rank {rank}] Watchdog caught collective operation "
    "timeout: WorkNCCL(SeqNum=8841, OpType=ALLREDUCE, NumelIn=4, NumelOut=4, Timeout(ms)=600000) ran for 600065 "
    "milliseconds before timing out."
)
FRAMES = """Traceback (most recent call last):
  File "/home/ann/proj/train.py", line 98, in step
    loss.backward()
  File "/opt/venv/lib/python3.11/site-packages/torch/_tensor.py", line 581, in backward
    torch.autograd.backward(
"""


class Run(History):
    """A started run with ``each`` ranks per host; ranks are global."""

    def __init__(self, hosts: int = 2, each: int = 2, *, split: bool = False) -> None:
        super().__init__(*list(ADDRESS)[:hosts])
        self.each = each
        self.split = split  # one stream a rank
        self.connect_hosts().start_hosts()
        for rank in range(hosts * each):
            self.out(rank, f"step 1 loss {4 - rank * 0.1:.3f}")
        self.pass_time(5.0)

    def host(self, rank: int) -> str:
        return self.hosts[rank // self.each]

    def pid(self, rank: int) -> int:
        return 20_000 + rank

    def out(self, rank: int, *lines: str) -> Run:
        text = "".join(f"{line}\n" for line in lines).encode()
        self.add_output(self.host(rank), text)
        return self

    def raises(self, rank: int, error: str, *, mark: bool = True, after: float = 0.0) -> Run:
        """Print the rank's traceback, each line marked as torch does once the process group exists."""
        self.at += after
        mark_ = f"[rank{rank}]: " if mark else ""
        return self.out(rank, *(f"{mark_}{line}" for line in (*FRAMES.splitlines(), error)))

    def torchrun(self, host: str, *codes: tuple[int, int], after: float = 0.2) -> Run:
        """Print torchrun's report about (rank, code), the first noticed failure first; then train.sh ends with 1."""
        self.at += after
        (first, code), *others = codes
        where = "torch/distributed/elastic/multiprocessing/api.py"
        lines = [
            f"W1122 15:42:08.0 99 {where}:1028] Sending process {self.pid(rank)} closing signal SIGTERM"
            for rank, each in others
            if each == -15
        ]
        lines.append(
            f"E1122 15:42:08.1 99 {where}:1002] failed (exitcode: {code}) local_rank: {first % self.each} "
            f"(pid: {self.pid(first)}) of binary: /opt/venv/bin/python3"
        )
        lines += [*FRAMES.splitlines(), "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: "]
        lines += ["=" * 60, "train.py FAILED", "-" * 60, "Failures:"]
        lines += ["  <NO_OTHER_FAILURES>"] if not others else []
        for number, (rank, each) in enumerate(others, 1):
            lines += self._entry(number, rank, each)
        lines += ["-" * 60, "Root Cause (first observed failure):", *self._entry(0, first, code), "=" * 60]
        self.add_output(host, "".join(f"{line}\n" for line in lines).encode())
        self.end_hosts(host, code=1)
        return self

    def _entry(self, number: int, rank: int, code: int) -> list[str]:
        return [
            f"[{number}]:",
            "  time      : 2026-11-22_15:42:08",
            "  host      : node",
            f"  rank      : {rank} (local_rank: {rank % self.each})",
            f"  exitcode  : {code} (pid: {self.pid(rank)})",
            "  error_file: <N/A>",
            "  traceback : To enable traceback see: https://pytorch.org/docs",
        ]

    def victims(self, *ranks: int, peer: str = "10.0.0.2", text: str = CLOSED, after: float = 0.05) -> Run:
        for rank in ranks:
            self.raises(rank, text.format(peer=peer, rank=rank), after=after)
        return self


def verdict(run: History, *, each: int | None = 2, error: float = 0.25) -> Verdict:
    """Return the verdict on the events of a run."""
    ranks = {host: (node, each) for node, host in enumerate(run.hosts)}
    collector = EvidenceCollector(run.hosts, ranks=ranks, error=error)
    collector.add_addresses({host: ADDRESS[host] for host in run.hosts if host in ADDRESS})
    for event in run.events:
        collector.add_event(event)
    return diagnose_evidence(collector.build_evidence())


def people(parties: Sequence[Party]) -> list[tuple[str, int | None]]:
    return [(party.host, party.rank) for party in parties]
