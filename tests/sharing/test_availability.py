"""Availability of a host: who holds it, in words, and when it counts as free."""

from __future__ import annotations

from typing import Any

import pytest

from fanout.model.answers import check_answer
from fanout.model.hosts import Host, Origin
from fanout.sharing.availability import HostAvailability, fold_gpus, parse_availability

ORIGIN = Origin(file="hosts.txt", line=1)


def build_answer(gpus: int = 8, **changes: Any) -> dict[str, Any]:
    cards = [{"index": str(number), "uuid": f"GPU-{number}", "used": 4.0} for number in range(gpus)]
    idle = {"gpus": cards, "processes": [], "problem": "", "runs": [], "other_runs": [], "port": None}
    answer = idle | changes
    assert check_answer("availability", answer)[1] == ""
    return answer


def build_other(*claims: str, **changes: Any) -> dict[str, Any]:
    known = {"uid": 1002, "user": "bob (uid 1002)", "pid": 9, "run": "20261130-1", "since": 1.0, "age": 10800.0}
    return {**known, "claims": list(claims), **changes}


def build_process(gpu: str, **changes: Any) -> dict[str, Any]:
    known = {"gpu": gpu, "pid": 77, "memory": "70000", "command": "python -u /home/bob/train.py cfg.yaml", "uid": 1002}
    return {**known, "user": "bob", "age": 10900.0, "run": "", **changes}


def parse_host(answer: dict[str, Any], **fields: Any) -> HostAvailability:
    return parse_availability(Host(name="gpu03", origin=ORIGIN, **fields), answer, 29500)


def list_obstacles(answer: dict[str, Any], *, first: bool = False, **fields: Any) -> list[str]:
    return list(parse_host(answer, **fields).list_obstacles(first=first))


def test_idle_host_is_free() -> None:
    assert list_obstacles(build_answer(), first=True) == []
    assert list_obstacles(build_answer(gpus=0), first=True) == []


def test_run_of_another_user_is_named_by_its_script() -> None:
    claims = ["port-29500", *(f"gpu-{number}" for number in range(8))]
    processes = [build_process(f"GPU-{number}") for number in range(8)]
    answer = build_answer(other_runs=[build_other(*claims)], processes=processes)
    assert list_obstacles(answer) == ["GPU 0-7: bob, train.py, 3 h"]
    assert not parse_host(answer).has_foreign_process


def test_run_without_a_process_on_the_gpus_is_named_by_its_id() -> None:
    answer = build_answer(other_runs=[build_other("gpu-0", "gpu-1")])
    assert list_obstacles(answer) == ["GPU 0-1: bob, 20261130-1, 3 h"]


def test_process_without_a_claim_holds_its_gpus() -> None:
    answer = build_answer(processes=[build_process("GPU-2"), build_process("GPU-3")])
    assert list_obstacles(answer) == ["GPU 2-3: bob, train.py, 3 h 1 min"]
    assert parse_host(answer).has_foreign_process


def test_gpus_that_the_run_does_not_use_do_not_matter() -> None:
    answer = build_answer(other_runs=[build_other("gpu-6", "port-29600")], processes=[build_process("GPU-7")])
    assert list_obstacles(answer, slots=4) == []
    assert list_obstacles(answer, gpus=("0", "6")) == ["GPU 6: bob, 20261130-1, 3 h"]


def test_process_whose_gpu_is_unknown_holds_the_host() -> None:
    assert list_obstacles(build_answer(processes=[build_process("")])) == ["GPU ?: bob, train.py, 3 h 1 min"]


def test_memory_without_a_visible_process_is_in_use() -> None:
    answer = build_answer(gpus=2)
    answer["gpus"][1]["used"] = 71000.0
    assert list_obstacles(answer) == ["GPU 1: 69 GB in use by a process that is not visible"]


def test_host_without_gpus_is_free_if_no_run_is_on_it() -> None:
    assert list_obstacles(build_answer(gpus=0, other_runs=[build_other("port-29600")])) == [
        "in use: bob, 20261130-1, 3 h"
    ]
    own = {"run": "20261130-2", "node": 0, "claims": ["port-29500"], "age": 90.0, "title": "tasks/train.py cfg.yaml"}
    assert list_obstacles(build_answer(gpus=0, runs=[own])) == ["port 29500: you, train.py, 1 min"]


def test_run_on_the_default_port_is_no_obstacle_beside_its_gpus() -> None:
    """A new run takes another port, unless the user gave this one. A program on the port stays an obstacle."""
    run = {"run": "20261130-2", "node": 0, "claims": ["port-29500", "gpu-7"], "age": 90.0, "title": "train.py"}
    listener = {"user": "me", "pid": 7, "command": "python train.py", "age": 90.0}
    host = Host(name="gpu03", origin=ORIGIN, slots=4)
    held, other = build_answer(runs=[run], port=listener), build_answer(port=listener)
    assert not parse_availability(host, held, 29500, fixed=False).list_obstacles(first=True)
    assert len(parse_availability(host, held, 29500, fixed=True).list_obstacles(first=True)) == 2
    assert len(parse_availability(host, other, 29500, fixed=False).list_obstacles(first=True)) == 1


def test_port_of_a_program_matters_on_the_first_host_only() -> None:
    holder = {"uid": 0, "user": "root", "listening": True, "pid": 5, "command": "/usr/bin/sglang", "age": 61.0}
    answer = build_answer(port=holder)
    assert list_obstacles(answer) == []
    assert list_obstacles(answer, first=True) == ["port 29500: root, sglang, 1 min"]


def test_program_that_takes_a_claim_without_a_run_is_named() -> None:
    answer = build_answer(other_runs=[build_other("gpu-0", run="")])
    assert list_obstacles(answer) == ["GPU 0: bob, no run of fanout, 3 h"]


def test_gpu_tool_that_fails_does_not_heal() -> None:
    host = parse_host(build_answer(gpus=0, problem="Driver/library version mismatch"))
    assert host.list_obstacles() == ("its GPUs do not answer: Driver/library version mismatch",)
    assert not host.can_heal


@pytest.mark.parametrize(
    ("numbers", "text"),
    [("0,1,2,3", "0-3"), ("0,2,3,7", "0,2-3,7"), ("5", "5"), ("", ""), ("1,MIG-a", "1,MIG-a"), ("10,9,8", "8-10")],
)
def test_numbers_are_folded(numbers: str, text: str) -> None:
    assert fold_gpus([number for number in numbers.split(",") if number]) == text
