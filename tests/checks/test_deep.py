"""Torch test of the check with scripted answers: the steps that each host runs, and the findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from fanout.checks.deep import torch_table
from fanout.checks.deep.pairwise import PairMeasurement
from fanout.checks.deep.torch_result import DeepTest, compute_bus_bandwidth, evaluate_pair
from fanout.checks.engine.catalogue import CATALOGUE
from fanout.checks.engine.definition import CheckContext, CheckFinding
from fanout.checks.engine.evaluation import judge_all_checks
from fanout.model.host_facts import HostFacts
from fanout.model.planner import Planner
from fanout.model.rpc import ProbeAnswer, ProbeRequest
from fanout.model.settings import Settings
from fanout.preflight import deep_test
from tests.checks.kit import ScriptedAsker, build_healthy_case

STEADY = [[4, 0.001, 0], [1 << 16, 0.0001, 0], [1 << 24, 0.01, 0]]
USUAL: dict[str, dict[str, Any]] = {
    "sum": {"sizes": STEADY},
    "burn": {"bits": 7, "differing": 0, "tflops": 400.0},
}


class Torch:
    """Hosts with torch: each answer is healthy unless ``odd`` has another one for (host, operation).

    ``all`` is the all-reduce over all hosts.
    """

    def __init__(self, *, gpu: str = "", odd: Mapping[tuple[str, str], Mapping[str, Any]] | None = None) -> None:
        self._gpu, self._odd = gpu, odd or {}
        self.asker = ScriptedAsker({"deep-open": self._answer_open, "deep-step": self._answer_step})

    def _answer_open(self, host: str, args: Mapping[str, Any]) -> ProbeAnswer:
        one = self._odd.get((host, "begin")) or {"torch": "2.9.1", "distributed": True, "nccl": True, "gpu": self._gpu}
        return ProbeAnswer(value={"workers": [one] * args["count"]}, handle=int(host[3:]))

    def _answer_step(self, host: str, args: Mapping[str, Any]) -> ProbeAnswer:
        step = args["step"]
        workers = []
        for own in step["each"]:
            request = {**step["all"], **own}
            usual = USUAL.get(request["do"], {})
            needs_all = request["do"] == "sum" and request["world"] > 2
            workers.append(
                self._odd.get((host, "all" if needs_all else ""), self._odd.get((host, request["do"]), usual))
            )
        return ProbeAnswer(value={"workers": workers})

    def list_steps(self) -> list[tuple[str, str, str]]:
        """Return (operation, host, …) in the order of the questions."""
        return [(ask.what, *_describe_question(ask)) for ask in self.asker.asked]


def _describe_question(ask: ProbeRequest) -> tuple[str, str]:
    step = ask.args.get("step")
    return ask.host, step["each"][0].get("do", step["all"]["do"]) if step else ""


def run_deep_test(torch: Torch, count: int = 3, *, gpu: bool = False, **more: Any) -> CheckContext:
    """Return a healthy case of ``count`` hosts with the results of the torch test."""
    case = build_healthy_case(count, gpu=gpu, deep=True, **more)
    planner = Planner(
        hosts=case.request.hosts,
        task=("task.py",),
        settings=Settings(),
        run_id="check",
        directory="/home/ann/proj",
        has_script=True,
    )
    made = planner.make_plan(HostFacts(master_addr="10.0.0.1", gpus=dict.fromkeys(case.hosts, 8)))
    return replace(
        case,
        deep=deep_test.run(
            case, made, torch.asker, report_progress=lambda text: None, patience=deep_test.DeepTimeouts()
        ),
    )


def list_findings(case: CheckContext, *levels: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(row.check, row.hosts) for row in judge_deep_checks(case) if row.level in levels]


def judge_deep_checks(case: CheckContext) -> list[CheckFinding]:
    return [row for row in judge_all_checks(CATALOGUE, case) if row.group == "deep"]


def test_the_steps_of_three_healthy_hosts() -> None:
    """Torch on each host, the store, every host joins it, all together, three rounds of pairs; then all is closed."""
    torch = Torch()
    case = run_deep_test(torch)
    names = ["gpu01", "gpu02", "gpu03"]
    assert torch.list_steps()[:10] == [
        *(("deep-open", name, "") for name in names),
        ("deep-step", "gpu01", "serve"),
        *(("deep-step", name, "join") for name in names),
        *(("deep-step", name, "sum") for name in names),
    ]
    assert len(torch.list_steps()) == 10 + 3 * 2
    assert sorted(torch.asker.cancelled) == [("gpu01", 1), ("gpu02", 2), ("gpu03", 3)]
    assert list_findings(case, "fail", "warn") == []
    assert ("deep-gpu", ("gpu01", "gpu02", "gpu03")) in list_findings(case, "skip")


def test_a_pair_has_its_own_ranks_and_every_host_the_exports_of_the_run() -> None:
    torch = Torch()
    run_deep_test(torch)
    opening, last = torch.asker.asked[0].args, torch.asker.asked[-1].args["step"]
    assert (opening["env"]["MASTER_ADDR"], opening["env"]["NNODES"], opening["env"]["NODE_RANK"]) == (
        "10.0.0.1",
        "3",
        "0",
    )
    assert opening["count"] == 1
    assert (last["each"][0]["rank"], last["each"][0]["world"], last["all"]["backend"]) == (1, 2, "gloo")


def test_hosts_with_gpus_have_a_process_for_each_gpu_and_use_nccl() -> None:
    torch = Torch(gpu="NVIDIA H100")
    case = run_deep_test(torch, 2, gpu=True)
    assert case.deep is not None
    assert (case.deep.backend, len(case.deep.order)) == ("nccl", 16)
    assert list_findings(case, "fail", "warn", "skip") == []


def test_without_torch_on_one_host_the_others_are_tested() -> None:
    """The finding names that host and a command; the host runs no step."""
    odd = {("gpu02", "begin"): {"error": "ModuleNotFoundError: No module named 'torch'"}}
    torch = Torch(odd=odd)
    case = run_deep_test(torch)
    assert list_findings(case, "fail") == [("deep-torch", ("gpu02",))]
    (row,) = [row for row in judge_deep_checks(case) if row.level == "fail"]
    assert "ssh gpu02 /home/ann/venv/bin/pip install torch" in row.advice
    assert ("deep-step", "gpu02", "join") not in torch.list_steps()
    assert ("deep-rendezvous", ("gpu02",)) in list_findings(case, "skip")


def test_without_host_0_no_host_can_join() -> None:
    torch = Torch(odd={("gpu01", "begin"): {"error": "no torch"}})
    case = run_deep_test(torch)
    assert list_findings(case, "fail") == [("deep-torch", ("gpu01",))]
    assert [what for what, _, _ in torch.list_steps()] == ["deep-open"] * 3
    assert any("gpu01, which is host 0, has no working torch" in row.saw for row in judge_deep_checks(case))


@pytest.mark.parametrize(
    ("odd", "check", "hosts", "words"),
    [
        (
            {("gpu03", "join"): {"error": "DistNetworkError: timed out", "stage": "store"}},
            "deep-rendezvous", ("gpu03",), "cannot reach torch's store at 10.0.0.1:29500 on gpu01",
        ),
        (
            {("gpu01", "serve"): {"error": "EADDRINUSE", "stage": "store"}},
            "deep-rendezvous", ("gpu01",), "cannot open its store at 10.0.0.1:29500",
        ),
        (
            {
                ("gpu01", "all"): {"error": "not all ranks arrived", "stage": "arrive", "absent": [2]},
                ("gpu02", "all"): {"error": "not all ranks arrived", "stage": "arrive", "absent": [2]},
                ("gpu03", "sum"): {"error": "it did not finish this within 7.5 s", "stage": "start"},
            },
            "deep-rendezvous", ("gpu03",), "never joined the rendezvous",
        ),
        (
            {("gpu03", "join"): {"error": "it did not finish this within 7.5 s", "stage": "start"}},
            "deep-rendezvous", ("gpu03",), "its process hung at start",
        ),
        (
            {("gpu02", "sum"): {"error": "killed by signal 9", "stage": "group", "died": True}},
            "deep-rendezvous", ("gpu02",), "was lost at group: killed by signal 9",
        ),
        (
            {("gpu02", "sum"): {"sizes": [[4, 0.001, 0], [1 << 16, 0.1, 3]]}},
            "deep-sum", ("gpu02",), "3 of 16384 elements at 64K",
        ),
    ],
    ids=["no-way-to-the-store", "port", "absent", "hangs", "died", "wrong"],
)  # fmt: skip
def test_a_fault_of_a_host_names_it(
    odd: Mapping[tuple[str, str], Mapping[str, Any]], check: str, hosts: tuple[str, ...], words: str
) -> None:
    """Only that check names exactly that host, with these texts."""
    case = run_deep_test(Torch(odd=odd))
    assert list_findings(case, "fail") == [(check, hosts)]
    assert any(words in row.saw and row.advice for row in judge_deep_checks(case) if row.level == "fail")


def build_case_with_pairs(**pairs: PairMeasurement) -> CheckContext:
    """Return three hosts whose pairs had these results."""
    names = {"a": ("gpu01", "gpu02"), "b": ("gpu01", "gpu03"), "c": ("gpu02", "gpu03")}
    case = run_deep_test(Torch())
    assert case.deep is not None
    return replace(case, deep=replace(case.deep, pairs={names[key]: found for key, found in pairs.items()}))


GOOD, SLOW = PairMeasurement(bandwidth=1e9, size=1 << 24), PairMeasurement(bandwidth=1e7, size=1 << 20)
STALLED = PairMeasurement(bandwidth=1e6, size=1 << 16, error="Timed out", stage="sum of 1048576 bytes")
APART = PairMeasurement(error="it did not finish this within 5 s", stage="group")


@pytest.mark.parametrize(
    ("pairs", "level", "check", "hosts", "words"),
    [
        ({"a": GOOD, "b": SLOW, "c": SLOW}, "warn", "deep-bandwidth", ("gpu03",), "10 MB/s with gpu[01-02]; the median host has 1 GB/s (1%)"),
        ({"a": GOOD, "b": GOOD, "c": SLOW}, "warn", "deep-bandwidth", ("gpu02", "gpu03"), "10 MB/s between gpu02 and gpu03"),
        ({"a": GOOD, "b": STALLED, "c": STALLED}, "fail", "deep-bandwidth", ("gpu03",), "it stops at a sum of 1048576 bytes: Timed out"),
        ({"a": GOOD, "b": GOOD, "c": APART}, "fail", "deep-rendezvous", ("gpu02", "gpu03"), "form no group with each other, but each forms groups with others"),
        ({"a": GOOD, "b": APART, "c": APART}, "fail", "deep-rendezvous", ("gpu03",), "it forms no group with gpu[01-02], which form groups with others"),
    ],
    ids=["slow-host", "slow-link", "stalled-host", "link-apart", "host-apart"],
)  # fmt: skip
def test_pairs_name_a_host_or_a_link(
    pairs: dict[str, PairMeasurement], level: str, check: str, hosts: tuple[str, ...], words: str
) -> None:
    case = build_case_with_pairs(**pairs)
    assert list_findings(case, "fail", "warn") == [(check, hosts)]
    (row,) = [row for row in judge_deep_checks(case) if row.level == level]
    assert words in row.saw
    assert row.advice


def test_gpus_of_one_model_are_compared_bit_for_bit_and_in_speed() -> None:
    """The metrics are invented: the comparison needs no GPU."""
    odd = {
        ("gpu02", "burn"): {"bits": 8, "differing": 0, "tflops": 400.0},
        ("gpu03", "burn"): {"bits": 7, "differing": 0, "tflops": 200.0},
        ("gpu04", "burn"): {"bits": 7, "differing": 2, "tflops": 400.0},
    }
    case = run_deep_test(Torch(gpu="NVIDIA H100", odd=odd), 5, gpu=True)
    assert {(row.level, row.hosts) for row in judge_deep_checks(case) if row.level in ("fail", "warn")} == {
        ("fail", ("gpu02",)), ("warn", ("gpu03",)), ("fail", ("gpu04",)),
    }  # fmt: skip


def test_a_late_large_all_reduce_does_not_undo_the_smaller_ones() -> None:
    """A busy host or a slow network does not mean that large packets are lost: the smaller ones were received."""
    late = {"error": "it did not finish this within 5.5 s", "stage": "sum of 268435456 bytes", "late": True}
    steady = {"sizes": STEADY, **late}
    assert evaluate_pair({"a": (steady,), "b": (steady,)}).error == ""
    small = {"sizes": [size for size in STEADY if size[0] < 1 << 20], **late}
    assert evaluate_pair({"a": (small,), "b": (small,)}).error == late["error"]


def test_bus_bandwidth_is_that_of_nccl_tests() -> None:
    """1 GB in a second over 4 ranks: 2 × 3/4 of it crosses each link; a pair's metric is its best size."""
    assert compute_bus_bandwidth(10**9, 1.0, 4) == pytest.approx(1.5e9)
    found = evaluate_pair({"a": ({"sizes": STEADY},), "b": ({"sizes": STEADY},)})
    assert (found.is_working, found.size) == (True, 1 << 24)
    assert found.bandwidth == pytest.approx((1 << 24) / 0.01)


