"""Deep check: run torch on all hosts through the steps of a real start, until a host or a link is named.

The processes start like train.sh, with the exports of a run: one per GPU with nccl if every host has GPUs, else one
per host with gloo, because several would share one network. They import torch, connect to a store at
MASTER_ADDR:MASTER_PORT, form one group, and all-reduce one element and then larger tensors. Then ``pairs`` of hosts
are measured, and every GPU multiplies the same matrices. Each step has its own timeout, so a hang costs seconds and
shows the stage of each process. The processes end with the connection to their host.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fanout.agent import bundle
from fanout.checks.deep import pairwise
from fanout.checks.deep.pairwise import Pair, PairMeasurement, Round
from fanout.checks.deep.torch_result import SIZES, DeepTest, Processes, evaluate_pair
from fanout.checks.engine.definition import CheckContext
from fanout.checks.gpu.accelerators import count_gpus
from fanout.model.frozen import frozen
from fanout.model.plan import SETUP, LaunchPlan
from fanout.model.rpc import Asker, ProbeAnswer, ProbeRequest
from fanout.remote import protocol

LIFE = 1800.0  # seconds after which the processes end themselves
PAIR_SIZES = (1 << 16, 1 << 20, 1 << 24, 1 << 26)  # fewer, because there are many pairs
_MARGIN = 1.5  # seconds beyond torch's own timeout, in which a process can report it
_STAGES = len(SIZES) + 4  # stages of the longest step; a step's timeout is that of each stage
SHARE_OF_MEMORY = 16  # a tensor takes at most 1/16 of the free memory, since several exist at once


@frozen
class DeepTimeouts:
    """Timeouts in seconds: torch's import, forming a group of all hosts and of two, one all-reduce, the GPU test.

    nccl sets up all its channels in the first all-reduce, which may take a minute on many GPUs; gloo needs no such time.
    """

    begin: float = 120.0
    all_hosts: float = 6.0
    two: float = 4.0
    one_sum: float = 0.5
    burn: float = 3.0

    def adapt_to_backend(self, backend: str, hosts: int) -> DeepTimeouts:
        if backend == "nccl":
            return replace(self, all_hosts=90.0, two=45.0)
        return replace(self, all_hosts=self.all_hosts + hosts / 10)  # each connects to each


def run(
    case: CheckContext,
    plan: LaunchPlan,
    asker: Asker,
    *,
    report_progress: Callable[[str], None],
    patience: DeepTimeouts,
) -> DeepTest:
    """Run all steps; each step uses only the hosts that passed the previous one."""
    workers = _DeepWorkers(case, plan, asker, patience)
    try:
        report_progress("importing torch")
        test = workers.start()
        able = [name for name, processes in test.began.items() if not _has_error(processes)]
        first = case.request.first_host.name
        if first not in able:
            return test
        report_progress(f"connecting to the store at {test.place}")
        test = replace(test, backend=workers.backend, joined=workers.join_group(first, able))
        present = [name for name in able if name in test.joined and not _has_error(test.joined[name])]
        if present == able or len(present) > 1:
            report_progress(f"all-reduce over {len(present)} hosts")
            order = tuple(name for name in present for _ in range(workers.counts[name]))
            test = replace(
                test,
                order=order,
                joined={**test.joined, **workers.run_all_reduces([present], SIZES if len(order) > 1 else ())},
            )
            test = replace(test, pairs=_measure_pairs(workers, present, test, report_progress))
        if workers.backend == "nccl":
            report_progress("testing the GPUs")
            test = replace(
                test, burned=workers.run_step(dict.fromkeys(able, ()), _build_burn_step(patience), patience.burn + 60)
            )
        return test
    finally:
        workers.close()


def _build_burn_step(patience: DeepTimeouts) -> dict[str, Any]:
    return {"do": "burn", "n": 4096, "seconds": patience.burn}


def _has_error(processes: Processes) -> bool:
    return any(one.get("error") for one in processes)


def _measure_pairs(
    workers: _DeepWorkers, present: Sequence[str], test: DeepTest, report_progress: Callable[[str], None]
) -> dict[Pair, PairMeasurement]:
    """Measure all passes of pairs; with two hosts, the all-reduce over all already is the pair."""
    if len(present) < 2:
        return {}
    if len(present) == 2:
        return {(present[0], present[1]): evaluate_pair({name: test.joined[name] for name in present})}

    def go(rounds: Iterable[Round], what: str) -> dict[Pair, PairMeasurement]:
        found: dict[Pair, PairMeasurement] = {}
        for number, met in enumerate(rounds := tuple(rounds), 1):
            report_progress(f"{what}, round {number} of {len(rounds)}")
            answers = workers.run_all_reduces(met, PAIR_SIZES)
            found.update({pair: evaluate_pair({name: answers[name] for name in pair}) for pair in met})
        return found

    figures = go(pairwise.schedule_first_pass(present), "pairs")
    for _ in range(pairwise.CONFIRMATIONS):
        figures = pairwise.merge_passes(
            figures, go(pairwise.schedule_second_pass(present, figures), "suspected hosts with good ones")
        )
    return figures


class _DeepWorkers:
    """Worker processes on all hosts, and the steps that they run."""

    def __init__(self, case: CheckContext, plan: LaunchPlan, asker: Asker, patience: DeepTimeouts) -> None:
        self._asker, self._plan, self._patience = asker, plan, patience
        self._names = [name for name in case.hosts if case.facts[name]]
        self._workdirs = {name: plan.node_of(name).cwd for name in self._names}
        self.counts = _count_processes(case, plan, self._names)
        self._largest = _compute_largest_tensor(case, self._names, self.counts)
        self._numbers = itertools.count(1)
        self._handles: dict[str, int] = {}
        self._store = {"addr": plan.master_addr, "port": plan.master_port}
        self._token = ""
        self.backend = ""

    def start(self) -> DeepTest:
        """Start the processes; return torch's properties in each of them."""
        self._token = f"fanout-deep-{secrets.token_hex(8)}"
        within = self._patience.begin + _MARGIN
        asks = [
            ProbeRequest(
                host=name, what="deep-open", args=self._build_arguments(name), timeout=LIFE, holds=True, within=within
            )
            for name in self._names
        ]
        answers = self._asker.ask(asks)
        self._handles = {name: answer.handle for name, answer in zip(self._names, answers, strict=True)}
        began = {name: _parse_answer(answer) for name, answer in zip(self._names, answers, strict=True)}
        able = [one for processes in began.values() for one in processes if not one.get("error")]
        self.backend = "nccl" if able and all(one["gpu"] and one["nccl"] for one in able) else "gloo"
        self._patience = self._patience.adapt_to_backend(self.backend, len(self._names))
        return DeepTest(began=began, place=f"{self._plan.master_addr}:{self._plan.master_port}")

    def _build_arguments(self, name: str) -> dict[str, Any]:
        node = self._plan.node_of(name)
        setup = ["bash", "-c", SETUP, "fanout"] if any(key == "FANOUT_SETUP" for key, _ in node.env) else []
        return {
            "name": f"{self._token}-{node.rank}", "count": self.counts[name], "workdir": self._workdirs[name],
            "env": protocol.encode_environment(node), "setup": setup, "source": bundle.read_torch_worker(), "begin": self._patience.begin,
        }  # fmt: skip

    def close(self) -> None:
        """Cancel the questions that hold the processes, which ends them."""
        for name, handle in self._handles.items():
            self._asker.cancel(name, handle)
        self._handles = {}

    def join_group(self, first: str, names: Sequence[str]) -> dict[str, Processes]:
        """Open the store on node 0 and connect every process to it."""
        wait = self._patience.all_hosts
        answers = self.run_step(
            {first: [{"do": "serve"}]}, {**self._store, "do": "idle", "timeout": wait}, wait + _MARGIN
        )
        if _has_error(answers[first]):
            return answers
        every = {**self._store, "do": "join", "timeout": wait}
        return self.run_step(dict.fromkeys(names, ()), every, wait + _MARGIN)

    def run_all_reduces(self, groups: Iterable[Sequence[str]], sizes: Sequence[int]) -> dict[str, Processes]:
        """Run the all-reduces of each group, all groups at the same time."""
        own: dict[str, list[dict[str, Any]]] = {}
        groups = tuple(groups)
        wait = self._patience.two if all(len(group) == 2 for group in groups) else self._patience.all_hosts
        for number, group in enumerate(groups):
            ranks = itertools.count()
            world = sum(self.counts[name] for name in group)
            for name in group:
                mine = [next(ranks) for _ in range(self.counts[name])]
                own[name] = [{"rank": rank, "world": world, "group": number} for rank in mine]
        every = {
            **self._store, "do": "sum", "backend": self.backend, "timeout": wait, "limit": self._patience.one_sum,
            "sizes": [size for size in sizes if size <= self._largest],
        }  # fmt: skip
        return self.run_step(own, every, wait + _MARGIN)

    def run_step(
        self, own: Mapping[str, Sequence[Mapping[str, Any]]], every: Mapping[str, Any], seconds: float
    ) -> dict[str, Processes]:
        """Run one step on these hosts, each process with its own arguments; a dead process answers how it died."""
        number = next(self._numbers)
        asks = []
        for name, mine in own.items():
            each = [*mine, *[{}] * (self.counts[name] - len(mine))]
            step = {"id": str(number), "all": {**every, "id": str(number)}, "each": each, "seconds": seconds}
            args = {"name": f"{self._token}-{self._plan.node_of(name).rank}", "step": step}
            asks.append(ProbeRequest(host=name, what="deep-step", args=args, timeout=_STAGES * seconds))
        return {ask.host: _parse_answer(answer) for ask, answer in zip(asks, self._asker.ask(asks), strict=True)}


def _parse_answer(answer: ProbeAnswer) -> Processes:
    """Return the answers of a host's processes; if the host did not answer, an error in the same form."""
    if answer.error or not isinstance(answer.value, Mapping) or not answer.value.get("workers"):
        return ({"error": answer.error or "the answer is malformed", "stage": "", "died": True},)
    return tuple(answer.value["workers"])


def _count_processes(case: CheckContext, plan: LaunchPlan, names: Sequence[str]) -> dict[str, int]:
    """Return the number of processes per host: one per GPU that the run would use if every host has GPUs, else one."""
    gpus = {name: count_gpus(case.facts[name]) for name in names}
    if not names or not all(gpus.values()):
        return dict.fromkeys(names, 1)
    return {name: min(plan.node_of(name).nproc or gpus[name], gpus[name]) for name in names}


def _compute_largest_tensor(case: CheckContext, names: Sequence[str], counts: Mapping[str, int]) -> int:
    """Return the bytes of the largest tensor for which every host has memory."""
    free = [case.facts[name].get("memory", {}).get("available", 4 << 30) // counts[name] for name in names]
    return max(SIZES[0], min(free, default=0) // SHARE_OF_MEMORY)