def test_the_table_has_a_row_for_each_size_and_host() -> None:
    assert torch_table.render_bandwidth_tables(build_case_with_pairs(a=GOOD, b=SLOW, c=SLOW)) == [
        "",
        "BANDWIDTH of all-reduce (gloo; as in nccl-tests, bus is the bandwidth of each link)",
        "  3 processes        bus  algorithm",
        "  64K           874 MB/s   655 MB/s",
        "  16M          2.24 GB/s  1.68 GB/s",
        "",
        "  host   best pair  of the median        slowest pair",
        "  gpu01     1 GB/s           100%  10 MB/s with gpu03",
        "  gpu02     1 GB/s           100%  10 MB/s with gpu03",
        "  gpu03    10 MB/s             1%  10 MB/s with gpu01",
    ]


def test_the_rows_are_there_only_on_request() -> None:
    """A check without --deep does not mention them; a torch test that cannot run is reported and is not ok."""
    assert judge_deep_checks(build_healthy_case(2)) == []
    case = replace(
        build_healthy_case(2, deep=True), deep=DeepTest(unmade="not made: mesh failed on gpu02; fix that first")
    )
    assert {row.level for row in judge_deep_checks(case)} == {"skip"}
    assert {row.check for row in judge_deep_checks(case)} == {
        check.name for check in CATALOGUE if check.group == "deep"
    }
